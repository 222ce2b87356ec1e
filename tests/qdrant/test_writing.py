"""Batches, their size, payload indexes, and writes that fail in part."""

import dataclasses
import json

import numpy as np
import pytest

from jclip_connectors.errors import (
    CollectionMismatchError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.qdrant.requests import Layout, payload_of, vectors_config
from jclip_connectors.qdrant.store import QdrantStore
from tests.doubles.qdrant_server import MAX_BODY_BYTES, Fault
from tests.qdrant.harness import CONFIG, QUERY, TILED, UPSERT, E, records


def test_only_writing_makes_indexes_and_each_once(store, server, client):
    store.search(QUERY, where={"year": {"gt": 1}})
    store.count(where={"year": {"gt": 1}})
    assert not any("/index" in call for call in server.calls())
    store.upsert(records(0, 2, metadata={"year": 2020, "tag": "x"}))
    store.upsert(records(2, 4, metadata={"year": 2021, "prices": [1, 2.5], "tag": "x"}))
    QdrantStore.open(client, "photos", CONFIG).upsert(records(4, 6, metadata={"year": 2021}))
    asked = [(r.json["field_name"], r.json["field_schema"]) for r in server.requests if "/index" in r.call]
    assert asked == [
        ("modality", "keyword"),
        ("terms", "keyword"),
        ("numbers[].key", "keyword"),
        ("numbers[].value", "float"),
    ]


def sizes(server):
    return [len(request.json["points"]) for request in server.requests if request.call.endswith("/points")]


def test_records_are_written_by_the_256(store, server):
    store.upsert(records(0, 600))
    assert sizes(server) == [256, 256, 88]
    assert store.count() == 600


def test_a_request_stays_below_the_size_that_a_server_takes(store, server):
    megabyte = "\u00e4" * 2**19  # two bytes each; six in the JSON of a careless program
    long = [dataclasses.replace(r, modality="text", content=megabyte, metadata={"n": megabyte}) for r in records(0, 20)]
    store.upsert(long)
    assert max(len(request.body) for request in server.requests) < MAX_BODY_BYTES
    assert 1 < len(sizes(server)) < 20
    assert store.get(["19"])[0].metadata == {"n": megabyte}


def test_the_size_of_vectors_is_not_underestimated(client, server):
    store = QdrantStore.open(client, "photos", TILED)
    rng = np.random.default_rng(0)
    boxes = np.zeros((2000, 4), int)
    many = [
        dataclasses.replace(record, tile_embeddings=rng.normal(size=(2000, E)), tile_boxes=boxes)
        for record in records(0, 40)
    ]
    store.upsert(many)
    assert len(sizes(server)) > 1
    assert max(len(request.body) for request in server.requests) < 24 * 2**20


def test_a_record_too_large_for_any_request_is_refused_by_name_and_nothing_written(store, server):
    large = dataclasses.replace(records(1, 2)[0], record_id="huge", modality="text", content="x" * 25 * 2**20)
    with pytest.raises(EmbedInputError, match=r"'huge' needs \d+ bytes in a request"):
        store.upsert([*records(0, 1), large])
    assert server.requests == []


def test_a_refused_batch_is_reported_by_position_and_the_others_are_written(store, server):
    given = [*records(0, 600), *records(300, 301)]  # 300 twice
    server.faults.append(Fault(UPSERT, status=400, body=b'{"status": {"error": "bad batch"}}', skip=1))
    with pytest.raises(PartialFailureError, match=r"257 of 601 records failed: 256: the record '256' is not") as caught:
        store.upsert(given)
    assert sorted(caught.value.failed) == [*range(256, 512), 600]
    assert sorted(caught.value.kept) == [*range(256), *range(512, 600)]
    error = caught.value.failed[600]
    assert isinstance(error, StoreRequestError)
    assert str(error) == "the record '300' is not written: Qdrant refuses the request (HTTP 400): bad batch"
    assert store.count() == 344


@pytest.mark.usefixtures("quick")
def test_after_a_batch_that_does_not_get_through_the_rest_is_not_tried(store, server):
    server.faults.append(Fault(UPSERT, status=503, skip=1, times=99))
    with pytest.raises(PartialFailureError) as caught:
        store.upsert(records(0, 1000))
    assert sorted(caught.value.failed) == list(range(256, 1000))
    assert all(isinstance(error, StoreUnavailableError) for error in caught.value.failed.values())
    assert sizes(server) == [256, 256, 256, 256]  # the first, and three attempts at the second
    assert store.count() == 256


@pytest.mark.usefixtures("quick")
def test_if_nothing_was_written_the_error_is_the_servers(store, server):
    server.faults.append(Fault(UPSERT, status=503, times=99))
    with pytest.raises(StoreUnavailableError, match="HTTP 503"):
        store.upsert(records(0, 300))
    server.faults[:] = [Fault(UPSERT, status=400, times=99)]
    with pytest.raises(StoreRequestError, match="HTTP 400"):
        store.upsert(records(0, 300))
    assert store.count() == 0


@pytest.mark.usefixtures("quick")
def test_a_write_that_is_tried_again_writes_once(store, server):
    server.faults.append(Fault(UPSERT, status=502))
    store.upsert(records(0, 3))
    assert store.count() == 3
    assert sizes(server) == [3, 3]


def test_the_numbers_of_many_fields_share_their_indexes(store, server):
    store.upsert(records(0, 1, metadata={f"field {number}": number for number in range(300)}))
    assert sum("/index" in call for call in server.calls()) == 4
    assert store.count(where={"field 7": {"gte": 7}}) == 1
    assert store.count(where={"field 7": {"gt": 7}}) == 0  # other fields have greater numbers


def test_a_collection_of_the_first_format_keeps_an_index_for_each_field(client, server):
    store = QdrantStore.open(client, "photos", CONFIG)
    described = {"format": 1, "fingerprint": dict(store.fingerprint)}
    client.delete_collection("photos")
    layout = Layout(dimensions=E, coarse=None, tiled=False, quantization=None)
    client.create_collection("photos", vectors_config=vectors_config(layout), metadata={"jclip": json.dumps(described)})
    old = QdrantStore.open(client, "photos", CONFIG)
    old.upsert(records(0, 2, metadata={"year": 2020, "n": [1, 5]}))
    names = [request.json["field_name"] for request in server.requests if "/index" in request.call]
    assert names == ["modality", "terms", 'numbers."n"', 'numbers."year"']
    assert old.count(where={"year": {"gte": 2020}, "n": {"lt": 2}}) == 2
    assert old.count(where={"year": {"gt": 2020}}) == 0


def test_a_collection_that_was_made_again_with_another_model_is_not_written_to(store, client):
    client.delete_collection("photos")
    again = QdrantStore.open(client, "photos", dataclasses.replace(CONFIG, revision="2"))
    again.upsert(records(0, 1))
    for write in (lambda: store.upsert(records(1, 2)), lambda: store.delete(where={})):
        with pytest.raises(CollectionMismatchError, match=r"`revision` '2' \(now '1'\)"):
            write()
    assert again.count() == 1


def test_a_collection_that_was_made_again_with_other_options_is_not_written_to(store, client):
    client.delete_collection("photos")
    QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=4)
    with pytest.raises(StoreRequestError, match="made again with other options: open it again"):
        store.upsert(records(1, 2))


def test_a_collection_that_was_made_again_just_so_gets_its_indexes_again(store, client, server):
    store.upsert(records(0, 1))
    client.delete_collection("photos")
    QdrantStore.open(client, "photos", CONFIG)
    server.requests.clear()
    store.upsert(records(0, 1))
    assert sum("/index" in call for call in server.calls()) == 2


def test_the_payload_of_a_record_is_made_once(store, monkeypatch):
    made = []

    def note(record, layout):
        made.append(record.record_id)
        return payload_of(record, layout)

    monkeypatch.setattr("jclip_connectors.qdrant.operations.payload_of", note)
    store.upsert(records(0, 3))
    assert made == ["0", "1", "2"]
