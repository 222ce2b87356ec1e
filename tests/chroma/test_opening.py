"""Opening collections in Chroma: whose they are, how long their vectors are, and what chromadb would add by itself."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jclip_connectors.chroma import ChromaStore, stored_fingerprint
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError
from jclip_connectors.port import Record
from tests.chroma.parts import CONFIG, TILED, UNSIZED, E, records
from tests.doubles.chroma_stores import chromadb, folder_client, settings


def test_a_collection_and_its_fingerprint_are_there_again_in_a_new_client(tmp_path):
    with folder_client(tmp_path) as client:
        assert stored_fingerprint(client, "photos") is None
        ChromaStore.open(client, "photos", TILED).upsert(records(0, 5, tiles=2))
    with folder_client(tmp_path) as client:
        assert stored_fingerprint(client, "photos") == TILED.fingerprint()
        store = ChromaStore.open(client, "photos", TILED)
        assert store.count() == 5
        assert len(store.search(records(0, 1, tiles=2)[0].tile_embeddings[1], tiles=True)) == 5
        assert sorted(each.name for each in client.list_collections()) == ["photos", "photos.tiles"]
        with pytest.raises(CollectionMismatchError, match="`revision` '1' "):
            ChromaStore.open(client, "photos", dataclasses.replace(TILED, revision="2"))


def test_chroma_is_never_given_a_model_of_its_own(client, name):
    ChromaStore.open(client, name, TILED)
    assert ChromaStore.open(client, name, TILED).count() == 0
    for each in (name, f"{name}.tiles"):
        kept = client.get_collection(each, embedding_function=None).configuration_json
        assert kept["embedding_function"] == {"type": "legacy"}
        assert kept["hnsw"]["space"] == "cosine"
    # Without the argument there is a model, which is downloaded when it is first used.
    made = client.get_or_create_collection(f"{name}-other").configuration_json
    assert made["embedding_function"]["name"] == "default"


def test_what_another_program_has_made_is_left_as_it_is(client, name):
    client.create_collection(name, metadata={"owner": "somebody"}, embedding_function=None)
    with pytest.raises(StoreRequestError, match="was not made by this package"):
        ChromaStore.open(client, name, CONFIG)
    with pytest.raises(StoreRequestError, match="was not made by this package"):
        stored_fingerprint(client, name)
    assert client.get_collection(name, embedding_function=None).metadata == {"owner": "somebody"}


def test_nothing_is_made_where_the_name_of_the_tiles_is_taken(client, name):
    client.create_collection(f"{name}.tiles", embedding_function=None)
    with pytest.raises(StoreRequestError, match="tiles' was not made by this package"):
        ChromaStore.open(client, name, TILED)
    assert name not in {each.name for each in client.list_collections()}


def test_tiles_are_not_opened_as_a_collection_of_records(client, name):
    ChromaStore.open(client, name, TILED).upsert(records(0, 2, tiles=2))
    for config in (TILED, CONFIG):
        with pytest.raises(StoreRequestError, match=f"{name}.tiles' has the tiles of the collection '{name}'"):
            ChromaStore.open(client, f"{name}.tiles", config)
    with pytest.raises(StoreRequestError, match="has the tiles of the collection"):
        stored_fingerprint(client, f"{name}.tiles")
    assert ChromaStore.open(client, name, TILED).verify().found == 2
    assert f"{name}.tiles.tiles" not in {each.name for each in client.list_collections()}


def test_records_are_not_taken_for_the_tiles_of_another_collection(client, name):
    store = ChromaStore.open(client, f"{name}.tiles", TILED)
    store.upsert(records(0, 2, tiles=2))
    with pytest.raises(StoreRequestError, match=f"{name}.tiles' has records, and no tiles of '{name}': use another"):
        ChromaStore.open(client, name, TILED)
    assert name not in {each.name for each in client.list_collections()}
    ChromaStore.open(client, name, CONFIG).upsert(records(5, 6))  # without tiles the name is free
    assert store.verify().found == 2


def test_of_many_that_make_a_collection_at_once_all_have_the_same_one(client, name):
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: ChromaStore.open(client, name, TILED), range(8)))
    stores[0].upsert(records(0, 3, tiles=1))
    assert [store.count() for store in stores] == [3] * 8


@pytest.mark.parametrize("bad", ["ab", "a" * 507, "photos/1", "bäume", "-photos", "photos.", "", "a b c", 7, None])
def test_a_name_that_chroma_cannot_have_is_refused(client, bad):
    with pytest.raises(EmbedInputError, match="`collection_name` is "):
        ChromaStore.open(client, bad, CONFIG)
    with pytest.raises(EmbedInputError, match="`collection_name` is "):
        stored_fingerprint(client, bad)


def test_the_longest_name_has_room_for_the_tiles(client):
    assert ChromaStore.open(client, "n" * 506, TILED).count() == 0


def test_the_option_dimensions_holds_for_those_who_open_the_collection_later(client, name):
    ChromaStore.open(client, name, UNSIZED, dimensions=E)
    store = ChromaStore.open(client, name, UNSIZED)
    with pytest.raises(EmbedInputError, match=r"has the shape \(3,\), not \(16,\)"):
        store.search(np.ones(3, np.float32))
    with pytest.raises(EmbedInputError, match=r"`dimensions` is 8, but the collection .* was made with 16"):
        ChromaStore.open(client, name, UNSIZED, dimensions=8)


def test_vectors_of_another_length_by_another_writer_are_refused_and_nothing_is_written(client, name):
    first, second = (ChromaStore.open(client, name, UNSIZED) for _ in range(2))
    first.upsert(records(0, 2))
    with pytest.raises(StoreRequestError, match="dimension of 16, got 3"):
        second.upsert([Record(record_id="a", modality="image", embedding=np.ones(3, np.float32))])
    with pytest.raises(StoreRequestError, match="dimension of 16, got 3"):
        second.search(np.ones(3, np.float32))
    assert first.count() == 2
    with pytest.raises(EmbedInputError, match=r"not \(16,\)"):
        ChromaStore.open(client, name, UNSIZED).search(np.ones(3, np.float32))


def test_a_collection_that_was_deleted_or_made_again_takes_no_more_records(client, name):
    store = ChromaStore.open(client, name, CONFIG)
    client.delete_collection(name)
    for call in (lambda: store.upsert(records(0, 1)), store.count, lambda: store.search(np.ones(E, np.float32))):
        with pytest.raises(StoreRequestError, match="no such collection or database"):
            call()
    other = ChromaStore.open(client, name, dataclasses.replace(CONFIG, revision="2"))
    with pytest.raises(StoreRequestError, match="open it again"):
        store.upsert(records(0, 1))
    assert other.count() == 0


def test_a_client_that_is_closed_is_told(tmp_path):
    with folder_client(tmp_path) as client:
        store = ChromaStore.open(client, "photos", CONFIG)
    with pytest.raises(StoreRequestError, match="the Chroma client is closed"):
        store.count()


def test_settings_of_one_client_are_not_for_another(tmp_path):
    """chromadb writes the place into the settings it is given: for each client there is a new one."""
    shared = settings()
    with chromadb().PersistentClient(str(tmp_path / "a"), settings=shared):
        assert shared.persist_directory == str(tmp_path / "a")
    with folder_client(tmp_path / "b") as first, folder_client(tmp_path / "b") as second:
        ChromaStore.open(first, "photos", CONFIG).upsert(records(0, 1))
        assert ChromaStore.open(second, "photos", CONFIG).count() == 1
