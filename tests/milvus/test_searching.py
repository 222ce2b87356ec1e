"""What Milvus does not do by itself: ties in order, tiles, more results than it returns, hostile texts."""

import dataclasses

import numpy as np
import pytest
from pymilvus import MilvusClient

from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.milvus import operations, reading
from jclip_connectors.milvus.requests import key_of
from jclip_connectors.port import NativeFilter, Record
from tests.milvus.parts import CONFIG, QUERY, TILED, E, ids_of, opened, records, tiled_record, vectors

pytestmark = pytest.mark.slow

HOSTILE = [
    '"',
    "'",
    "\\",
    "quo'te\"\\",
    '"] or pk != "',
    "') or 1 == 1",
    "{t}",
    "a\nb",
    "\0",
    "%",
    "日本🐘",
    " ",
    "pk",
    "x" * 2000,
]


class Counted:
    """A client that counts the calls of its methods."""

    def __init__(self, client):
        self._client = client
        self.calls = []

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def counted(*arguments, **options):
            self.calls.append(name)
            return method(*arguments, **options)

        return counted


@pytest.fixture
def counted(store):
    store._client = Counted(store._client)
    return store._client.calls


def test_ties_are_in_the_order_of_ids_even_where_the_limit_cuts_them(store):
    row = vectors(1)[0]
    ids = [f"{number:03d}" for number in range(300)]
    store.upsert([Record(record_id=name, modality="image", embedding=row) for name in reversed(ids)])
    store.upsert([dataclasses.replace(record, record_id=f"near {record.record_id}") for record in records(5, 8)])
    assert ids_of(store.search(row, limit=5)) == ids[:5]
    assert ids_of(store.search(row, limit=100)) == ids[:100]
    assert [ids_of(hits) for hits in store.search_many(np.stack([row, row]), limit=3)] == [ids[:3]] * 2


def test_the_tiles_of_one_record_do_not_push_the_others_out(path):
    rng = np.random.default_rng(4)
    flood = QUERY + 0.01 * rng.normal(size=(1500, E))
    others = vectors(60, seed=3)
    given = [
        tiled_record("flood", flood.astype(np.float32)),
        *(tiled_record(f"{n:02d}", others[2 * n : 2 * n + 2]) for n in range(30)),
        *(dataclasses.replace(record, record_id=f"whole {record.record_id}") for record in records(100, 105)),
    ]
    memory = InMemoryStore(TILED)
    memory.upsert(given)
    with opened(path, TILED) as store:
        store.upsert(given)
        for limit in (1, 2, 10, 36, 1000):
            hits, expected = (each.search(QUERY, limit=limit, tiles=True) for each in (store, memory))
            assert ids_of(hits) == ids_of(expected)
            assert [hit.box for hit in hits] == [hit.box for hit in expected]
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        assert len(store.get(["flood"])[0].tile_embeddings) == 1500


def test_tiles_whose_record_is_gone_or_is_another_version_are_not_found(path, tmp_path):
    with opened(path, TILED) as store, opened(tmp_path / "other.db", TILED) as other:
        store.upsert([tiled_record("a", vectors(3, seed=1)), tiled_record("b", vectors(3, seed=2))])
        other.upsert([tiled_record(name, np.stack([QUERY, QUERY])) for name in ("a", "gone")])
        left = other._client.query("photos_tiles", filter='pk != ""', output_fields=["*"])
        store._client.upsert("photos_tiles", left)  # as a process leaves them that is killed before it writes records
        hits = store.search(QUERY, limit=10, tiles=True)
        assert sorted(ids_of(hits)) == ["a", "b"]
        best = {record.record_id: float((record.tile_embeddings @ QUERY).max()) for record in store.get(["a", "b"])}
        assert {hit.record_id: hit.score for hit in hits} == pytest.approx(best, abs=1e-6)
        store.delete(["a"])
        store.delete(["gone"])
        assert {
            row["record_id"] for row in store._client.query("photos_tiles", filter='pk != ""', output_fields=["*"])
        } == {"b"}


def test_a_record_that_is_replaced_during_a_search_for_tiles_is_found(path, monkeypatch):
    with opened(path, TILED) as store:
        store.upsert([tiled_record("a", vectors(3, seed=1)), tiled_record("b", vectors(3, seed=2))])
        fetch, replaced = reading.fetch, tiled_record("a", vectors(3, seed=9))

        def replacing(*arguments):
            if not done:
                done.append(True)
                store.upsert([replaced])
            return fetch(*arguments)

        done: list[bool] = []
        monkeypatch.setattr(reading, "fetch", replacing)
        hits = {hit.record_id: hit.score for hit in store.search(QUERY, limit=5, tiles=True)}
        assert hits["a"] == pytest.approx(float((replaced.tile_embeddings @ QUERY).max()), abs=1e-6)
        assert set(hits) == {"a", "b"}


def test_a_record_that_is_replaced_while_it_is_read_is_read_whole(path, monkeypatch):
    with opened(path, TILED) as store:
        store.upsert([tiled_record("a", vectors(3, seed=1)), tiled_record("b", vectors(3, seed=2))])
        fetch, replaced = reading.fetch, tiled_record("a", vectors(2, seed=9))

        def replacing(place, collection, keys, fields):
            if collection == "photos_tiles" and not done:
                done.append(True)
                store.upsert([replaced])
                store.delete(["b"])
            return fetch(place, collection, keys, fields)

        done: list[bool] = []
        monkeypatch.setattr(operations, "fetch", replacing)
        (found,) = list(store.scroll())
        np.testing.assert_allclose(found.tile_embeddings, replaced.tile_embeddings, atol=1e-6)


@pytest.mark.parametrize("tiles", [False, True])
def test_a_limit_of_any_size_is_cut_to_what_there_is(path, tiles):
    with opened(path, TILED) as store:
        assert store.search(QUERY, limit=10**12, tiles=tiles) == []
        store.upsert(records(0, 1200))
        hits = store.search(QUERY, limit=10**12, tiles=tiles)
        assert len(set(ids_of(hits))) == 1200
        assert hits[0].metadata == {}
        assert [len(each) for each in store.search_many(np.stack([QUERY] * 3), limit=10**12, tiles=tiles)] == [1200] * 3


@pytest.mark.parametrize("tiles", [False, True])
def test_more_results_than_milvus_returns_are_refused_and_not_cut(path, monkeypatch, tiles):
    monkeypatch.setattr(reading, "MOST_RESULTS", 20)
    monkeypatch.setattr(reading, "_FEW", 10)
    with opened(path, TILED) as store:
        store.upsert(records(0, 30))
        with pytest.raises(StoreRequestError, match="30 records match, but a search of Milvus returns at most 20"):
            store.search(QUERY, limit=25, tiles=tiles)
        assert len(store.search(QUERY, limit=20, tiles=tiles)) == 20
        store.delete([str(number) for number in range(12)])
        assert len(store.search(QUERY, limit=25, tiles=tiles)) == 18


def test_searches_of_a_few_results_share_a_request(store, counted):
    store.upsert(records(0, 50))
    del counted[:]
    assert [len(hits) for hits in store.search_many(vectors(40), limit=10)] == [10] * 40
    assert counted == ["search"]
    store.search(QUERY)
    assert counted == ["search"] * 2


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_taken_for_anything_else_on_any_path(path, text):
    hostile = tiled_record(text, vectors(2, seed=1), uri=text, metadata={text: [text, 5], "v": text})
    with opened(path, TILED) as store:
        store.upsert([*records(0, 5), hostile])
        store.upsert([hostile])
        (found,) = store.get([text, f"{text} "])
        assert (found.record_id, found.metadata, found.uri) == (text, hostile.metadata, text)
        for where in (
            {text: text},
            {text: {"gt": 4}},
            {"v": text},
            {text: {"exists": True}},
            {"not": {text: {"ne": 5}}},
        ):
            assert store.count(where=where) == 1
            assert ids_of(store.search(QUERY, where=where)) == [text]
            assert ids_of(store.search(QUERY, where=where, tiles=True)) == [text]
            assert ids_of(store.scroll(where=where)) == list(store.ids(where=where)) == [text]
        assert store.count(where={"not": {text: text}}) == 5
        store.delete([f"{text}x"])
        store.delete(where={text: {"eq": f"{text}x"}})
        assert store.count() == 6
        store.delete(where={text: text})
        store.upsert([hostile])
        store.delete([text])
        assert sorted(store.ids()) == list("01234")
        assert len(store._client.query("photos_tiles", filter='pk != ""', output_fields=["pk"])) == 5


def test_numbers_are_compared_as_python_compares_them(store):
    values = [2**53, 2**53 + 1, 1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -0.0, 0.1, 1e16, 10**400]
    store.upsert(
        [
            dataclasses.replace(record, metadata={"n": value})
            for record, value in zip(records(0, len(values)), values, strict=True)
        ]
    )
    memory = InMemoryStore(CONFIG)
    memory.upsert(list(store.scroll()))
    for op in ("gt", "gte", "lt", "lte"):
        for bound in values:
            for where in ({"n": {op: bound}}, {"not": {"n": {op: bound}}}):
                assert sorted(store.ids(where=where)) == sorted(memory.ids(where=where)), where


def test_a_collection_that_was_put_out_of_memory_is_loaded_again(store):
    store.upsert(records(0, 3))
    store._client.release_collection("photos")
    assert len(store.search(QUERY)) == 3
    store._client.release_collection("photos")
    assert len(list(store.scroll())) == store.count() == 3


def test_pages_hold_each_record_once_in_the_order_of_their_uuids(path, monkeypatch):
    monkeypatch.setattr(operations, "_PAGE", 20)
    monkeypatch.setattr(operations, "_PAGE_OF_TILED", 10)
    monkeypatch.setattr(operations, "_PAGE_OF_IDS", 50)
    with opened(path, TILED) as store:
        store.upsert([dataclasses.replace(record, metadata={"n": int(record.record_id)}) for record in records(0, 300)])
        for vectors_too in (True, False):
            found = ids_of(store.scroll(vectors=vectors_too))
            assert sorted(found, key=int) == [str(number) for number in range(300)]
            assert found == ids_of(sorted(store.get(found), key=lambda record: key_of(record.record_id)))
        assert sorted(store.ids(where={"n": {"gte": 200}}), key=int) == [str(number) for number in range(200, 300)]
        scrolled = store.ids()
        next(scrolled)
        store.upsert(records(1000, 1300))  # far more than were counted
        monkeypatch.setattr(operations, "_MOST_OF_PAGE", 30)
        assert len(set(scrolled)) >= 299
        assert len(list(store.ids())) == len(set(store.ids())) == 600


def test_a_native_filter_asks_the_fields_that_are_kept(path):
    with opened(path, TILED) as store:
        store.upsert([*records(0, 5), tiled_record("photos/a.jpg", vectors(2))])
        where = NativeFilter('record_id like "photos/%"')
        assert store.count(where=where) == 1
        assert ids_of(store.search(QUERY, where=where)) == ids_of(store.search(QUERY, where=where, tiles=True))
        assert store.count(where=NativeFilter('modality == "image"'), modality="text") == 0
        with pytest.raises(StoreRequestError, match="Milvus refuses the request"):
            store.search(QUERY, where=NativeFilter("no expression at all"))
        with pytest.raises(EmbedInputError, match="as a string"):
            store.delete(where=NativeFilter({"a": 1}))
        store.delete(where=where)
        assert store.count() == 5


def test_a_graph_finds_what_is_near_and_keeps_as_many_in_view_as_are_wanted(path):
    with opened(path, TILED, index="HNSW", hnsw_ef=16) as store:
        store.upsert(records(0, 600))
    with opened(path, TILED) as store:  # whose index is kept
        search, widths = store._client.search, []

        def watched(*arguments, **options):
            widths.append((options["limit"], options["search_params"]["params"]["ef"]))
            return search(*arguments, **options)

        store._client.search = watched
        memory = InMemoryStore(TILED)
        memory.upsert(records(0, 600))
        for limit in (10, 300):
            expected = ids_of(memory.search(QUERY, limit=limit))
            for tiles in (False, True):
                assert len(set(expected) & set(ids_of(store.search(QUERY, limit=limit, tiles=tiles)))) >= 0.95 * limit
        assert {limit: max(limit, 128) for limit, _ in widths} == dict(widths)  # a server refuses fewer
        (described,) = [store._client.describe_index("photos", "embedding")]
        assert (described["index_type"], described["metric_type"]) == ("HNSW", "COSINE")


def test_the_client_may_be_wrapped(path):
    client = MilvusClient(str(path), dedicated=True)
    with opened(Counted(client)) as store:
        assert store.count() == 0
    client.close()
