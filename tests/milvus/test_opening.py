"""Opening: what is made, what is refused, and who else may be at it."""

import contextlib
import dataclasses
import sys
import threading

import pytest
from pymilvus import DataType, MilvusClient

from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, MissingDependencyError, StoreRequestError
from jclip_connectors.milvus import MilvusStore, stored_fingerprint
from jclip_connectors.milvus.aliases import aliased_collection, point_alias
from jclip_connectors.milvus.opening import make_plan
from tests.doubles.milvus_server import MilvusServer
from tests.milvus.parts import CONFIG, QUERY, TILED, ids_of, opened, records

slow = pytest.mark.slow


@pytest.fixture
def client(path):
    client = MilvusClient(str(path), dedicated=True)
    yield client
    client.close()


def make(client, name, **properties):
    """A collection of another program."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema, properties=properties)


@slow
@pytest.mark.parametrize("properties", [{}, {"jclip.fingerprint": "{"}, {"jclip.fingerprint": "[1]"}, {"other": "x"}])
def test_a_collection_of_another_program_is_refused_and_left_alone(client, properties):
    make(client, "photos", **properties)
    before = client.describe_collection("photos")
    for call in (lambda: MilvusStore.open(client, "photos", CONFIG), lambda: stored_fingerprint(client, "photos")):
        with pytest.raises(StoreRequestError, match="'photos' has no fingerprint: another program made it"):
            call()
    assert client.describe_collection("photos") == before
    assert client.list_collections() == ["photos"]


@slow
def test_a_collection_of_another_program_in_the_place_of_the_tiles_is_refused(client):
    make(client, "photos_tiles")
    with pytest.raises(StoreRequestError, match="'photos_tiles' has no fingerprint"):
        MilvusStore.open(client, "photos", TILED)
    assert "id" in [field["name"] for field in client.describe_collection("photos_tiles")["fields"]]


@slow
def test_the_tiles_of_a_collection_are_no_collection(client):
    with opened(client, TILED):
        pass
    with pytest.raises(StoreRequestError, match="it keeps tiles; use another name"):
        MilvusStore.open(client, "photos_tiles", CONFIG)
    with opened(client, CONFIG, name="others_tiles"):
        pass
    with pytest.raises(StoreRequestError, match="'others_tiles' has no fingerprint"):
        MilvusStore.open(client, "others", TILED)


@slow
def test_another_configuration_is_refused_and_every_difference_named(client):
    with opened(client):
        pass
    with pytest.raises(CollectionMismatchError) as caught:
        MilvusStore.open(client, "photos", dataclasses.replace(TILED, revision="2"))
    assert "`revision` '1' (now '2')" in str(caught.value)
    assert "`tiling` None (now 'max_tiles=4')" in str(caught.value)
    assert client.list_collections() == ["photos"]


@slow
def test_a_fingerprint_survives_writes_and_a_new_process(path):
    with opened(path) as store:
        store.upsert(records(0, 3))
        store.delete(where={})
    assert stored_fingerprint(path, "photos") == CONFIG.fingerprint()


@slow
def test_of_several_that_make_one_collection_at_once_all_get_it(path):
    found, errors = [], []
    barrier = threading.Barrier(4)

    def work(number):
        barrier.wait()
        try:
            with opened(path, TILED) as store:
                store.upsert(records(10 * number, 10 * number + 10))
                found.append(number)
        except Exception as error:
            errors.append(error)
            raise

    with opened(path, name="others"):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with opened(path, TILED) as store:
            assert store.count() == len(set(ids_of(store.scroll()))) == 40


@slow
def test_a_collection_that_another_process_makes_between_two_questions_is_ours(client, monkeypatch):
    create = client.create_collection

    def beaten(name, **options):
        create(name, **options)
        create(name, **options)

    monkeypatch.setattr(client, "create_collection", beaten)
    with opened(client, TILED) as store:
        store.upsert(records(0, 3))
        assert store.count() == 3


@slow
def test_a_collection_of_unknown_length_wants_dimensions_once(client):
    config = dataclasses.replace(CONFIG, dimensions=None)
    with pytest.raises(EmbedInputError, match="give `dimensions`"):
        MilvusStore.open(client, "photos", config)
    assert client.list_collections() == []
    with opened(client, config, dimensions=16) as store:
        store.upsert(records(0, 3))
    with opened(client, config) as store:
        assert store.count() == 3
    with pytest.raises(EmbedInputError, match="`dimensions` is 8, but the collection 'photos' was made with 16"):
        MilvusStore.open(client, "photos", config, dimensions=8)


@slow
def test_what_is_left_of_another_collection_is_not_taken_for_its_tiles(client):
    config = dataclasses.replace(TILED, dimensions=None)
    with opened(client, config, dimensions=8):
        pass
    client.drop_collection("photos")
    with pytest.raises(StoreRequestError, match="'photos_tiles' is for vectors of 8 values, and 'photos' for 16"):
        MilvusStore.open(client, "photos", config, dimensions=16)


@slow
def test_the_kind_of_the_index_is_kept_and_another_one_refused(client):
    with opened(client, index="HNSW"):
        pass
    with opened(client) as store:
        assert store._client.describe_index("photos", "embedding")["index_type"] == "HNSW"
    with pytest.raises(EmbedInputError, match="`index` is 'FLAT', but the collection 'photos' was made with 'HNSW'"):
        MilvusStore.open(client, "photos", CONFIG, index="FLAT")
    with opened(client, name="others") as store:
        assert store._client.describe_index("others", "embedding")["index_type"] == "FLAT"


@slow
def test_a_collection_without_an_index_gets_it_where_none_is_loaded_without_one():
    asked: list[tuple[str, str, str]] = []
    with MilvusServer() as server, contextlib.closing(server.connect()) as client:
        with opened(client):
            pass
        server.fail("LoadCollection", code=700, reason="index not found")  # which Milvus Lite does not mind

        def create_index(name, index_params, **_):
            asked.extend((name, index.field_name, index.index_type) for index in index_params)
            server.recover()

        client.create_index = create_index
        with opened(client) as store:
            assert store.count() == 0
    assert asked == [("photos", "embedding", "FLAT")]


@slow
def test_on_a_server_there_is_a_graph_and_an_index_for_filters_and_a_refused_one_is_told_in_the_log(caplog):
    asked: list[tuple[str, str, str]] = []
    with MilvusServer(version="3.0.0") as server, contextlib.closing(server.connect()) as client:
        create = client.create_index

        def create_index(name, index_params, **options):
            asked.extend((name, index.field_name, index.index_type) for index in index_params)
            return create(name, index_params, **options)

        client.create_index = create_index
        with opened(client, TILED) as store:
            store.upsert(records(0, 20))
            assert ids_of(store.search(QUERY, limit=3)) == ids_of(store.search(QUERY, limit=3, tiles=True))
    assert asked == [
        ("photos", "embedding", "HNSW"),
        ("photos", "terms", "INVERTED"),
        ("photos", "lineage", "INVERTED"),
        ("photos_tiles", "embedding", "HNSW"),
        ("photos_tiles", "terms", "INVERTED"),
        ("photos_tiles", "owner", "INVERTED"),
        ("photos_tiles", "lineage", "INVERTED"),
    ]
    assert "no index of terms, so filters read every row" in caplog.text  # this engine has none for lists


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "IVF_FLAT"}, "`index` is 'IVF_FLAT'"),
        ({"index": 5}, "`index` is 5"),
        ({"hnsw_ef": 0}, "`hnsw_ef` is 0"),
        ({"dimensions": 40_000}, "`dimensions` is 40000; use an int from 1 to 32768"),
        ({"timeout_s": 0}, "`timeout_s` is 0"),
        ({"timeout_s": float("inf")}, "`timeout_s` is inf"),
        ({"timeout_s": "5"}, "`timeout_s` is '5'"),
        ({"timeout_s": True}, "`timeout_s` is True"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_asked(options, message):
    given = {"index": None, "hnsw_ef": None, "dimensions": None, "timeout_s": 60, **options}
    with pytest.raises(EmbedInputError, match=message):
        make_plan("photos", dataclasses.replace(CONFIG, dimensions=None), **given)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "ü", "a.b", "x" * 250, "a;b", None, 5, "a\n", 'a"'])
def test_a_name_that_milvus_does_not_have_is_refused(name):
    with pytest.raises(EmbedInputError, match="`collection_name` is "):
        stored_fingerprint(MilvusClient, name)


@slow
def test_any_other_name_is_a_name(client):
    for name in ("a", "_", "Photos_2024", "x" * 200):
        with opened(client, name=name) as store:
            store.upsert(records(0, 1))
            assert store.count() == 1


@slow
def test_a_collection_opens_by_an_alias_and_is_not_written_to_once_that_stands_for_another(path, client):
    for name in ("photos_1", "photos_2"):
        with opened(client, TILED, name=name) as store:
            store.upsert(records(0, 3 if name == "photos_1" else 5))
    client.create_alias("photos_1", "photos")
    assert (aliased_collection(path, "photos"), aliased_collection(client, "photos_1")) == ("photos_1", None)
    assert stored_fingerprint(client, "photos") == TILED.fingerprint()
    with opened(client, TILED) as store:
        assert (store.count(), len(store.search(QUERY, tiles=True))) == (3, 3)
        with pytest.raises(StoreRequestError, match="'photos' stood for 'photos_2', and stands for 'photos_1' now"):
            point_alias(client, "photos", old="photos_2", new="photos_1")
        point_alias(path, "photos", old="photos_1", new="photos_2")
        with pytest.raises(
            StoreRequestError, match="stood for 'photos_1', and stands for 'photos_2' now: open it again"
        ):
            store.upsert(records(7, 8))
        assert store.count() == 3  # what is open is read as it was
    with opened(client, TILED) as store:
        assert (store.count(), len(store.search(QUERY, tiles=True))) == (5, 5)
    assert client.list_collections() == sorted([f"photos_{n}{end}" for n in (1, 2) for end in ("", "_tiles")])


@slow
def test_milvus_lite_that_is_not_installed_is_told_with_its_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "milvus_lite.server_manager", None)
    with pytest.raises(MissingDependencyError, match=r"jclip-connectors\[milvus-lite\]"):
        MilvusStore.open(path, "photos", CONFIG)
