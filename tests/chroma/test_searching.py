"""Searching in Chroma: exact scores over an approximate index, ties, tiles, large filters, and what goes meanwhile."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from chromadb.api.models.Collection import Collection

from jclip_connectors.chroma import ChromaStore
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import NativeFilter, Record
from jclip_connectors.testing.store_contract import ids_of
from tests.chroma.parts import CONFIG, QUERY, TILED, E, records, vectors


@pytest.fixture(scope="module")
def filled(client):
    """2000 records, and the same in memory."""
    store, memory = ChromaStore.open(client, "filled", CONFIG), InMemoryStore(CONFIG)
    given = [
        dataclasses.replace(record, metadata={"n": i, "tag": f"t{i % 7}"}) for i, record in enumerate(records(0, 2000))
    ]
    for each in (store, memory):
        each.upsert(given)
    return store, memory


def test_scores_are_the_cosines_to_a_millionth_and_the_order_is_that_of_an_exact_search(filled):
    store, memory = filled
    queries = vectors(40, seed=9)
    found, exact = (each.search_many(queries, limit=10) for each in (store, memory))
    assert [ids_of(hits) for hits in found] == [ids_of(hits) for hits in exact]
    for hits, expected in zip(found, exact, strict=True):
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert [ids_of(store.search(query)) for query in queries[:5]] == [ids_of(hits) for hits in found[:5]]


def test_all_records_are_found_by_a_limit_above_the_candidates(filled):
    store, memory = filled
    hits = store.search(QUERY, limit=5000)
    assert ids_of(hits) == ids_of(memory.search(QUERY, limit=5000))
    assert len(ids_of(store.search(QUERY, limit=700))) == 700


@pytest.mark.parametrize("left", [0, 3])
def test_where_the_index_gives_fewer_than_match_all_are_compared(client, name, monkeypatch, left):
    store, memory = ChromaStore.open(client, name, TILED), InMemoryStore(TILED)
    given = [dataclasses.replace(record, metadata={"n": i}) for i, record in enumerate(records(0, 40))]
    for each in (store, memory):
        each.upsert(given)
    query = Collection.query

    def losing(self, **options):
        answer: Any = query(self, **options)
        return {**answer, **{key: [some[:left] for some in answer[key]] for key in ("ids", "distances")}}

    monkeypatch.setattr(Collection, "query", losing)
    for options in ({"limit": 5}, {"limit": 100}, {"where": {"n": {"gt": 20}}}, {"tiles": True}):
        assert ids_of(store.search(QUERY, **options)) == ids_of(memory.search(QUERY, **options))
    queries = vectors(3, seed=4)
    assert list(map(ids_of, store.search_many(queries))) == list(map(ids_of, memory.search_many(queries)))
    assert store.verify().missing == ()


def test_the_index_is_asked_for_as_many_candidates_as_the_option_says(watched, filled):
    store = ChromaStore.open(watched, "filled", CONFIG, candidates=700)
    assert ids_of(store.search(QUERY, limit=3)) == ids_of(filled[1].search(QUERY, limit=3))
    store.search(QUERY, limit=400)
    assert [options["n_results"] for _, method, options in watched.calls if method == "query"] == [700, 800]
    with pytest.raises(EmbedInputError, match="`candidates` is 0"):
        ChromaStore.open(watched, "filled", CONFIG, candidates=0)


def test_of_equal_scores_the_first_ids_are_returned_however_many_there_are(client, name):
    store = ChromaStore.open(client, name, CONFIG, candidates=8)
    same = records(0, 1)[0]
    store.upsert([dataclasses.replace(same, record_id=f"{i:03}") for i in range(100, 0, -1)])
    store.upsert([dataclasses.replace(same, record_id="far", embedding=-same.embedding)])
    hits = store.search(same.embedding, limit=5)
    assert ids_of(hits) == ["001", "002", "003", "004", "005"]
    assert len({hit.score for hit in hits}) == 1


def test_tiles_are_searched_until_there_are_enough_records(client, name):
    """A few records with very many near tiles stand before all others."""
    store, memory = ChromaStore.open(client, name, TILED, candidates=16), InMemoryStore(TILED)
    rng = np.random.default_rng(3)
    boxes = np.arange(160).reshape(40, 4)
    crowd = [
        Record(
            record_id=f"crowd {i}",
            modality="image",
            embedding=QUERY,
            tile_embeddings=QUERY + 0.05 * rng.normal(size=(40, E)),
            tile_boxes=boxes,
        )
        for i in range(3)
    ]
    for each in (store, memory):
        each.upsert([*crowd, *records(0, 40, tiles=3), *records(50, 60)])
    for limit in (2, 5, 53, 100):
        hits, exact = (each.search(QUERY, limit=limit, tiles=True) for each in (store, memory))
        assert [(hit.record_id, hit.box) for hit in hits] == [(hit.record_id, hit.box) for hit in exact]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in exact], abs=1e-6)


@pytest.fixture
def few(client, name):
    """20 records: a large filter takes as long as there are records."""
    store = ChromaStore.open(client, name, CONFIG)
    store.upsert([dataclasses.replace(record, metadata={"n": i}) for i, record in enumerate(records(0, 20))])
    return store


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["in", "nin"])
def test_a_filter_of_3000_values_is_answered(few, operator):
    """As one group it is deeper than SQLite allows."""
    where = {"n": {operator: [*range(0, 6000, 2)]}}
    kept = {str(i) for i in range(20) if (i % 2 == 0) == (operator == "in")}
    assert set(few.ids(where=where)) == kept
    assert set(ids_of(few.search(QUERY, where=where, limit=3))) < kept


def test_as_many_values_as_chroma_can_take_are_answered_and_more_are_refused(few):
    """A longer flat group ends the process; a longer tree has more values than SQLite takes."""
    assert few.count(where={"n": {"in": [*range(8000)]}}) == 20
    with pytest.raises(EmbedInputError, match="`where` has 8001 values and conditions, and Chroma can take 8000"):
        few.count(where={"n": {"in": [*range(8001)]}})


def nested(levels):
    """An `and` and an `or` for each level."""
    where: dict[str, Any] = {"n": 5}
    for _ in range(levels):
        where = {"or": [where, {"n": 7}], "tag": {"exists": True}}
    return where


def test_a_filter_is_refused_by_name_before_it_is_too_deep_for_chroma(filled):
    store, _ = filled
    assert sorted(store.ids(where=nested(30))) == ["5", "7"]
    with pytest.raises(EmbedInputError, match="`where` needs 62 levels of `and` and `or`, and Chroma can take 60"):
        store.count(where=nested(31))


def test_a_filter_in_chromas_own_language_is_passed_on(filled):
    store, _ = filled
    where = NativeFilter({"$and": [{"min_n": {"$gte": 10}}, {"max_n": {"$lt": 20}}]})
    assert store.count(where=where) == 10
    assert store.count(where=where, modality="text") == 0
    assert all(10 <= int(hit.record_id) < 20 for hit in store.search(QUERY, where=where))
    for bad in ({}, "n = 1", None, object()):
        with pytest.raises(EmbedInputError, match="`where` is a NativeFilter of"):
            store.count(where=NativeFilter(bad))


def test_a_filter_that_matches_all_is_none(watched, name):
    """With a filter that all records match, a search of Chroma takes many times as long."""
    store = ChromaStore.open(watched, name, CONFIG)
    store.search(QUERY, where={"and": [{}, {"not": {"a": {"in": []}}}]})
    assert [options["where"] for _, method, options in watched.calls if method == "query"] == [None]


def test_what_is_deleted_meanwhile_is_left_out_of_a_scroll_and_nothing_else(client, name):
    """Paging by an offset would pass over records, for those before them are gone."""
    store = ChromaStore.open(client, name, CONFIG)
    store.upsert(records(0, 1000))
    scrolled, gone = store.scroll(), set()
    seen = [next(scrolled).record_id for _ in range(256)]
    gone = {str(i) for i in range(0, 1000, 3)}
    store.delete(sorted(gone))
    store.upsert(records(2000, 2100))
    seen += ids_of(scrolled)
    assert len(seen) == len(set(seen))
    assert {str(i) for i in range(1000)} - gone <= set(seen) <= {str(i) for i in range(1000)}
    assert not gone & set(seen[256:])


def test_what_is_deleted_between_the_two_requests_of_a_search_is_left_out(watched, client, name):
    store = ChromaStore.open(watched, name, CONFIG)
    store.upsert(records(0, 5))
    first = ids_of(store.search(QUERY))[0]

    def between(_, method, __):
        if method == "get":
            client.get_collection(name, embedding_function=None).delete(ids=[first])

    watched.fail = between
    assert first not in ids_of(store.search(QUERY))


def test_the_order_of_a_scroll_says_nothing_about_when_records_were_written(filled):
    first = [int(record_id) for record_id, _ in zip(filled[0].ids(), range(200), strict=False)]
    assert 700 < np.mean(first) < 1300
