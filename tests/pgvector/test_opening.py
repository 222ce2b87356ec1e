"""How a collection in PostgreSQL is made, found, and told from what others have made."""

import dataclasses
import threading

import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.pgvector import Hnsw, PgVectorStore, opening, stored_fingerprint
from tests.pgvector.parts import CONFIG, QUERY, TILED, UNSIZED, column, ids_of, records

V2 = "jinaai/jina-clip-v2"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1"
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname LIKE '%%hnsw' ORDER BY 1"


def types(connection, table="photos"):
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND attname IN ('embedding', 'first')"
    )
    return dict(connection.execute(query, [table]).fetchall())


def test_what_was_written_is_there_for_another_connection(connection, connect):
    PgVectorStore.open(connection, "photos", CONFIG).upsert(records(0, 3))
    assert ids_of(PgVectorStore.open(connect(), "photos", CONFIG).get(["0", "1", "2"])) == ["0", "1", "2"]


def test_a_connection_without_autocommit_is_committed_where_it_is_in_no_transaction(connect):
    store = PgVectorStore.open(connect(autocommit=False), "photos", CONFIG)
    store.upsert(records(0, 3))
    assert PgVectorStore.open(connect(), "photos", CONFIG).count() == 3


@pytest.mark.parametrize("kind", ["TABLE photos (n int)", "VIEW photos AS SELECT 1 AS n"])
def test_a_table_of_another_program_is_refused_and_left_alone(connection, kind):
    connection.execute(f"CREATE {kind}")
    for call in (
        lambda: PgVectorStore.open(connection, "photos", CONFIG),
        lambda: stored_fingerprint(connection, "photos"),
    ):
        with pytest.raises(StoreRequestError, match="another program made the table 'photos'"):
            call()
    assert column(connection, TABLES) == ["photos"]
    PgVectorStore.open(connection, "others", CONFIG)
    with pytest.raises(StoreRequestError, match="another program made the table 'photos'"):
        PgVectorStore.open(connection, "photos", CONFIG)
    assert column(connection, TABLES) == ["jclip_collections", "others", "photos"]


def test_a_table_of_another_program_in_the_place_of_the_tiles_is_refused_and_nothing_made(connection):
    connection.execute("CREATE TABLE photos_tiles (n int)")
    with pytest.raises(StoreRequestError, match="photos_tiles"):
        PgVectorStore.open(connection, "photos", TILED)
    assert column(connection, TABLES) == ["photos_tiles"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE jclip_collections SET fingerprint = 'x'", "damaged"),
        ("UPDATE jclip_collections SET layout = '{}'", "damaged"),
        ("UPDATE jclip_collections SET layout = '[]'", "damaged"),
        ("UPDATE jclip_collections SET format = 2", "another version"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused(connection, change, message):
    PgVectorStore.open(connection, "photos", CONFIG)
    connection.execute(change)
    with pytest.raises(StoreRequestError, match=message):
        PgVectorStore.open(connection, "photos", CONFIG)


def test_a_collection_whose_table_is_gone_is_told(connection):
    store = PgVectorStore.open(connection, "photos", CONFIG)
    connection.execute("DROP TABLE photos")
    with pytest.raises(StoreRequestError, match=r"no such table: relation \"public.photos\""):
        store.count()
    with pytest.raises(StoreRequestError, match="table of the collection 'photos' is missing"):
        PgVectorStore.open(connection, "photos", CONFIG)


def test_the_stored_fingerprint_is_told_without_a_configuration(connection):
    assert stored_fingerprint(connection, "photos") is None
    PgVectorStore.open(connection, "photos", CONFIG)
    assert stored_fingerprint(connection, "photos") == CONFIG.fingerprint()
    assert stored_fingerprint(connection, "other") is None


def test_collections_of_one_name_in_two_schemas_are_two(new_database):
    new_database.execute('CREATE SCHEMA "my ""schema"')
    PgVectorStore.open(new_database, "photos", CONFIG).upsert(records(0, 3))
    other = PgVectorStore.open(new_database, "photos", TILED, schema='my "schema')
    assert other.count() == 0
    assert stored_fingerprint(new_database, "photos", schema='my "schema') == TILED.fingerprint()
    with pytest.raises(StoreRequestError, match="absent"):
        PgVectorStore.open(new_database, "photos", CONFIG, schema="absent")


@pytest.mark.parametrize("options", [{}, {"hnsw": Hnsw()}])
def test_of_several_that_make_one_collection_at_once_all_get_it(connection, connect, options):
    together = threading.Barrier(4)
    made: list[PgVectorStore] = []

    def make(own):
        together.wait()
        made.append(PgVectorStore.open(own, "photos", CONFIG, **options))

    threads = [threading.Thread(target=make, args=(connect(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made[0].upsert(records(0, 1))
    assert [store.count() for store in made] == [1] * 4
    assert column(connection, "SELECT name FROM jclip_collections") == ["photos"]


def test_a_collection_that_another_process_makes_between_two_questions_is_ours(connection, connect, monkeypatch):
    ask, other = opening._ask_table, connect()

    def made_meanwhile(names):
        monkeypatch.undo()
        PgVectorStore.open(other, "photos", CONFIG)
        return ask(names)

    monkeypatch.setattr(opening, "_ask_table", made_meanwhile)  # asked where there is no registry yet
    assert PgVectorStore.open(connection, "photos", CONFIG).count() == 0


def test_another_configuration_is_refused_and_every_difference_named(connection):
    PgVectorStore.open(connection, "photos", CONFIG)
    with pytest.raises(CollectionMismatchError, match="`dimensions` 16 \\(now 8\\)"):
        PgVectorStore.open(connection, "photos", dataclasses.replace(CONFIG, dimensions=8))


def test_a_collection_of_unknown_length_wants_dimensions(connection):
    with pytest.raises(EmbedInputError, match="give `dimensions`"):
        PgVectorStore.open(connection, "photos", UNSIZED)
    PgVectorStore.open(connection, "photos", UNSIZED, dimensions=8)
    assert types(connection) == {"embedding": "vector(8)"}
    PgVectorStore.open(connection, "photos", UNSIZED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"storage": "sparsevec"}, "`storage` is 'sparsevec'"),
        ({"quantization": "scalar"}, "`quantization` is 'scalar'"),
        ({"coarse_dimensions": 16}, "`coarse_dimensions` is 16"),
        ({"candidates": 0}, "`candidates` is 0"),
        ({"dimensions": 16_001}, "`dimensions` is 16001; use an int from 1 to 16000"),
        ({"schema": "a" * 53}, "`schema` is 'a+'; use 1 to 52 bytes"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_asked(connection, options, message):
    connection.close()
    with pytest.raises(EmbedInputError, match=message):
        PgVectorStore.open(connection, "photos", UNSIZED if "dimensions" in options else CONFIG, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 1}, "`m` of `hnsw` is 1; use an int from 2 to 100"),
        ({"m": True}, "`m` of `hnsw` is True"),
        ({"m": 50}, "`ef_construction` of `hnsw` is 64; use an int from 100 to 1000"),
        ({"ef_construction": 1001}, "`ef_construction` of `hnsw` is 1001"),
    ],
)
def test_an_option_of_the_graph_out_of_range_is_refused(options, message):
    with pytest.raises(EmbedInputError, match=message):
        Hnsw(**options)


@pytest.mark.parametrize("name", ["", "a" * 53, "ü" * 27, "a\0b", "\ud800", 7, None, "jclip_collections"])
def test_a_name_that_postgresql_does_not_have_is_refused(connection, name):
    connection.close()
    for call in (
        lambda: PgVectorStore.open(connection, name, CONFIG),
        lambda: stored_fingerprint(connection, name),
    ):
        with pytest.raises(EmbedInputError, match="`collection_name`"):
            call()


@pytest.mark.parametrize("name", ["a" * 52, "ü" * 26, 'quo"te', "semi; DROP TABLE a", "%s", "{}", "select", "Photos"])
def test_any_other_name_is_a_name(connection, name):
    store = PgVectorStore.open(connection, name, TILED, hnsw=Hnsw(), coarse_dimensions=8)
    store.upsert(records(0, 3))
    assert len(PgVectorStore.open(connection, name, TILED, candidates=1).search(QUERY, tiles=True)) == 3
    assert column(connection, TABLES) == sorted([name, f"{name}_tiles", "jclip_collections"], key=str.encode)


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        (CONFIG, {}, {"embedding": "vector(16)"}),
        (EmbeddingConfig(model=V2), {}, {"embedding": "vector(1024)", "first": "vector(64)"}),
        (EmbeddingConfig(model=V2, dimensions=128), {}, {"embedding": "vector(128)"}),
        (EmbeddingConfig(model=V2), {"coarse_dimensions": None}, {"embedding": "vector(1024)"}),
        (EmbeddingConfig(model=V2), {"quantization": "binary"}, {"embedding": "vector(1024)", "first": "bit(1024)"}),
        (CONFIG, {"storage": "halfvec", "coarse_dimensions": 4}, {"embedding": "halfvec(16)", "first": "halfvec(4)"}),
        (CONFIG, {"quantization": "binary", "coarse_dimensions": 4}, {"embedding": "vector(16)", "first": "bit(4)"}),
    ],
)
def test_the_options_decide_what_is_kept_and_what_is_searched_first(connection, config, options, expected):
    PgVectorStore.open(connection, "photos", config, **options)
    assert types(connection) == expected
    PgVectorStore.open(connection, "photos", config)  # as it was made
    PgVectorStore.open(connection, "photos", config, **options)
    assert types(connection) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"storage": "halfvec"}, "`storage` is 'halfvec', but the collection 'photos' was made with 'vector'"),
        ({"coarse_dimensions": None}, "`coarse_dimensions` is None, .* with 8"),
        ({"quantization": "binary"}, "`quantization` is 'binary', .* with None"),
        ({"hnsw": Hnsw()}, r"`hnsw` is Hnsw\(m=16, .* with Hnsw\(m=8"),
    ],
)
def test_other_options_than_those_of_the_collection_are_refused_with_both_values(connection, options, message):
    PgVectorStore.open(connection, "photos", CONFIG, coarse_dimensions=8, hnsw=Hnsw(m=8))
    with pytest.raises(EmbedInputError, match=message):
        PgVectorStore.open(connection, "photos", CONFIG, **options)


def test_an_index_is_added_to_a_collection_that_has_none_and_kept(connection):
    PgVectorStore.open(connection, "photos", CONFIG).upsert(records(0, 3))
    assert column(connection, INDEXES) == []
    PgVectorStore.open(connection, "photos", CONFIG, hnsw=Hnsw(m=8, ef_construction=32))
    made = column(connection, INDEXES)
    assert [definition.partition(" WHERE ")[2] for definition in made] == [
        "(modality = 'image'::text)",
        "(modality = 'text'::text)",
    ]
    assert all("vector_cosine_ops) WITH (m='8', ef_construction='32')" in definition for definition in made)
    for hnsw in (None, Hnsw(m=8, ef_construction=32)):
        PgVectorStore.open(connection, "photos", CONFIG, hnsw=hnsw)
    assert column(connection, INDEXES) == made


@pytest.mark.parametrize(
    ("length", "options", "kind"),
    [(2001, {}, "2001 values of the type vector"), (4001, {"storage": "halfvec"}, "4001 values of the type halfvec")],
)
def test_vectors_too_long_for_an_index_are_refused_with_what_can_be_done(connection, length, options, kind):
    config = dataclasses.replace(CONFIG, dimensions=length)
    with pytest.raises(EmbedInputError, match=f"`hnsw` needs an index of {kind}, .* use `coarse_dimensions`"):
        PgVectorStore.open(connection, "photos", config, hnsw=Hnsw(), **options)
    assert column(connection, TABLES) == []
    PgVectorStore.open(connection, "photos", config, coarse_dimensions=64, hnsw=Hnsw(), **options)


def test_a_role_that_may_only_read_can_search(connection, connect):
    PgVectorStore.open(connection, "photos", CONFIG, hnsw=Hnsw()).upsert(records(0, 210))
    connection.execute("CREATE ROLE reader; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = connect()
    reader.execute("SET ROLE reader")
    store = PgVectorStore.open(reader, "photos", CONFIG, candidates=1)
    assert len(store.search(QUERY, limit=1)) == 1
    assert store.count() == len(list(store.scroll())) == 210
    with pytest.raises(StoreRequestError, match="refuses the credentials: permission denied for table photos"):
        store.delete(["0"])
    reader.close()
    connection.execute("DROP OWNED BY reader; DROP ROLE reader")


def test_a_role_that_may_make_nothing_is_told(connection, connect):
    connection.execute("CREATE ROLE guest")
    guest = connect()
    guest.execute("SET ROLE guest")
    with pytest.raises(StoreRequestError, match="refuses the credentials: permission denied for schema public"):
        PgVectorStore.open(guest, "photos", CONFIG)
    guest.close()
    connection.execute("DROP ROLE guest")


def test_a_database_without_pgvector_or_with_an_old_one_is_told_what_to_do(new_database):
    new_database.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    with pytest.raises(StoreRequestError, match=r"the server has pgvector 0\.7\.4, .* ALTER EXTENSION vector UPDATE"):
        PgVectorStore.open(new_database, "photos", CONFIG)
    new_database.execute("DROP EXTENSION vector")
    with pytest.raises(StoreRequestError, match="run CREATE EXTENSION vector in the database"):
        PgVectorStore.open(new_database, "photos", CONFIG)
    new_database.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    with pytest.raises(StoreRequestError, match="a schema that is not in `search_path`"):
        PgVectorStore.open(new_database, "photos", CONFIG)
    new_database.execute("SET search_path = public, extensions")
    store = PgVectorStore.open(new_database, "photos", CONFIG, coarse_dimensions=8, hnsw=Hnsw(), candidates=1)
    store.upsert(records(0, 210))
    assert len(store.search(QUERY, limit=1)) == 1


def test_a_closed_connection_is_told(connection):
    connection.close()
    with pytest.raises(StoreUnavailableError, match=r"the connection is closed\. Connect again, or use a pool"):
        PgVectorStore.open(connection, "photos", CONFIG)
