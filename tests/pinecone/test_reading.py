"""Results, pages, and writes that are seen later."""

import pytest

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.pinecone import dialects as pinecone_dialects
from jclip_connectors.pinecone import operations as pinecone_flows
from jclip_connectors.testing.store_contract import TILED, ids_of, image, text, vector
from tests.doubles.pinecone_stores import Settled
from tests.pinecone.harness import delete_route, items_of, requests_for, tiles


def test_more_results_than_one_answer_holds_are_fetched_apart(server, store):
    store.upsert([text(f"t{i:03}", vector(1, i), content="x" * 40_000) for i in range(110)])
    routes = requests_for(server, lambda: store.search(vector(1), limit=110))
    assert len(routes) == 3  # 4.4 MB of texts would not fit the answer of the search
    assert [hit.content for hit in store.search(vector(1), limit=110)] == ["x" * 40_000] * 110
    assert len(requests_for(server, lambda: store.search(vector(1), limit=64))) == 1


def test_a_limit_beyond_what_pinecone_gives_is_refused_where_it_matters(store, monkeypatch):
    monkeypatch.setattr(pinecone_flows, "_MOST_RESULTS", 3)
    store.upsert([image("a"), image("b")])
    assert len(store.search(vector(1), limit=1000)) == 2
    store.upsert([image("c"), image("d")])
    with pytest.raises(StoreRequestError, match="`limit` is 1000, but Pinecone returns at most 3 results"):
        store.search(vector(1), limit=1000)
    assert len(store.search(vector(1), limit=3)) == 3


def test_a_count_reads_all_pages(store, monkeypatch):
    monkeypatch.setattr(pinecone_dialects, "_NAMES_PAGE", 7)
    monkeypatch.setattr(pinecone_dialects, "_PAGE", 7)
    store.upsert([image(str(i), metadata={"even": i % 2 == 0}) for i in range(50)])
    assert store.count() == 50
    assert store.count(where={"even": True}) == 25
    assert sorted(ids_of(store.scroll(where={"even": False})), key=int) == [str(i) for i in range(1, 50, 2)]


def test_many_ids_are_read_and_deleted_in_parts(server, store):
    store.upsert([image(str(i)) for i in range(1100)])
    assert len(store.get([str(i) for i in range(1100)])) == 1100
    assert requests_for(server, lambda: store.delete([str(i) for i in range(1100)])) == [delete_route(store)] * 2
    assert store.count() == 0


def test_reads_give_the_former_state_until_a_write_is_visible(server, tiled):
    server.delay_s = 60
    tiled.upsert([image("a", **tiles((1,)))])
    assert (tiled.get(["a"]), tiled.count(), tiled.search(vector(1), tiles=True)) == ([], 0, [])
    server.skipped_s += 60
    assert (ids_of(tiled.get(["a"])), tiled.count()) == (["a"], 1)
    tiled.delete(["a"])
    assert tiled.count() == 1
    server.skipped_s += 60
    assert tiled.count() == 0


def test_tiles_of_a_version_that_was_never_seen_are_not_found_and_go_with_the_record(server, tiled):
    server.delay_s = 60
    tiled.upsert([image("a", **tiles((1,), (1, 1)))])
    tiled.upsert([image("a", **tiles((0, 1)))])  # does not see the first
    server.skipped_s += 60
    assert len(items_of(server, "tile")) == 3
    assert tiled.search(vector(1), tiles=True)[0].score == pytest.approx(0, abs=1e-6)
    tiled.delete(["a"])
    server.skipped_s += 60
    assert len(items_of(server, "tile")) == 0


def test_the_suites_of_stores_can_wait_for_what_they_have_written(server, tiled):
    server.delay_s = 0.1
    settled = Settled(tiled, TILED)
    settled.upsert([image("a", metadata={"n": 1}, **tiles((1,))), image("b")])
    assert sorted(ids_of(settled.search(vector(1), tiles=True))) == ["a", "b"]
    settled.upsert([image("a", metadata={"n": 2})])
    assert settled.count(where={"n": 2}) == 1
    settled.delete(where={"n": 2})
    assert ids_of(settled.scroll()) == ["b"]
