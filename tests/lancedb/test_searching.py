"""Searches in LanceDB: exact without an index, and by whole vectors with one; filters that nest; no noise."""

import threading

import lancedb
import numpy as np
import pytest

from core_encoder.tiling import Box
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.lancedb import LanceStore, lance_optimize, operations
from jclip_connectors.lancedb.filters import to_sql
from jclip_connectors.port import NativeFilter
from tests.lancedb.parts import QUERY, TILED, ids_of, records, vectors

MANY = 1200


@pytest.fixture(scope="module")
def connected(tmp_path_factory):
    return lancedb.connect(tmp_path_factory.mktemp("lance"))


@pytest.fixture(scope="module")
def indexed(connected):
    """Two stores over one collection with tiles and an index: one that uses the index, and one that does not."""
    store = LanceStore.open(connected, "photos", TILED)
    store.upsert(records(0, MANY, tiles=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "CANDIDATES", 500)
        report = lance_optimize(store)
    assert (report.records, report.indexed) == (MANY, True)
    return store, LanceStore.open(connected, "photos", TILED, exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("tiles", [False, True])
def test_an_index_finds_what_an_exact_search_finds_and_its_scores_are_the_cosines(indexed, tiles):
    by_index, exact = indexed
    stored = {record.record_id: record for record in exact.scroll()}
    found = wanted = 0
    for query in vectors(20, seed=7):
        hits = by_index.search(query, limit=10, tiles=tiles)
        expected = {hit.record_id for hit in exact.search(query, limit=10, tiles=tiles)}
        found, wanted = found + len(expected & set(ids_of(hits))), wanted + len(expected)
        for hit in hits:
            record = stored[hit.record_id]
            rows = record.tile_embeddings if tiles else record.embedding[None]
            assert hit.score == pytest.approx(float((rows @ query).max()), abs=1e-6)
            if tiles:
                assert hit.box == Box(*record.tile_boxes[int((rows @ query).argmax())])
    assert found >= 0.97 * wanted
    lists = by_index.search_many(vectors(20, seed=7), limit=10, tiles=tiles)
    assert ids_of(lists[3]) == ids_of(by_index.search(vectors(20, seed=7)[3], limit=10, tiles=tiles))


@pytest.mark.slow
def test_an_index_is_in_use_and_exact_passes_it_by(indexed, connected):
    table = connected.open_table("photos")
    assert {index.index_type for index in table.list_indices()} == {"BTree", "IvfHnswSq"}
    by_index, exact = indexed
    assert by_index._flows._refine == 10
    assert exact._flows._refine is None


@pytest.mark.slow
@pytest.mark.parametrize("tiles", [False, True])
def test_with_an_index_a_filter_still_finds_what_is_far_away_and_what_was_written_later(indexed, tiles):
    by_index, _ = indexed
    far = records(MANY, MANY + 1, metadata={"rare": True})
    by_index.upsert(far)
    opposite = -far[0].embedding
    assert ids_of(by_index.search(opposite, limit=1, where={"rare": True}, tiles=tiles)) == [str(MANY)]
    lance_optimize(by_index)
    assert ids_of(by_index.search(opposite, limit=1, where={"rare": True}, tiles=tiles)) == [str(MANY)]
    by_index.delete([str(MANY)])
    assert by_index.search(opposite, limit=1, where={"rare": True}, tiles=tiles) == []


def test_a_small_collection_gets_no_index_of_vectors(store, connection):
    store.upsert(records(0, 50))
    report = lance_optimize(store)
    assert (report.records, report.indexed) == (50, False)
    assert {index.index_type for index in connection.open_table("photos").list_indices()} == {"BTree"}
    assert ids_of(store.search(records(0, 50)[7].embedding, limit=1)) == ["7"]
    assert lance_optimize(store) == report


def test_an_empty_collection_can_be_optimised(store):
    assert lance_optimize(store).records == 0
    store.upsert(records(0, 1))
    assert store.count() == 1


def test_files_of_many_small_writes_are_merged(store, connection):
    for i in range(10):
        store.upsert(records(i, i + 1))
    table = connection.open_table("photos")
    assert table.stats()["fragment_stats"]["num_fragments"] == 10
    lance_optimize(store)
    assert connection.open_table("photos").stats()["fragment_stats"]["num_fragments"] == 1
    assert store.count() == 10


def test_of_equal_scores_those_with_the_first_ids_are_returned(store):
    same = vectors(1)[0]
    store.upsert([record for record in records(0, 40) if record.record_id != "0"])
    store.upsert(
        [
            type(record)(record_id=f"same {i:03}", modality="image", embedding=same)
            for i, record in reversed(list(enumerate(records(0, 200))))
        ]
    )
    hits = store.search(same, limit=7)
    assert ids_of(hits) == [f"same {i:03}" for i in range(7)]
    assert len({hit.score for hit in hits}) == 1
    assert ids_of(store.search_many(np.stack([same, QUERY]), limit=7)[0]) == ids_of(hits)


def test_searches_write_no_warning(store, capfd):
    store.upsert(records(0, 20))
    store.search(QUERY, where={"a": {"gt": 1}}, modality="image")
    store.search_many(vectors(3))
    list(store.scroll())
    list(store.ids())
    lance_optimize(store)
    store.search(QUERY)
    assert capfd.readouterr() == ("", "")


def test_a_limit_may_be_larger_than_any_collection(connection):
    store = LanceStore.open(connection, "tiled", TILED)
    assert store.search(QUERY, limit=10**12) == []
    store.upsert(records(0, 30, tiles=2))
    for tiles in (False, True):
        assert len(store.search(QUERY, limit=10**12, tiles=tiles)) == 30
        assert list(map(len, store.search_many(vectors(2), limit=10**12, tiles=tiles))) == [30, 30]


# Filters


def nested(levels):
    """Groups of 'and' and 'or' in one another, each with a condition."""
    where: dict[str, object] = {"n": {"gt": 1}}
    for level in range(levels):
        where = {("or", "and")[level % 2]: [where, {"tag": {"ne": str(level)}}, {"n": {"lte": level}}]}
    return where


def within(seconds, call):
    """What a call returns or raises, if it ends in time."""
    result = []

    def work():
        try:
            result.append(call())
        except EmbedInputError as error:
            result.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, "the engine hangs"
    return result[0]


@pytest.mark.parametrize("levels", [20, 30, 50])
def test_a_filter_that_nests_is_answered_or_refused_by_name_and_never_hangs(store, levels):
    given = records(0, 8)
    metadatas = [{"n": i, "tag": str(3 * i)} for i in range(8)]
    store.upsert([type(each)(**vars(each) | {"metadata": m}) for each, m in zip(given, metadatas, strict=True)])
    where = nested(levels)
    calls = [
        lambda: store.count(where=where),
        lambda: len(store.search(QUERY, where=where, modality="image")),
        lambda: len(list(store.scroll(where=where))),
        lambda: store.delete(where={"and": [where, {"n": -1}]}),
    ]
    expected = sum(matches(parse_filter(where), metadata) for metadata in metadatas)
    for call in calls[: 4 if levels < 50 else 3]:
        found = within(60, call)
        if levels == 50:
            assert isinstance(found, EmbedInputError)
            assert "more than 18 groups of 'or' inside one another" in str(found)
        else:
            assert found in (expected, None)


def test_negations_in_one_another_do_not_hang(store):
    where: dict[str, object] = {"n": 1}
    for _ in range(49):
        where = {"not": where}
    assert within(60, lambda: store.count(where=where)) == 0


def test_values_and_conditions_may_be_many_up_to_a_limit(store):
    store.upsert([type(each)(**vars(each) | {"metadata": {"n": i}}) for i, each in enumerate(records(0, 5))])
    assert store.count(where={"n": {"in": list(range(4000))}}) == 5
    assert store.count(where={"or": [{f"f{i}": i} for i in range(4000)]}) == 0
    assert store.count(where={"and": [{f"f{i}": {"ne": i}} for i in range(4000)]}) == 5
    with pytest.raises(EmbedInputError, match="more than 2048 conditions"):
        store.count(where={"or": [{f"f{i}": {"gt": i}} for i in range(2049)]})


@pytest.mark.parametrize(
    ("where", "sql"),
    [
        (None, None),
        ({}, None),
        ({"and": [{}, {"and": [{}]}]}, None),
        ({"a": 1}, """array_has_any(terms, ['["a", 1]'])"""),
        ({"a": "it's"}, """array_has_any(terms, ['["a", "it''s"]'])"""),
        ({"a": {"in": []}}, "false"),
        ({"a": {"nin": []}}, None),
        ({"or": [{"a": 1}, {"b": {"exists": True}}]}, """(array_has_any(terms, ['["a", 1]', '["b"]']))"""),
        ({"a": {"ne": 1}, "b": {"ne": 2}}, """NOT array_has_any(terms, ['["a", 1]', '["b", 2]'])"""),
    ],
)
def test_a_filter_becomes_a_short_condition(where, sql):
    assert to_sql(where) == sql


def test_a_native_filter_is_a_condition_of_sql(store):
    given = [type(each)(**vars(each) | {"uri": f"{each.record_id}.png"}) for each in records(0, 12)]
    store.upsert(given)
    native = NativeFilter("uri LIKE '1%' OR uri = '2.png'")
    assert sorted(ids_of(store.search(QUERY, where=native, modality="image"))) == ["1", "10", "11", "2"]
    assert store.count(where=native, modality="text") == 0
    with pytest.raises(StoreRequestError, match="No field named nope"):
        store.count(where=NativeFilter("nope = 1"))
    with pytest.raises(EmbedInputError, match="NativeFilter of dict: LanceDB needs a string"):
        store.count(where=NativeFilter({"a": 1}))


def test_two_ids_may_have_one_key(store, monkeypatch):
    monkeypatch.setattr("jclip_connectors.lancedb.requests.key_of", lambda record_id: len(record_id))
    monkeypatch.setattr(operations, "_PAGE_RECORDS", 2)
    monkeypatch.setattr(operations, "_PAGES_AT_ONCE", 3)
    store.upsert(records(0, 20))
    assert sorted(store.ids(), key=int) == sorted(ids_of(store.scroll()), key=int) == [str(i) for i in range(20)]
    assert ids_of(store.get(["3", "12"])) == ["3", "12"]
    store.delete(["3"])
    assert store.count() == 19
