"""Batches, what Milvus has no room for, what is refused, and which rows a write leaves."""

import dataclasses
import logging

import numpy as np
import pytest
from pymilvus.exceptions import MilvusException

from jclip_connectors.errors import (
    CollectionMismatchError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.milvus import MilvusStore
from jclip_connectors.milvus.requests import MOST_BATCH_BYTES, row_bytes
from tests.milvus.parts import CONFIG, QUERY, TILED, E, ids_of, opened, records, tiled_record, vectors

pytestmark = pytest.mark.slow


class Refusing:
    """A client that refuses some upserts, and keeps what was asked."""

    def __init__(self, client, refuse=lambda *_: None):
        self._client = client
        self._refuse = refuse
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._client, name)

    def upsert(self, collection, *, data, **options):
        self.batches.append((collection, len(data), sum(map(row_bytes, data))))
        error = self._refuse(len(self.batches), data)
        if error is not None:
            raise error
        return self._client.upsert(collection, data=data, **options)


@pytest.fixture
def refusing(store):
    store._client = Refusing(store._client)
    return store._client


def left(store, collection="photos_tiles"):
    """The ids of the records of the rows of a collection."""
    rows = store._client.query(collection, filter='pk != ""', output_fields=["record_id", "lineage"])
    return sorted((row["record_id"], row["lineage"]) for row in rows)


def test_records_are_written_by_the_thousand(store, refusing):
    store.upsert(records(0, 2500))
    assert [rows for _, rows, _ in refusing.batches] == [1000, 1000, 500]
    assert store.count() == 2500


def test_large_records_are_written_by_their_size(path):
    with opened(path, TILED) as store:
        store._client = client = Refusing(store._client)
        large = [dataclasses.replace(record, content="x" * 3_000_000) for record in records(0, 12)]
        store.upsert([*large, tiled_record("tiles", vectors(3000))])
        assert all(size <= MOST_BATCH_BYTES for _, _, size in client.batches)
        tiles = [rows for collection, rows, _ in client.batches if collection == "photos_tiles"]
        assert (sum(tiles), max(tiles)) == (3012, 1000)
        assert store.get(["11"])[0].content == "x" * 3_000_000
        assert store.get(["tiles"])[0].tile_boxes.shape == (3000, 4)


def test_the_size_of_a_row_is_not_underestimated(store, monkeypatch):
    sent = []
    upsert = store._client._handler._stub.Upsert

    def measured(request, **options):
        sent.append(request.ByteSize())
        return upsert(request, **options)

    monkeypatch.setattr(store._client._handler._stub, "Upsert", measured)
    for metadata in (
        {},
        {"text": "é" * 5000},
        {"tags": [f"tag {n}" for n in range(3000)]},
        {f"n{n}": n / 7 for n in range(400)},
    ):
        store._client = Refusing(store._client)
        store.upsert(records(0, 10, metadata=metadata))
        assert sent[-1] <= store._client.batches[-1][2] <= 3 * sent[-1]
        store._client = store._client._client


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"record_id": "é" * 40_000}, "80000 bytes in its id, and Milvus holds 65535"),
        ({"content": "x" * 17_000_000}, r"17000\d+ bytes of text and metadata, and Milvus holds 16"),
        (
            {"metadata": {"tags": [str(n) for n in range(5000)]}},
            "5002 fields and values of metadata that filters can ask",
        ),
        (
            {"metadata": {f"{n}": n + 0.1 for n in range(900)}},
            r"\d{5} bytes of numbers in its metadata, and Milvus holds",
        ),
    ],
)
def test_a_record_that_milvus_has_no_room_for_is_refused_by_name_and_nothing_written(store, fields, message):
    record = dataclasses.replace(records(5, 6)[0], **fields)
    with pytest.raises(EmbedInputError, match=f"record '[5é].*{message}"):
        store.upsert([*records(0, 3), record])
    assert store.count() == 0


def test_a_refused_batch_is_reported_by_position_and_the_others_are_written(store):
    def refuse(number, _):
        return MilvusException(code=1100, message="no room") if number == 2 else None

    store._client = Refusing(store._client, refuse)
    with pytest.raises(PartialFailureError, match="1000 of 2500 records failed") as caught:
        store.upsert(records(0, 2500))
    assert sorted(caught.value.failed) == list(range(1000, 2000))
    assert "the record '1000' is not written: Milvus refuses the request (code 1100): no room" in str(caught.value)
    assert store.count() == 1500


def test_after_a_batch_that_does_not_get_through_the_rest_is_not_tried(store):
    def refuse(number, _):
        return MilvusException(code=2, message="gone") if number >= 2 else None

    store._client = client = Refusing(store._client, refuse)
    with pytest.raises(PartialFailureError) as caught:
        store.upsert(records(0, 3500))
    assert len(client.batches) == 2
    assert all(isinstance(each, StoreUnavailableError) for each in caught.value.failed.values())
    assert store.count() == 1000


def test_if_nothing_was_written_the_error_is_milvus_own(store):
    store._client = Refusing(store._client, lambda *_: MilvusException(code=1100, message="no room"))
    with pytest.raises(StoreRequestError, match=r"Milvus refuses the request \(code 1100\): no room"):
        store.upsert(records(0, 3))


@pytest.mark.parametrize("field", ["payload", "owner"])  # of a record, of a tile
def test_a_write_that_fails_at_tiles_or_at_records_leaves_the_records_as_they_were(path, field):
    with opened(path, TILED) as store:
        before = tiled_record("a", vectors(3, seed=1), metadata={"v": 1})
        store.upsert([before])

        def refuse(_, rows):
            return MilvusException(code=1100, message="no room") if field in rows[0] else None

        store._client = Refusing(store._client, refuse)
        with pytest.raises(StoreRequestError):
            store.upsert([tiled_record("a", np.stack([QUERY, QUERY]), metadata={"v": 2})])
        (found,) = store.get(["a"])
        assert (found.metadata, found.tile_embeddings.shape) == ({"v": 1}, (3, E))
        (hit,) = store.search(QUERY, tiles=True)
        assert hit.score == pytest.approx(float((before.tile_embeddings @ QUERY).max()), abs=1e-6)
        store.delete(["a"])
        assert left(store) == []


def test_the_tiles_of_a_former_version_are_deleted_and_those_of_the_same_are_kept(path):
    with opened(path, TILED) as store:
        store.upsert([tiled_record("a", vectors(3, seed=1)), tiled_record("b", vectors(2, seed=2)), *records(7, 8)])
        first = left(store)
        assert [record_id for record_id, _ in first] == ["7", "a", "a", "a", "b", "b"]
        store.upsert([tiled_record("a", vectors(3, seed=1), content="said otherwise"), *records(7, 8)])
        assert left(store) == first
        store.upsert([tiled_record("a", vectors(2, seed=4)), tiled_record("7", vectors(2))])
        assert [record_id for record_id, _ in left(store)] == ["7", "7", "a", "a", "b", "b"]
        store.upsert(records(7, 8, metadata={"n": 1}))
        assert [record_id for record_id, _ in left(store)] == ["7", "a", "a", "b", "b"]
        store.delete(where={"n": 1})
        assert [record_id for record_id, _ in left(store)] == ["a", "a", "b", "b"]
        store.delete(["b", "none"])
        assert [record_id for record_id, _ in left(store)] == ["a", "a"]
        store.delete(where={})
        assert left(store) == left(store, "photos") == []


def test_tiles_that_cannot_be_deleted_are_in_nobodys_way_and_told_in_the_log(path, monkeypatch, caplog):
    with opened(path, TILED) as store:
        store.upsert([tiled_record("a", vectors(3, seed=1))])

        def refuse(*_, **__):
            raise MilvusException(code=1100, message="not now")

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(store._client, "delete", refuse)
            store.upsert([tiled_record("a", vectors(2, seed=2))])
        assert "tiles that no search finds could not be deleted" in caplog.text
        assert len(left(store)) == 5
        assert ids_of(store.search(QUERY, tiles=True)) == ["a"]
        assert store.get(["a"])[0].tile_embeddings.shape == (2, E)


def test_vectors_of_another_length_by_another_writer_are_refused_by_milvus(store):
    row = {"pk": "x", "lineage": "x", "embedding": [1.0] * 3, "payload": ["{}"], "record_id": "x", "modality": "text"}
    with pytest.raises(MilvusException):
        store._client.upsert("photos", [{**row, "terms": [], "numbers": {}}])
    assert store.count() == 0


@pytest.mark.parametrize("config", [CONFIG, TILED])
def test_a_collection_that_was_made_again_for_other_vectors_is_neither_written_to_nor_searched(path, config):
    other = dataclasses.replace(config, dimensions=8)
    with opened(path, config) as store:
        store.upsert(records(0, 3))
        for name in ("photos", "photos_tiles"):
            store._client.drop_collection(name)
        with opened(path, other) as new:
            row = vectors(1, length=8)[0]
            new.upsert([dataclasses.replace(record, embedding=row) for record in records(0, 3)])
            for write in (
                lambda: store.upsert(records(0, 3)),
                lambda: store.delete(["0"]),
                lambda: store.delete(where={}),
            ):
                with pytest.raises(CollectionMismatchError, match="`dimensions`"):
                    write()
            with pytest.raises(StoreRequestError):
                store.search(QUERY)


def test_a_collection_of_unknown_length_that_was_made_again_for_others_is_not_written_to(path):
    config = dataclasses.replace(CONFIG, dimensions=None)
    with opened(path, config, dimensions=E) as store:
        store._client.drop_collection("photos")
        with opened(path, config, dimensions=8), pytest.raises(StoreRequestError, match="made again for other vectors"):
            store.upsert(records(0, 3))


def test_a_collection_that_is_gone_is_told(store):
    store._client.drop_collection("photos")
    for call in (
        store.count,
        lambda: store.search(QUERY),
        lambda: store.upsert(records(0, 1)),
        lambda: store.delete(["a"]),
    ):
        with pytest.raises(StoreRequestError, match="the collection does not exist"):
            call()
    assert not store._client.has_collection("photos")


def test_of_rows_that_another_program_has_written_twice_each_counts_once(store):
    # A server may tell of a row more than once after upserts; Milvus Lite does not.
    query = store._client.query
    store.upsert(records(0, 3))
    store._client.query = lambda *arguments, **options: (
        query(*arguments, **options) * (2 if options["output_fields"] != ["count(*)"] else 1)
    )
    assert len(list(store.scroll())) == len(list(store.ids())) == 3
    assert isinstance(store, MilvusStore)
