"""Writing to Chroma: metadata that a write replaces, bounded requests, tiles before their record, and failures."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from jclip_connectors.chroma import ChromaStore
from jclip_connectors.errors import PartialFailureError, StoreRequestError
from jclip_connectors.port import Record, Verification
from jclip_connectors.store_kit.verification import TilesMissingError
from jclip_connectors.testing.store_contract import ids_of
from tests.chroma.parts import CONFIG, QUERY, TILED, records, vectors


def bare(client, name):
    return client.get_collection(name, embedding_function=None)


def fail_at(kind, method, error, *, at=1):
    """Fail at the n-th such call."""
    calls = itertools.count(1)

    def fail(found_kind, found_method, _):
        if (found_kind, found_method) == (kind, method) and next(calls) == at:
            raise error

    return fail


def test_a_write_leaves_nothing_of_the_metadata_that_it_replaces(client, name):
    """An upsert of Chroma alone would keep each key that the new metadata does not have."""
    store = ChromaStore.open(client, name, CONFIG)
    store.upsert(records(0, 1, metadata={"price": 5, "sizes": [1, 2.5]}, content="a caption"))
    store.upsert(records(0, 1, metadata={"year": 2020}))
    (kept,) = bare(client, name).get()["metadatas"]
    assert sorted(kept) == ["max_year", "min_year", "modality", "payload", "terms"]
    assert store.count(where={"price": {"gt": 0}}) == store.count(where={"price": {"exists": True}}) == 0
    assert store.count(where={"not": {"price": {"gt": 0}}}) == 1
    assert store.get(["0"])[0].content is None


def test_a_number_that_another_write_has_left_is_not_found(watched, client, name):
    """Two writers of one record: the second reads the keys before the first has written its own."""
    first, second = ChromaStore.open(client, name, CONFIG), ChromaStore.open(watched, name, CONFIG)

    def between(_, method, __):
        if method == "upsert":
            first.upsert(records(0, 1, metadata={"price": 5}))

    watched.fail = between
    second.upsert(records(0, 1, metadata={"year": 2020}))
    assert bare(client, name).get()["metadatas"][0]["max_price"] == 5
    assert second.get(["0"])[0].metadata == {"year": 2020}
    assert second.count(where={"price": {"lt": 9}}) == second.count(where={"price": {"gte": 5}}) == 0
    assert second.count(where={"not": {"price": {"gte": 5}}}) == 1


def test_requests_are_bounded_in_items_and_bytes(watched, name):
    store = ChromaStore.open(watched, name, TILED)
    store.upsert([*records(0, 600, tiles=2), *records(3000, 3003, metadata={"text": "x" * 9_000_000})])
    written = [len(options["ids"]) for _, method, options in watched.calls if method == "upsert"]
    assert max(written) == 1000
    read = [(len(options["ids"]), options["include"]) for _, method, options in watched.calls if method == "get"]
    assert max(size for size, include in read if include) <= 256
    assert max(size for size, include in read if not include) <= 1000  # ids alone
    large = [options for kind, _, options in watched.calls if kind == "records" and "3000" in options.get("ids", [])]
    assert all(sum(f"{i}" in options["ids"] for i in (3000, 3001, 3002)) == 1 for options in large[1:])
    assert store.count() == 603


def test_a_batch_that_fails_is_told_by_its_records_and_the_others_are_written(watched, name, monkeypatch):
    monkeypatch.setattr("jclip_connectors.chroma.storing._BATCH_ITEMS", 10)
    store = ChromaStore.open(watched, name, CONFIG)
    watched.fail = fail_at("records", "upsert", ValueError("no"), at=2)
    with pytest.raises(PartialFailureError, match="10 of 25 records failed") as caught:
        store.upsert(records(0, 25))
    assert sorted(caught.value.failed) == list(range(10, 20))
    assert str(caught.value.failed[10]) == ("the record '10' is not written: chromadb refuses the request: no")
    assert sorted(store.ids(), key=int) == [str(i) for i in range(25) if not 10 <= i < 20]


def test_an_error_of_the_only_batch_is_the_error(watched, name):
    store = ChromaStore.open(watched, name, CONFIG)
    watched.fail = fail_at("records", "upsert", ValueError("no"))
    with pytest.raises(StoreRequestError, match="chromadb refuses the request: no"):
        store.upsert(records(0, 5))


@pytest.mark.parametrize("kind", ["tiles", "records"])
def test_a_write_that_is_interrupted_leaves_the_record_of_before_with_its_tiles(watched, name, kind):
    store = ChromaStore.open(watched, name, TILED)
    (before,) = records(0, 1, tiles=2)
    store.upsert([before])
    watched.fail = fail_at(kind, "upsert", KeyboardInterrupt())
    (after,) = records(0, 1, tiles=3, metadata={"new": 1})
    with pytest.raises(KeyboardInterrupt):
        store.upsert([after])
    watched.fail = None
    kept: Any = store.get(["0"])[0]
    np.testing.assert_allclose(kept.tile_embeddings, before.tile_embeddings, atol=1e-6)
    assert store.count(where={"new": 1}) == 0
    (hit,) = store.search(after.tile_embeddings[2], tiles=True)
    assert hit.score == pytest.approx(float((before.tile_embeddings @ after.tile_embeddings[2]).max()), abs=1e-6)
    store.upsert([after])
    kept = store.get(["0"])[0]
    assert len(kept.tile_embeddings) == 3


def test_the_tiles_of_the_version_before_are_deleted_and_those_of_a_deleted_record(client, name):
    store, tiles = ChromaStore.open(client, name, TILED), bare(client, f"{name}.tiles")
    store.upsert([*records(0, 3, tiles=4), *records(5, 6)])
    assert tiles.count() == 13  # a record without tiles has one item there
    store.upsert(records(0, 3, tiles=2))
    assert tiles.count() == 7
    store.upsert(records(0, 3, tiles=2))
    assert tiles.count() == 7
    store.delete(["0", "absent"])
    assert tiles.count() == 5
    store.delete(where={"not": {"a": 1}})
    assert (tiles.count(), store.count()) == (0, 0)


def test_tiles_that_are_missing_are_told_and_a_new_write_mends_the_record(client, name):
    store = ChromaStore.open(client, name, TILED)
    given = records(0, 2, tiles=2)
    store.upsert(given)
    tiles = bare(client, f"{name}.tiles")
    tiles.delete(ids=[found for found in tiles.get()["ids"] if found.endswith("#1#0")])
    with pytest.raises(TilesMissingError, match=r"some tiles of these records are missing: '0'; .* add them again"):
        store.get(["0", "1"])
    for repair in (False, True):
        assert store.verify(repair=repair) == Verification(counted=2, found=1, missing=("0",), repaired=())
    assert len(store.get(["0"], vectors=False)) == 1
    assert ids_of(store.search(given[0].tile_embeddings[0], tiles=True)) == ["1"]
    store.upsert(given)
    assert len(store.get(["0", "1"])) == 2


def once(watched, action, *, before=None, after=None):
    """Act once: before the first such call, or before the one that follows it."""
    seen: list[tuple[str, str]] = []

    def act(kind, method, _):
        if before == (kind, method) or after in seen:
            watched.fail = None
            action()
        seen.append((kind, method))

    watched.fail = act


def is_whole(store, expected):
    (found,) = store.get(["0"])
    np.testing.assert_allclose(found.tile_embeddings, expected.tile_embeddings, atol=1e-6)
    return store.verify() == Verification(counted=1, found=1, missing=(), repaired=())


def replace(store):
    store.upsert(records(0, 1, tiles=2))


def delete_by_id(store):
    store.delete(["0"])


def delete_by_filter(store):
    store.delete(where={})


CHANGES = pytest.mark.parametrize("change", [replace, delete_by_id, delete_by_filter])


@CHANGES
def test_tiles_are_kept_that_another_writer_has_made_current_again(watched, client, name, change):
    first, second = ChromaStore.open(watched, name, TILED), ChromaStore.open(client, name, TILED)
    given = records(0, 1, tiles=3)
    second.upsert([*given, *records(5, 6, tiles=3)])
    once(watched, lambda: second.upsert(given), after=("records", "upsert" if change is replace else "delete"))
    change(first)
    assert watched.fail is None
    second.delete(["5"])
    assert is_whole(second, given[0])
    assert bare(client, f"{name}.tiles").count() == 3


@CHANGES
def test_tiles_are_written_again_that_another_writer_has_deleted_before_their_record_came(
    watched, client, name, change
):
    first, second = ChromaStore.open(watched, name, TILED), ChromaStore.open(client, name, TILED)
    given = records(0, 1, tiles=3)
    second.upsert(given)
    once(watched, lambda: change(second), before=("records", "upsert"))
    first.upsert(given)
    assert watched.fail is None
    assert is_whole(second, given[0])


def test_tiles_of_a_record_that_is_deleted_while_they_are_written_are_not_written_again(watched, client, name):
    first, second = ChromaStore.open(watched, name, TILED), ChromaStore.open(client, name, TILED)
    once(watched, lambda: second.delete(["0"]), after=("records", "upsert"))
    first.upsert(records(0, 1, tiles=3))
    assert watched.fail is None
    assert (bare(client, f"{name}.tiles").count(), second.count()) == (0, 0)


def test_a_record_that_is_written_while_it_is_read_comes_with_the_tiles_of_one_version(watched, client, name):
    writer, reader = ChromaStore.open(client, name, TILED), ChromaStore.open(watched, name, TILED)
    writer.upsert(records(0, 1, tiles=2))
    rewritten: Any = records(0, 1, tiles=3)

    def between(kind, method, _):
        if (kind, method) == ("tiles", "get"):
            watched.fail = None
            writer.upsert(rewritten)

    watched.fail = between
    found: Any = reader.get(["0"])[0]
    np.testing.assert_allclose(found.tile_embeddings, rewritten[0].tile_embeddings, atol=1e-6)


def test_ids_that_look_like_those_of_tiles_are_told_apart(client, name):
    store = ChromaStore.open(client, name, TILED)
    ids = ["a", "0#a", "#", "0#0#a", "a#0"]
    rows = vectors(len(ids))
    boxes = np.zeros((1, 4), int)
    store.upsert(
        [
            Record(record_id=i, modality="image", embedding=row, tile_embeddings=row[None], tile_boxes=boxes)
            for i, row in zip(ids, rows, strict=True)
        ]
    )
    for record_id, row in zip(ids, rows, strict=True):
        assert ids_of(store.search(row, limit=1, tiles=True)) == [record_id]
    store.delete(["a"])
    assert sorted(ids_of(store.search(QUERY, tiles=True))) == sorted(ids[1:])


def test_threads_may_share_a_store(client, name):
    store = ChromaStore.open(client, name, TILED)

    def work(i):
        store.upsert(records(100 * i, 100 * i + 20, tiles=2))
        return len(store.search(QUERY, limit=5, tiles=True))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == [5] * 8
    assert store.count() == 160
