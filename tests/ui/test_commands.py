"""What `jclip ui` and `jclip serve --collection` refuse before anything is served."""

import pytest

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.testing import HashEmbedder
from tests.cli.test_store_urls import jclip


@pytest.fixture
def collection(tmp_path):
    embedder = HashEmbedder()
    with QdrantEdgeStore.open(tmp_path / "c.jclip", embedder.config) as store:
        MultimodalCollection(embedder, store).add_texts(["a"])
    return tmp_path / "c.jclip"


@pytest.mark.parametrize("options", [("--root", "."), ("--ui-host", "a.example")])
def test_options_of_the_page_need_a_collection(options):
    told = jclip("serve", "--model", "nano", *options, code=2)[1]
    assert "no effect without --collection or --store" in " ".join(told.split())


def test_a_collection_has_its_own_length_of_vectors(collection):
    told = jclip("serve", "--collection", collection, "--dimensions", 3, code=2)[1]
    assert "--dimensions has no effect with a collection" in " ".join(told.split())


@pytest.mark.parametrize("command", ["ui", "serve"])
def test_a_place_without_a_collection_and_a_folder_that_is_none_are_named(collection, tmp_path, command):
    more = ["--no-browser"] if command == "ui" else []
    told = jclip(command, "--collection", tmp_path / "none", *more, code=2)[1]
    assert "there is no collection" in " ".join(told.split())
    told = jclip(command, "--collection", collection, "--root", tmp_path / "nowhere", *more, code=2)[1]
    assert "is no folder" in " ".join(told.split())
    assert "name the collection with one of" in " ".join(jclip("ui", *more, code=2)[1].split())
