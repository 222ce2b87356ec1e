"""The store of the page "Add a store", put together from the page: it passes the suite of every store."""

import contextlib
import importlib
import json
import sys
import tomllib

import pytest

import jclip_connectors
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, StoreRequestError, StoreUnavailableError
from jclip_connectors.testing import StoreContract
from jclip_connectors.testing.store_contract import PLAIN, TILED, image
from tests.cli.test_store_urls import jclip
from tests.docs.blocks import DOCS, blocks_of

FILES = {block.title: block for block in blocks_of(DOCS / "add-a-store.md") if block.title is not None}


@pytest.fixture(scope="module")
def sqlite_store(tmp_path_factory):
    """The class, imported from files that hold what the page says."""
    folder = tmp_path_factory.mktemp("page")
    for name, block in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jclip_connectors, "__path__", [*jclip_connectors.__path__, str(folder / "jclip_connectors")])
        yield importlib.import_module("jclip_connectors.sqlite").SqliteStore
    for name in [name for name in sys.modules if name.startswith("jclip_connectors.sqlite")]:
        del sys.modules[name]


def test_the_page_has_the_whole_package():
    assert sorted(FILES) == [
        *(f"jclip_connectors/sqlite/{name}.py" for name in ("__init__", "errors", "filters", "store", "url")),
        "pyproject.toml",
        "test_sqlite_store.py",
    ]


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def open_store(self, sqlite_store, tmp_path):
        with contextlib.ExitStack() as stack:

            def open_store(config):
                return stack.enter_context(contextlib.closing(sqlite_store.open(tmp_path / "records.db", config)))

            yield open_store


def test_the_command_finds_the_store_by_its_entry_point(sqlite_store, tmp_path, monkeypatch):
    group = tomllib.loads(FILES["pyproject.toml"].text)["project"]["entry-points"]["jclip_connectors.stores"]
    scheme = group["sqlite"].replace(
        "jclip_sqlite", "jclip_connectors.sqlite"
    )  # where the fixture puts the page's files
    info = tmp_path / "jclip_sqlite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jclip_sqlite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[jclip_connectors.stores]\nsqlite = {scheme}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    note = tmp_path / "note.txt"
    note.write_text("a note about boats")
    url = f"sqlite:{tmp_path / 'records.db'}"
    assert "1 indexed" in jclip("index", note, "--store", url, "--model", "nano", "--dimensions", 64)[1]
    (hit,) = json.loads(jclip("search", "boats", "--store", url, "--json")[0])
    assert hit["metadata"]["name"] == "note.txt"
    jclip("copy", url, f"edge:{tmp_path / 'copy.jclip'}")
    with contextlib.closing(
        sqlite_store.open(tmp_path / "records.db", EmbeddingConfig(model="nano", dimensions=64, rendering="as_seen"))
    ) as store:
        assert store.count() == 1


@pytest.mark.usefixtures("sqlite_store")
def test_the_test_of_the_page_is_a_suite_with_a_fixture():
    names: dict[str, object] = {}
    exec(compile(FILES["test_sqlite_store.py"].text, "page", "exec"), names)  # noqa: S102 (our own page)
    suite = names["TestSqliteStore"]
    assert isinstance(suite, type)
    assert issubclass(suite, StoreContract)
    assert vars(suite).keys() >= {"open_store"}


def test_records_are_there_after_the_file_was_closed_and_another_configuration_is_refused(sqlite_store, tmp_path):
    with contextlib.closing(sqlite_store.open(tmp_path / "records.db", PLAIN)) as store:
        store.upsert([image("a")])
    with pytest.raises(CollectionMismatchError, match="`tiling`"):
        sqlite_store.open(tmp_path / "records.db", TILED)
    with contextlib.closing(sqlite_store.open(tmp_path / "records.db", PLAIN)) as store:
        assert store.count() == 1
    with pytest.raises(StoreRequestError, match="closed"):
        store.count()


def test_a_locked_file_is_unavailable(sqlite_store, tmp_path):
    store, other = (sqlite_store.open(tmp_path / "records.db", PLAIN) for _ in range(2))
    with contextlib.closing(store), contextlib.closing(other):
        other._connection.execute("BEGIN EXCLUSIVE")
        store._connection.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.upsert([image("a")])
