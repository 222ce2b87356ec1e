"""A store that another package brings: its URLs and the suite, from a tiny package that is installed into a folder."""

import importlib
import json
import sys
import textwrap

import pytest

from core_encoder.errors import ConfigError
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_urls import collection_identity, connected, is_store_url
from jclip_connectors.testing.store_contract import PLAIN, image
from tests.cli.test_store_urls import jclip

STORE = """
    from contextlib import ExitStack

    from jclip_connectors.memory import InMemoryStore
    from jclip_connectors.store_kit.places import FolderUrl, Place, ServerUrl, StoreScheme

    _KEPT = {}


    class ShelfStore(InMemoryStore):
        pass


    def _open(name, config):
        if name not in _KEPT:
            _KEPT[name] = ShelfStore(config)
        return _KEPT[name]


    def _place(name, closed):
        return Place(
            name=name,
            fingerprint=lambda: _KEPT[name].fingerprint if name in _KEPT else None,
            open=lambda config, dimensions, search={}: _open(name, config),
        )


    def _in_folder(url: FolderUrl, stack: ExitStack) -> Place:
        return _place(repr(url.folder_and_collection()), stack)


    def _on_server(url: ServerUrl, stack: ExitStack) -> Place:
        return _place(f"{url.host}/{url.collection()}?{url.numbers({'shelves': 3})['shelves']}", stack)


    SCHEME = StoreScheme(folder=_in_folder, server=_on_server)
    NO_SCHEME = "a text"
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with entry points, as pip would; gives its folder."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(entries, package="jclip_shelf"):
        (tmp_path / f"{package}.py").write_text(textwrap.dedent(STORE))
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[jclip_connectors.stores]", *lines, ""]))
        importlib.invalidate_caches()

    yield installed
    sys.modules.pop("jclip_shelf", None)


@pytest.mark.parametrize("url", ["shelf:books#photos", "shelf://host/photos", "shelf://host/photos?shelves=5"])
def test_a_store_of_another_package_has_urls(install, url):
    install({"shelf": "jclip_shelf:SCHEME"})
    assert is_store_url(url)
    with connected(url) as place:
        assert place.fingerprint() is None
        store = place.open(PLAIN, 8)
        store.upsert([image("a")])
        assert type(store).__name__ == "ShelfStore"
    with connected(url) as place:
        assert place.fingerprint() == store.fingerprint
        assert place.open(PLAIN, 8).count() == 1


def test_the_command_works_on_a_store_of_another_package(install, tmp_path):
    install({"shelf": "jclip_shelf:SCHEME"})
    (tmp_path / "note.txt").write_text("a note about boats")
    assert "1 indexed" in jclip("index", tmp_path / "note.txt", "--store", "shelf:books", "--model", "nano")[1]
    assert len(json.loads(jclip("search", "boats", "--store", "shelf:books#jclip", "--json")[0])) == 1
    jclip("copy", "shelf:books", f"edge:{tmp_path / 'copied.jclip'}")
    assert len(json.loads(jclip("search", "boats", "--collection", tmp_path / "copied.jclip", "--json")[0])) == 1


def test_a_scheme_of_ours_is_never_another_packages(install):
    install({"qdrant": "jclip_shelf:SCHEME"})
    with pytest.raises(EmbedInputError, match="names no collection"), connected("qdrant://host"):
        pytest.fail("it was taken")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"shelf": "jclip_shelf:NO_SCHEME"}, "'jclip_shelf:NO_SCHEME', is no `StoreScheme`"),
        ({"shelf": "jclip_shelf:NOTHING"}, "'jclip_shelf:NOTHING', cannot be loaded"),
        ({"shelf": "jclip_nothing:SCHEME"}, "'jclip_nothing:SCHEME', cannot be loaded: No module named"),
    ],
)
def test_an_entry_point_that_opens_nothing_is_named(install, entries, says):
    install(entries)
    with pytest.raises(ConfigError, match=says), connected("shelf:books"):
        pytest.fail("it was taken")


def test_two_packages_with_one_scheme_are_both_named(install):
    install({"shelf": "jclip_shelf:SCHEME"})
    install({"shelf": "jclip_cupboard:SCHEME"}, package="jclip_cupboard")
    with pytest.raises(ConfigError, match="'jclip_cupboard:SCHEME' and 'jclip_shelf:SCHEME': remove all but one"):
        connected("shelf:books").__enter__()


def test_a_url_of_no_store_is_told_the_schemes_of_other_packages_too(install):
    install({"shelf": "jclip_shelf:SCHEME"})
    with pytest.raises(EmbedInputError, match=r"edge:PATH, .* or shelf:\.\.\."), connected("shelves:books"):
        pytest.fail("it was taken")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("qdrant://h:1/a", "qdrant://h:1/a/?timeout=3", True),
        ("qdrant://h:1/a", "qdrant://h:1/b", False),
        ("edge:photos", "edge:./photos", True),
        ("edge:photos#a", "edge:photos#b", False),
        ("shelf:books", "shelf:./books#jclip", True),
        ("shelf:books#a", "shelf:books#b", False),
    ],
)
def test_collections_are_told_apart_by_their_urls(one, other, same):
    assert (collection_identity(one) == collection_identity(other)) is same
