"""Collections in Pinecone are found or made, and those of another configuration refused; keys stay secret."""

import contextlib
import dataclasses
import json
import logging
import threading

import numpy as np
import pytest
from pinecone import Pinecone

from core_encoder.tiling import Tiling
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.pinecone.store import PineconeStore, stored_fingerprint
from jclip_connectors.testing.store_contract import BLUE, PLAIN, RED, E, ids_of, image, vector
from tests.doubles.pinecone_server import KEY
from tests.pinecone.harness import LEGACY, MANAGED, items_of, make_legacy


def test_a_new_index_has_one_dense_field_for_cosines(server, client):
    PineconeStore.open(client, "photos", PLAIN, cloud="gcp", region="europe-west4").close()
    field = {"type": "dense_vector", "dimension": E, "metric": "cosine"}
    assert server.indexes["photos"].schema == {"fields": {"embedding": field}}


def test_a_collection_is_found_again(client, index_name):
    with contextlib.closing(PineconeStore.open(client, index_name, PLAIN)) as first:
        first.upsert([image("a")])
    with contextlib.closing(PineconeStore.open(client, index_name, PLAIN)) as second:
        assert ids_of(second.scroll()) == ["a"]
        assert dict(second.fingerprint) == PLAIN.fingerprint()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, ["'contract'", "'other'"]),
        ({"tiling": Tiling(max_tiles=3)}, ["None", "max_tiles=3"]),
        ({"dimensions": 6}, ["8", "6"]),
        ({"normalize": False}, ["True", "False"]),
    ],
)
def test_a_collection_of_another_configuration_is_refused_and_left_as_it_is(server, client, index_name, change, named):
    PineconeStore.open(client, index_name, PLAIN).close()
    name = index_name
    before = json.dumps(server.items(name))
    with pytest.raises(CollectionMismatchError, match=r"namespace 'jclip' of index") as refused:
        PineconeStore.open(client, name, dataclasses.replace(PLAIN, **change))
    assert all(value in str(refused.value) for value in named)
    assert refused.value.stored == PLAIN.fingerprint()
    assert json.dumps(server.items(name)) == before


def test_namespaces_are_collections_of_their_own(client, index_name):
    other = dataclasses.replace(PLAIN, model="other")
    with (
        contextlib.closing(PineconeStore.open(client, index_name, PLAIN, namespace="a")) as first,
        contextlib.closing(PineconeStore.open(client, index_name, other, namespace="b")) as second,
    ):
        first.upsert([image("x")])
        second.upsert([image("y"), image("z")])
        first.delete(where={})
        assert (first.count(), second.count()) == (0, 2)


def test_an_index_for_other_vectors_is_refused_before_anything_is_written(server, client):
    PineconeStore.open(client, "photos", PLAIN, namespace="a").close()
    with pytest.raises(StoreRequestError, match="vectors of 8 values; the configuration makes 6"):
        PineconeStore.open(client, "photos", dataclasses.replace(PLAIN, dimensions=6), namespace="b")
    assert set(server.indexes["photos"].namespaces) == {"a"}


@pytest.mark.parametrize("metric", ["dotproduct", "euclidean"])
def test_an_index_of_another_metric_is_refused(client, metric):
    field = {"type": "dense_vector", "dimension": E, "metric": metric}
    client.indexes.create(name="photos", schema={"fields": {"v": field}}, deployment=MANAGED, timeout=-1)
    with pytest.raises(StoreRequestError, match=f"v \\(metric '{metric}'\\)"):
        PineconeStore.open(client, "photos", PLAIN)


def test_an_index_with_a_field_that_is_in_our_way_is_refused(client):
    fields = {"v": LEGACY["fields"]["_values"], "terms": {"type": "string", "full_text_search": {}}}
    client.indexes.create(name="photos", schema={"fields": fields}, deployment=MANAGED, timeout=-1)
    with pytest.raises(StoreRequestError, match="use another index"):
        PineconeStore.open(client, "photos", PLAIN)


def test_an_index_of_someone_else_can_hold_a_collection_whatever_its_vectors_are_called(client):
    fields = {"v": LEGACY["fields"]["_values"], "title": {"type": "string", "full_text_search": {}}}
    client.indexes.create(name="photos", schema={"fields": fields}, deployment=MANAGED, timeout=-1)
    with contextlib.closing(PineconeStore.open(client, "photos", PLAIN)) as store:
        store.upsert([image("a", BLUE)])
        assert store.get(["a"])[0].embedding.tolist() == BLUE


@pytest.mark.usefixtures("without_pauses")
def test_a_namespace_with_records_of_others_is_refused(client):
    PineconeStore.open(client, "photos", PLAIN).close()
    with client.index("photos") as index:
        index.documents.upsert(namespace="theirs", documents=[{"_id": "a", "embedding": RED}])
    with pytest.raises(StoreRequestError, match=r"no fingerprint.*another `namespace`"):
        PineconeStore.open(client, "photos", PLAIN, namespace="theirs")


def test_a_namespace_that_the_service_calls_missing_is_new(server, client):
    server.fail("documents_fetch", status=404)
    PineconeStore.open(client, "photos", PLAIN).close()
    assert items_of(server, "fingerprint")


def test_two_openers_at_once_get_one_collection(server, client):
    server.ready_after_s = 0.1
    barrier, stores, errors = threading.Barrier(2), [], []

    def open_one():
        barrier.wait()
        try:
            stores.append(PineconeStore.open(client, "photos", PLAIN))
        except Exception as error:  # noqa: BLE001 (any is a failure of the test)
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    stores[0].upsert([image("a")])
    assert ids_of(stores[1].scroll()) == ["a"]
    for store in stores:
        store.close()


def test_an_index_that_another_process_has_just_made_is_taken(server, client):
    make_legacy(client, "photos")
    server.fail("describe_index", status=404)
    PineconeStore.open(client, "photos", PLAIN).close()
    assert ("POST", "create_index") in server.requests


@pytest.mark.usefixtures("without_pauses")
def test_an_index_that_does_not_get_ready_is_told(server, client):
    server.ready_after_s = 60
    with pytest.raises(StoreUnavailableError, match=r"'photos' is not ready yet \(state: Initializing\)"):
        PineconeStore.open(client, "photos", PLAIN)


@pytest.mark.usefixtures("without_pauses")
def test_a_fingerprint_that_cannot_be_seen_yet_is_told_and_found_later(server, client):
    server.delay_s = 60
    with pytest.raises(StoreUnavailableError, match="its fingerprint is not visible yet"):
        PineconeStore.open(client, "photos", PLAIN)
    server.skipped_s = 60
    PineconeStore.open(client, "photos", PLAIN).close()


BAD_OPTIONS = [
    {"index_name": ""},
    {"index_name": "Photos"},
    {"index_name": "a" * 46},
    {"index_name": 7},
    {"namespace": ""},
    {"namespace": " "},
    {"namespace": "a\0b"},
    {"namespace": "ü"},
    {"namespace": None},
    {"namespace": "a" * 513},
    {"cloud": ""},
    {"region": None},
    {"dimensions": 0},
    {"dimensions": True},
    {"dimensions": 7},
    {"dimensions": "8"},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda options: repr(options)[:40])
def test_a_bad_option_is_refused_by_name_before_any_request(server, client, options):
    with pytest.raises(EmbedInputError, match=f"`{next(iter(options))}`"):
        PineconeStore.open(client, **{"index_name": "photos", "config": PLAIN, **options})
    assert server.requests == []


def test_vectors_that_are_too_long_for_any_index_are_refused(server, client):
    with pytest.raises(EmbedInputError, match="from 1 to 20000"):
        PineconeStore.open(client, "photos", dataclasses.replace(PLAIN, dimensions=20_001))
    assert server.requests == []


def test_a_new_index_needs_the_length_of_its_vectors_and_an_old_one_knows_it(client):
    unknown = dataclasses.replace(PLAIN, dimensions=None)
    with pytest.raises(EmbedInputError, match="give `dimensions`"):
        PineconeStore.open(client, "photos", unknown)
    PineconeStore.open(client, "photos", unknown, dimensions=E).close()
    with contextlib.closing(PineconeStore.open(client, "photos", unknown)) as store:
        store.upsert([image("a")])
        with pytest.raises(EmbedInputError, match="shape"):
            store.search(np.ones(E + 1, np.float32))


def test_the_fingerprint_can_be_read_without_a_configuration(client, index_name):
    assert stored_fingerprint(client, "nothing") is None
    PineconeStore.open(client, index_name, PLAIN).close()
    assert stored_fingerprint(client, index_name) == PLAIN.fingerprint()
    assert stored_fingerprint(client, index_name, namespace="empty") is None
    with pytest.raises(EmbedInputError, match="`namespace`"):
        stored_fingerprint(client, index_name, namespace="")


def test_the_fingerprint_is_no_record(server, store):
    assert len(items_of(server)) == 1
    assert (store.count(), store.search(vector(1)), list(store.scroll())) == (0, [], [])
    store.delete(where={})
    store.delete(["fingerprint"])
    assert len(items_of(server, "fingerprint")) == 1


def test_a_closed_store_says_so_and_its_client_stays_open(client, store):
    store.close()
    for call in (store.count, lambda: store.upsert([image("a")]), lambda: store.search(vector(1))):
        with pytest.raises(StoreRequestError, match="closed: open it again"):
            call()
    PineconeStore.open(client, "again", PLAIN).close()


def test_the_key_is_in_no_message_and_no_representation(server, client, caplog):
    caplog.set_level(logging.DEBUG)
    with contextlib.closing(PineconeStore.open(client, "photos", PLAIN)) as store:
        server.fail("documents_fetch", status=403, message=f"the key {KEY} may not")
        with pytest.raises(StoreRequestError, match="PINECONE_API_KEY") as refused:
            store.count()
        told = [repr(store), str(store), str(refused.value), repr(refused.value), caplog.text, *map(repr, vars(store))]
    assert all(KEY not in text for text in told)


def test_a_wrong_key_is_a_refusal(server):
    with (
        Pinecone(api_key="wrong-key", host=server.url) as client,
        pytest.raises(StoreRequestError, match=r"401.*PINECONE_API_KEY") as refused,
    ):
        PineconeStore.open(client, "photos", PLAIN)
    assert "wrong-key" not in str(refused.value)
