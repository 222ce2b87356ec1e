"""Tiles beside their record."""

import json

import numpy as np
import pytest

from core_encoder.tiling import Box
from jclip_connectors.errors import PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.pinecone import operations as pinecone_flows
from jclip_connectors.testing.store_contract import BLUE, RED, TILED, E, ids_of, image, vector
from tests.pinecone.harness import delete_route, items_of, tiles, upsert_route


def test_a_record_that_comes_again_with_fewer_tiles_leaves_none_behind(server, tiled):
    tiled.upsert([image("a", **tiles((1,), (0, 1), (0, 0, 1)))])
    assert len(items_of(server, "tile")) == 3
    tiled.upsert([image("a", **tiles((0, 1)))])
    assert len(items_of(server, "tile")) == 1
    assert tiled.search(vector(1), tiles=True)[0].score == pytest.approx(0, abs=1e-6)
    tiled.upsert([image("a")])
    assert len(items_of(server, "tile")) == 0
    assert tiled.search(vector(1), tiles=True)[0].box is None


def test_a_deleted_record_leaves_no_tiles(server, tiled):
    tiled.upsert([image(name, metadata={"n": n}, **tiles((1,), (0, 1))) for n, name in enumerate("abc")])
    tiled.delete(["a"])
    tiled.delete(where={"n": {"gte": 2}})
    assert len(items_of(server, "tile")) == 2
    tiled.delete(where={})
    assert len(items_of(server)) == 1


def test_the_same_record_again_changes_nothing(server, tiled):
    record = image("a", metadata={"n": 1}, **tiles((1,), (0, 1)))
    tiled.upsert([record])
    before = json.dumps(items_of(server))
    tiled.upsert([record])
    assert json.dumps(items_of(server)) == before


def test_an_upsert_that_is_stopped_before_the_record_leaves_the_former_one_whole(server, tiled):
    tiled.upsert([image("a", metadata={"n": 1}, **tiles((1,), (0, 1)))])
    server.fail(upsert_route(tiled), status=503, skip=1, times=4, headers={"Retry-After": "0"})
    with pytest.raises(StoreUnavailableError):
        tiled.upsert([image("a", metadata={"n": 2}, **tiles((0, 0, 1), (0, 0, 0, 1)))])
    (record,) = tiled.get(["a"])
    assert record.metadata == {"n": 1}
    assert record.tile_embeddings[0].tolist() == RED
    assert tiled.search(vector(0, 0, 1), tiles=True)[0].score == pytest.approx(0, abs=1e-6)
    assert tiled.search(vector(1), tiles=True, where={"n": 2}) == []
    assert tiled.count() == 1


def test_tiles_of_no_record_hide_none(server, tiled):
    server.fail(upsert_route(tiled), status=503, skip=1, times=4, headers={"Retry-After": "0"})
    with pytest.raises(StoreUnavailableError):
        tiled.upsert([image(f"lost{i}", **tiles(*[(1, i / 100)] * 150)) for i in range(2)])
    tiled.upsert([image("here", **tiles((0, 1), (1, 1)))])
    (hit,) = tiled.search(vector(1), limit=1, tiles=True)
    assert (hit.record_id, hit.box) == ("here", Box(1, 0, 2, 9))


def test_a_picture_of_many_tiles_does_not_crowd_out_the_others(tiled):
    tiled.upsert([image("crowd", **tiles(*[(1, i / 1000) for i in range(300)]))])
    tiled.upsert([image("second", **tiles((1, 1), (0, 1))), image("third", vector(1, 2))])
    hits = tiled.search(vector(1), limit=3, tiles=True)
    assert ids_of(hits) == ["crowd", "second", "third"]
    assert [hit.box for hit in hits] == [Box(0, 0, 1, 9), Box(0, 0, 1, 9), None]


def test_a_search_by_tiles_agrees_with_memory_over_many_records(tiled):
    random = np.random.default_rng(0)
    records = [image(f"r{i}", random.normal(size=E), **tiles(*random.normal(size=(i % 5 + 1, E)))) for i in range(60)]
    reference = InMemoryStore(TILED)
    for store in (tiled, reference):
        store.upsert(records)
    for limit in (1, 10, 60):
        query = random.normal(size=E).astype(np.float32)
        expected = reference.search(query, limit=limit, tiles=True)
        found = tiled.search(query, limit=limit, tiles=True)
        assert [(hit.record_id, hit.box) for hit in found] == [(hit.record_id, hit.box) for hit in expected]


def test_former_tiles_that_cannot_be_deleted_are_told_and_not_found(server, tiled):
    tiled.upsert([image("a", **tiles((1,), (1, 1)))])
    server.fail(delete_route(tiled), status=400, message="not now")
    with pytest.raises(PartialFailureError, match=r"it is written, but the tiles of its previous version.*not now"):
        tiled.upsert([image("a", **tiles((0, 1)))])
    assert len(items_of(server, "tile")) == 3
    assert tiled.search(vector(1), tiles=True)[0].score == pytest.approx(0, abs=1e-6)
    assert tiled.get(["a"])[0].tile_embeddings.tolist() == [BLUE]


def test_a_record_whose_tiles_are_not_there_is_not_given_without_them(server, tiled):
    tiled.upsert([image("a", **tiles((1,), (0, 1)))])
    ((_, index),) = server.indexes.items()
    seen = index.namespaces["jclip"].seen(server.now())
    seen.pop(next(name for name, item in seen.items() if item["kind"] == "tile"))
    for call in (lambda: tiled.get(["a"]), lambda: list(tiled.scroll())):
        with pytest.raises(StoreUnavailableError, match="tiles of record 'a'"):
            call()


def test_tiles_carry_what_filters_ask_and_not_the_rest(server, tiled):
    tiled.upsert([image("a", metadata={"n": 1, "deep": {"x": "y"}}, uri="a.png", **tiles((1,)))])
    (tile,) = items_of(server, "tile").values()
    assert tile["uri"] == "a.png"
    assert tile["min_n"] == 1
    assert tile.keys().isdisjoint({"metadata", "content", "tile_boxes"})


def test_a_crowded_search_ends(tiled, monkeypatch):
    monkeypatch.setattr(pinecone_flows, "_MOST_RESULTS", 4)
    monkeypatch.setattr(pinecone_flows, "_FEWEST_MATCHES", 4)
    tiled.upsert([image(f"r{i}", **tiles((1, i))) for i in range(9)])
    with pytest.raises(StoreRequestError, match="`limit` is 5, but Pinecone returns at most 4 results"):
        tiled.search(vector(1), limit=5, tiles=True)
    assert len(tiled.search(vector(1), limit=4, tiles=True)) == 4
