"""How records are written to PostgreSQL: a transaction for each batch, alone or in the caller's, and many at once."""

import dataclasses
import threading

import numpy as np
import psycopg_pool
import pytest

from jclip_connectors.errors import PartialFailureError, StoreRequestError
from jclip_connectors.pgvector import PgVectorStore, operations
from tests.doubles.postgres_faults import refuse
from tests.pgvector.parts import CONFIG, QUERY, TILED, column, ids_of, records, vectors

BATCHES = "SELECT count(*) FROM photos GROUP BY xmin::text ORDER BY 1"  # xmin: the transaction that wrote a row
TEMPORARY = "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"


@pytest.fixture
def store(connection):
    return PgVectorStore.open(connection, "photos", CONFIG)


@pytest.fixture
def pool(server, database):
    address = server.address(database)
    with psycopg_pool.ConnectionPool(kwargs=address, min_size=1, max_size=4, open=True) as pool:
        yield pool


def test_records_are_written_by_the_thousand_each_thousand_in_one_transaction(store, connection):
    store.upsert(records(0, 2500))
    assert column(connection, BATCHES) == [500, 1000, 1000]
    assert column(connection, TEMPORARY) == []


def test_large_records_are_written_by_their_size(store, connection, monkeypatch):
    monkeypatch.setattr(operations, "_BATCH_BYTES", 100_000)
    long = "x" * 20_000
    store.upsert([dataclasses.replace(each, metadata={"text": long}) for each in records(0, 5)])
    assert column(connection, BATCHES) == [1, 2, 2]
    store.upsert([dataclasses.replace(each, metadata={"text": long * 10}) for each in records(0, 2)])
    assert column(connection, BATCHES) == [1, 1, 1, 2]
    assert len(store.get(["0"])[0].metadata["text"]) == 200_000


def test_a_refused_batch_is_reported_by_position_and_the_others_are_written(store, connection, monkeypatch):
    monkeypatch.setattr(operations, "_BATCH_RECORDS", 2)
    refuse(connection, '"record_id": "3"')
    given = records(0, 6)
    with pytest.raises(PartialFailureError, match="2 of 6 records failed: 2: ") as caught:
        store.upsert(given)
    assert sorted(caught.value.failed) == [2, 3]
    assert sorted(caught.value.kept) == [0, 1, 4, 5]
    assert sorted(ids_of(store.scroll())) == ["0", "1", "4", "5"]


def test_what_the_server_says_about_a_row_is_told_without_the_row(store, connection):
    refuse(connection, "my secret text")
    with pytest.raises(StoreRequestError, match='violates check constraint "wanted"') as caught:
        store.upsert([dataclasses.replace(records(0, 1)[0], metadata={"text": "my secret text"})])
    assert "my secret text" not in str(caught.value)


@pytest.mark.usefixtures("quick")
def test_a_batch_that_does_not_get_through_stops_the_rest(store, connection, connect, monkeypatch):
    monkeypatch.setattr(operations, "_BATCH_RECORDS", 2)
    store.upsert(records(2, 3))
    with connect(autocommit=False) as holder:
        holder.execute("SELECT FROM photos FOR UPDATE")
        connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(PartialFailureError, match="did not answer in time") as caught:
            store.upsert(records(0, 6))
    assert sorted(caught.value.failed) == [2, 3, 4, 5]
    assert sorted(ids_of(store.scroll())) == ["0", "1", "2"]


# In a transaction of the caller's


def test_in_a_transaction_of_the_callers_everything_is_a_part_of_it(connection, connect):
    store = PgVectorStore.open(connection, "photos", TILED)
    other = PgVectorStore.open(connect(), "photos", TILED)
    with connection.transaction() as transaction:
        store.upsert(records(0, 2))
        store.upsert(records(1, 4))  # another batch of the same transaction
        assert store.count() == 4
        assert other.count() == 0
        store.delete(["3"])
    assert other.count() == 3
    with connection.transaction(force_rollback=True):
        store.delete(where={})
        assert store.count() == 0
    assert other.count() == 3
    assert transaction.status.name == "COMMITTED"


def test_after_a_refused_batch_the_callers_transaction_goes_on(store, connection):
    refuse(connection, '"record_id": "3"')
    with connection.transaction():
        store.upsert(records(0, 2))
        with pytest.raises(StoreRequestError):
            store.upsert(records(2, 4))
    assert sorted(ids_of(store.scroll())) == ["0", "1"]


def test_a_transaction_that_has_failed_is_told(connect):
    connection = connect(autocommit=False)
    store = PgVectorStore.open(connection, "photos", CONFIG)
    with pytest.raises(Exception, match="division by zero"):
        connection.execute("SELECT 1 / 0")
    with pytest.raises(StoreRequestError, match="the transaction on this connection has already failed: roll it back"):
        store.count()
    connection.rollback()
    assert store.count() == 0


# Tiles


def test_tiles_go_with_their_records(connection):
    store = PgVectorStore.open(connection, "photos", TILED)
    tiles = {"tile_embeddings": vectors(3), "tile_boxes": np.arange(12).reshape(3, 4)}
    store.upsert(records(0, 3, **tiles))
    count = "SELECT count(*) FROM photos_tiles"
    assert column(connection, count) == [9]
    store.upsert([*records(0, 1), *records(1, 2, tile_embeddings=vectors(1), tile_boxes=np.zeros((1, 4), int))])
    assert column(connection, count) == [4]
    assert [each.tile_boxes is None for each in store.get(["0", "1", "2"])] == [True, False, False]
    store.delete(["2"])
    assert column(connection, count) == [1]
    store.delete(where={})
    assert column(connection, count) == [0]


# Many at once


def together(number, work):
    """Run `work(i)` in threads that begin at once; what they raised."""
    barrier, raised = threading.Barrier(number), []

    def run(i):
        barrier.wait()
        try:
            work(i)
        except Exception as error:  # noqa: BLE001 (told by the test)
            raised.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("config", [CONFIG, TILED])
def test_batches_with_the_same_records_in_any_order_do_not_stand_in_each_others_way(pool, config):
    store = PgVectorStore.open(pool, "photos", config)
    rng = np.random.default_rng(0)

    def write(i):
        given = records(0, 100, metadata={"writer": i})
        if config is TILED:
            tiles = {"tile_embeddings": vectors(i + 1), "tile_boxes": np.full((i + 1, 4), i)}
            given = [dataclasses.replace(each, **tiles) for each in given]
        for _ in range(5):
            store.upsert([given[position] for position in rng.permutation(100)])

    assert together(4, write) == []
    kept = list(store.scroll())
    assert len(kept) == 100
    if config is TILED:
        for each in kept:  # a record and its tiles are of one writer
            writer = each.metadata["writer"]
            assert np.asarray(each.tile_boxes).tolist() == [[writer] * 4] * (writer + 1)


@pytest.mark.parametrize("shared", ["pool", "connection"])
def test_threads_may_share_a_store(pool, connection, shared):
    store = PgVectorStore.open(pool if shared == "pool" else connection, "photos", CONFIG)

    def work(i):
        for start in range(0, 100, 20):
            store.upsert(records(1000 * i + start, 1000 * i + start + 20))
            assert len(store.search(QUERY, limit=5)) == 5

    assert together(4, work) == []
    assert store.count() == 400


def test_stores_may_share_a_connection_in_threads(connection):
    stores = [PgVectorStore.open(connection, name, CONFIG) for name in ("a", "b", "c", "d")]

    def work(i):
        for start in range(0, 100, 20):
            stores[i].upsert(records(start, start + 20))
            assert len(stores[i].search(QUERY, limit=5)) == 5

    assert together(4, work) == []
    assert [store.count() for store in stores] == [100] * 4
