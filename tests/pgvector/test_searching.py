"""How PostgreSQL is searched: stages, graphs, filters, ties; and that a caller's own settings change nothing."""

import dataclasses

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.pgvector import Hnsw, PgVectorStore
from jclip_connectors.port import NativeFilter, Record
from jclip_connectors.testing.store_contract import METADATA
from tests.pgvector.parts import CONFIG, QUERY, TILED, E, column, ids_of, records, vectors

SCANS = "SELECT indexrelname FROM pg_stat_user_indexes WHERE idx_scan > 0 AND indexrelname LIKE '%%hnsw' ORDER BY 1"


@pytest.fixture
def store(connection):
    return PgVectorStore.open(connection, "photos", CONFIG)


def scanned(connection):
    """The graphs that have been searched, and forget them."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    found = column(connection, SCANS)
    connection.execute("SELECT pg_stat_reset()")
    return found


# Ties


def test_ties_are_in_the_order_of_ids_even_where_the_limit_cuts_them(store):
    ids = ["b", "B", "a", "ä", "Z", "z", "_", "10", "9", "\0", "\0a", " ", "\uffff", "🚲", "é", "e\u0301"]
    store.upsert(
        [dataclasses.replace(each, record_id=i, embedding=QUERY) for each, i in zip(records(0, 16), ids, strict=True)]
    )
    for limit in (1, 5, 15, 16):
        assert ids_of(store.search(QUERY, limit=limit)) == sorted(ids)[:limit]


# Stages


@pytest.mark.parametrize(
    "options",
    [{"coarse_dimensions": 8}, {"quantization": "binary"}, {"quantization": "binary", "coarse_dimensions": 12}],
)
@pytest.mark.parametrize("tiles", [False, True])
def test_a_first_stage_leaves_the_score_exact_and_a_small_collection_complete(connection, options, tiles):
    store, exact = PgVectorStore.open(connection, "photos", TILED, **options), InMemoryStore(TILED)
    given = records(0, 200)
    boxes = np.arange(12).reshape(3, 4)
    given = [
        dataclasses.replace(each, tile_embeddings=vectors(3, seed=i), tile_boxes=boxes) if i % 3 else each
        for i, each in enumerate(given)
    ]
    store.upsert(given)
    exact.upsert(given)
    found, expected = (each.search(QUERY, limit=20, tiles=tiles) for each in (store, exact))
    assert ids_of(found) == ids_of(expected)
    assert [hit.box for hit in found] == [hit.box for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)


def test_only_the_candidates_of_the_first_stage_are_compared_in_full(connection):
    store = PgVectorStore.open(connection, "photos", CONFIG, coarse_dimensions=1, candidates=1)
    near = QUERY * np.array([-1, *[1] * (E - 1)])  # the nearest, with a first value that says the contrary
    decoys = [
        dataclasses.replace(each, embedding=np.abs(each.embedding) * np.sign(QUERY[0])) for each in records(0, 40)
    ]
    store.upsert([dataclasses.replace(decoys[0], record_id="near", embedding=near), *decoys])
    assert store.search(QUERY, limit=1)[0].record_id != "near"  # 20 of 41 are compared
    assert store.search(QUERY, limit=3)[0].record_id == "near"  # 60 are


def test_vectors_of_16_bits_take_half_the_room_and_their_scores_are_of_what_is_kept(connection):
    config = dataclasses.replace(CONFIG, dimensions=128)
    row, query = vectors(2, length=128)
    store = PgVectorStore.open(connection, "photos", config, storage="halfvec")
    store.upsert([Record(record_id="a", modality="image", embedding=row)])
    assert column(connection, "SELECT pg_column_size(embedding) FROM photos") == [2 * 128 + 8]
    (kept,) = store.get(["a"])
    np.testing.assert_array_equal(kept.embedding, row.astype(np.float16).astype(np.float32))
    exact = float(kept.embedding.astype(np.float64) @ query / np.linalg.norm(kept.embedding.astype(np.float64)))
    (hit,) = store.search(query)
    assert hit.score == pytest.approx(exact, abs=1e-6)
    assert hit.score == pytest.approx(float(row @ query), abs=1e-3)


# Graphs


@pytest.fixture(scope="module")
def clusters():
    """(2500, 16) rows of the two modalities, in clusters as real embeddings are; (20, 16) queries."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, E))
    rows = centres[rng.integers(0, 60, 2500)] + 0.4 * rng.normal(size=(2500, E))
    queries = centres[:20] + 0.2 * rng.normal(size=(20, E))
    given = [
        Record(
            record_id=str(i), modality="text" if i % 5 == 0 else "image", embedding=row, content="", metadata={"n": i}
        )
        for i, row in enumerate(rows)
    ]
    exact = InMemoryStore(CONFIG)
    exact.upsert(given)
    return given, queries, exact


@pytest.mark.parametrize("options", [{}, {"storage": "halfvec"}, {"quantization": "binary"}, {"coarse_dimensions": 12}])
def test_a_graph_is_searched_for_as_many_as_are_wanted_of_each_modality(connection, clusters, options):
    given, queries, exact = clusters
    store = PgVectorStore.open(connection, "photos", CONFIG, candidates=100, **options)
    store.upsert(given)
    connection.execute("ANALYZE photos")
    store = PgVectorStore.open(connection, "photos", CONFIG, hnsw=Hnsw(), candidates=100)
    scanned(connection)
    share = []
    for query in queries[:10]:
        for modality in (None, "image", "text"):
            found, expected = (each.search(query, limit=10, modality=modality) for each in (store, exact))
            share.append(len(set(ids_of(found)) & set(ids_of(expected))) / 10)
            assert len(found) == 10
    assert np.mean(share) > 0.97
    assert scanned(connection) == ["photos_image_hnsw", "photos_text_hnsw"]
    store.search(queries[0], modality="text")
    assert scanned(connection) == ["photos_text_hnsw"]


def test_a_search_that_a_graph_could_spoil_is_exact(connection, clusters):
    """With a filter, of a small collection, or for more than a graph gives."""
    given, queries, exact = clusters
    store = PgVectorStore.open(connection, "photos", CONFIG, hnsw=Hnsw(m=2, ef_construction=4), candidates=1)
    store.upsert(given)
    connection.execute("ANALYZE photos")
    scanned(connection)
    for query in queries[:5]:
        for options in ({"where": {"n": {"lt": 200}}}, {"limit": 13}, {"limit": 1001}):
            found, expected = (each.search(query, **options) for each in (store, exact))
            assert ids_of(found) == ids_of(expected)
    assert scanned(connection) == []
    store.search(queries[0])
    assert scanned(connection) != []


def test_what_a_graph_needs_is_set_for_one_search(store, connection, clusters):
    given, queries, _ = clusters
    PgVectorStore.open(connection, "photos", CONFIG, hnsw=Hnsw())
    store = PgVectorStore.open(connection, "photos", CONFIG, candidates=100)
    store.upsert(given)
    with connection.transaction():  # where a setting of ours would stay to its end
        assert len(store.search(queries[0])) == 10
        for name, value in {"hnsw.iterative_scan": "off", "hnsw.ef_search": "40", "enable_seqscan": "on"}.items():
            assert column(connection, f"SHOW {name}") == [value]


# Filters


def test_numbers_are_compared_as_python_compares_them(store):
    store.upsert([dataclasses.replace(records(0, 1)[0], metadata={"n": 0.1 + 0.2})])
    assert store.count(where={"n": {"gt": 0.3}}) == 1  # with numeric, which is JSONB's, they would be equal
    assert store.count(where={"n": {"gt": 0.1 + 0.2}}) == 0
    assert store.count(where={"n": {"lte": 0.30000000000000004}}) == 1


def test_a_rare_term_is_found_by_the_index(store, connection):
    store.upsert([dataclasses.replace(each, metadata={"n": i}) for i, each in enumerate(records(0, 3000))])
    connection.execute("ANALYZE photos")
    connection.execute("SELECT pg_stat_reset()")
    assert ids_of(store.search(QUERY, where={"n": {"in": [7, 8]}})) != []
    assert store.count(where={"n": 9}) == 1
    connection.execute("SELECT pg_stat_force_next_flush()")
    assert column(connection, "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'photos_terms'") == [2]


def test_a_native_filter_asks_the_fields_of_the_metadata(store):
    store.upsert(
        [dataclasses.replace(each, metadata={"year": 2018 + i, "name": "%"}) for i, each in enumerate(records(0, 4))]
    )
    years = NativeFilter(sql.SQL("(fields ->> 'year')::int BETWEEN {} AND 2020").format(2019))
    assert sorted(ids_of(store.search(QUERY, where=years))) == ["1", "2"]
    assert store.count(where=years, modality="text") == 0
    assert store.count(where=NativeFilter(sql.SQL("fields ->> 'name' LIKE '%%' AND key IS NOT NULL"))) == 4
    store.delete(where=years)
    assert sorted(ids_of(store.scroll())) == ["0", "3"]


def test_a_native_filter_that_postgresql_refuses_is_told(store):
    with pytest.raises(StoreRequestError, match=r"refuses the request \(42703\): column \"year\" does not exist"):
        store.count(where=NativeFilter(sql.SQL("year = 2020")))


@pytest.mark.parametrize("value", ["TRUE", {"year": 2020}, ("TRUE", []), None])
def test_a_native_filter_of_another_kind_is_refused_before_anything_is_asked(store, connection, value):
    connection.close()
    for call in (store.count, store.delete, store.scroll, lambda where: store.search(QUERY, where=where)):
        with pytest.raises(EmbedInputError, match=r"PostgreSQL needs a `psycopg.sql.Composable`"):
            call(where=NativeFilter(value))


def test_fields_hold_what_jsonb_can_hold(store, connection):
    odd = {
        "a\0": 1,
        "zero": ["\0"],
        "half": {"a": "\udc80"},
        "\ud800": 1,
        "large": 10**400,
        "small": 5e-324,
        **METADATA,
    }
    store.upsert([dataclasses.replace(records(0, 1)[0], metadata=odd)])
    (fields,) = column(connection, "SELECT fields FROM photos")
    kept = {key: value for key, value in METADATA.items() if "\ud800" not in str(value)}
    assert fields == {"large": 10**400, "small": 5e-324, **kept}
    assert store.get(["0"])[0].metadata == odd


# The caller's settings


def test_what_a_caller_has_set_on_the_connection_changes_nothing(connect):
    given = [dataclasses.replace(each, metadata={"n": i}) for i, each in enumerate(records(0, 5))]
    plain = PgVectorStore.open(connect(), "photos", TILED, coarse_dimensions=4)
    plain.upsert(given)

    class Shouting(TextLoader):
        def load(self, data):
            return str(super().load(data)).upper()

    own = connect(row_factory=dict_row, cursor_factory=psycopg.ClientCursor, prepare_threshold=0)
    own.adapters.register_loader("float8", Shouting)  # of the text format
    store = PgVectorStore.open(own, "photos", TILED)
    for _ in range(3):
        assert store.search(QUERY, tiles=True, where={"n": {"gt": 1}}) == plain.search(
            QUERY, tiles=True, where={"n": {"gt": 1}}
        )
    assert [each.metadata for each in store.scroll()] == [each.metadata for each in plain.scroll()]
    store.upsert(given)
    assert store.count() == 5
    assert own.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_a_search_in_a_model_that_was_trained_for_prefixes_is_in_two_stages(connection):
    config = EmbeddingConfig(model="jinaai/jina-clip-v2", dimensions=256, tiling=Tiling(max_tiles=4))
    store = PgVectorStore.open(connection, "photos", config)
    rows = vectors(30, length=256)
    store.upsert([Record(record_id=str(i), modality="image", embedding=row) for i, row in enumerate(rows)])
    (hit,) = store.search(rows[7], limit=1)
    assert hit.record_id == "7"
    assert hit.score == pytest.approx(1, abs=1e-6)
