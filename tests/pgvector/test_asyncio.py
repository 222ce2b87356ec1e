"""The asyncio store: the suite of all stores, and many tasks over one connection or a pool."""

import asyncio
import contextlib

import psycopg
import psycopg_pool
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, StoreUnavailableError
from jclip_connectors.pgvector import AsyncPgVectorStore, Hnsw, PgVectorStore
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import PLAIN, StoreContract
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from tests.doubles import pgvector_stores
from tests.pgvector.parts import CONFIG, QUERY, TILED, records


class TestAsyncPgVectorStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        with pgvector_stores.schema() as (_, schema), EventLoop() as loop:
            connection = loop.run(psycopg.AsyncConnection.connect(**pgvector_stores.address()))

            def open_store(config):
                if config not in opened:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    name = f"photos {len(opened)}"
                    opening = AsyncPgVectorStore.open(connection, name, config, schema=schema, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(connection.close())


@contextlib.asynccontextmanager
async def lent(kind, address):
    """A connection, or a pool."""
    if kind == "connection":
        async with await psycopg.AsyncConnection.connect(**address) as connection:
            yield connection
    else:
        async with psycopg_pool.AsyncConnectionPool(kwargs=address, min_size=1, max_size=3, open=False) as pool:
            yield pool


@pytest.mark.parametrize("kind", ["connection", "pool"])
def test_tasks_may_share_a_store(server, database, kind):
    async def work(store, i):
        await store.upsert(records(100 * i, 100 * i + 20))
        return len(await store.search(QUERY, limit=5))

    async def main():
        async with lent(kind, server.address(database)) as connection:
            store = await AsyncPgVectorStore.open(connection, "photos", TILED, coarse_dimensions=4, hnsw=Hnsw())
            assert await asyncio.gather(*(work(store, i) for i in range(8))) == [5] * 8
            return await store.count()

    assert asyncio.run(main()) == 160


def test_stores_may_share_a_connection_in_tasks(server, database):
    async def work(store):
        await store.upsert(records(0, 20))
        return len(await store.search(QUERY, limit=5))

    async def main():
        async with lent("connection", server.address(database)) as connection:
            stores = [await AsyncPgVectorStore.open(connection, name, CONFIG) for name in "abcd"]
            return await asyncio.gather(*map(work, stores))

    assert asyncio.run(main()) == [5] * 4


def test_both_stores_see_what_the_other_has_written(server, database, connection):
    PgVectorStore.open(connection, "photos", CONFIG).upsert(records(0, 3))

    async def main():
        async with lent("connection", server.address(database)) as own:
            store = await AsyncPgVectorStore.open(own, "photos", CONFIG)
            with pytest.raises(CollectionMismatchError):
                await AsyncPgVectorStore.open(own, "photos", PLAIN)
            return [record.record_id async for record in store.scroll()]

    assert sorted(asyncio.run(main())) == ["0", "1", "2"]


def test_a_task_that_is_cancelled_leaves_nothing_half_done(server, database, connection):
    PgVectorStore.open(connection, "photos", CONFIG)

    async def main():
        async with lent("connection", server.address(database)) as own:
            store = await AsyncPgVectorStore.open(own, "photos", CONFIG)
            with connection.transaction():
                connection.execute("LOCK TABLE photos IN ACCESS EXCLUSIVE MODE")
                writing = asyncio.create_task(store.upsert(records(0, 3)))
                waiting = "SELECT FROM pg_locks WHERE NOT granted AND pid = %s"
                while not connection.execute(waiting, [own.info.backend_pid]).fetchall():
                    await asyncio.sleep(0.01)
                writing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await writing
            assert await store.count() == 0
            await store.upsert(records(0, 1))
            return await store.count()

    assert asyncio.run(main()) == 1


@pytest.mark.usefixtures("quick")
def test_a_connection_that_has_ended_is_told(server, database, connection):
    async def main():
        async with lent("connection", server.address(database)) as own:
            store = await AsyncPgVectorStore.open(own, "photos", CONFIG)
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [own.info.backend_pid])
            with pytest.raises(StoreUnavailableError, match=r"the connection is (lost|closed)"):
                await store.count()

    asyncio.run(main())
