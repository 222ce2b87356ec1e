"""The asyncio store: the suite of all stores, and many tasks over one client."""

import asyncio
import dataclasses

import pytest
from pymilvus import AsyncMilvusClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreUnavailableError
from jclip_connectors.milvus import AsyncMilvusStore
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from jclip_connectors.testing.store_contract import StoreContract
from tests.doubles.milvus_server import MilvusServer
from tests.milvus.parts import CONFIG, QUERY, TILED, ids_of, opened, records, tiled_record, vectors

pytestmark = pytest.mark.slow


class TestAsyncMilvusStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls, tmp_path_factory):
        held: dict[EmbeddingConfig, BridgedStore] = {}
        path = tmp_path_factory.mktemp("milvus") / "milvus.db"
        with EventLoop() as loop:

            def open_store(config):
                if config not in held:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    opening = AsyncMilvusStore.open(path, f"photos_{len(held)}", config, dimensions=dimensions)
                    held[config] = BridgedStore(loop.run(opening), loop)
                held[config].delete(where={})
                return held[config]

            yield open_store
            for store in held.values():
                store.close()


def test_tasks_may_share_a_store(path):
    async def work(store, i):
        given = [tiled_record(str(100 * i + n), vectors(3, seed=i)) for n in range(10)]
        await store.upsert([*given, *records(100 * i + 10, 100 * i + 20)])
        return len(await store.search(QUERY, limit=5, tiles=bool(i % 2)))

    async def main():
        store = await AsyncMilvusStore.open(path, "photos", TILED)
        assert await asyncio.gather(*(work(store, i) for i in range(8))) == [5] * 8
        assert await store.count() == 160
        assert len({record.record_id async for record in store.scroll()}) == 160
        assert len({record_id async for record_id in store.ids()}) == 160
        await store.close()

    asyncio.run(main())


def test_of_several_tasks_that_make_one_collection_at_once_all_get_it(path):
    async def work(i):
        store = await AsyncMilvusStore.open(path, "photos", TILED)
        await store.upsert(records(10 * i, 10 * i + 10))
        return store

    async def main():
        stores = await asyncio.gather(*(work(i) for i in range(4)))
        assert [await store.count() for store in stores] == [40] * 4
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(main())
    with opened(path, TILED) as store:
        assert len(set(store.ids())) == 40


def test_both_stores_see_what_the_other_has_written(path):
    async def write():
        store = await AsyncMilvusStore.open(path, "photos", CONFIG)
        await store.upsert(records(5, 8))
        found = await store.get(["0"])
        await store.close()
        return ids_of(found)

    with opened(path) as store:
        store.upsert(records(0, 3))
        assert asyncio.run(write()) == ["0"]
        assert sorted(store.ids()) == ["0", "1", "2", "5", "6", "7"]


def test_an_opening_that_is_cancelled_lets_the_path_go(path):
    async def main():
        opening = asyncio.create_task(AsyncMilvusStore.open(path, "photos", CONFIG))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(main())
    from milvus_lite.server_manager import server_manager_instance

    assert str(path) not in server_manager_instance._servers


def test_refusals_are_the_same_in_an_event_loop(path):
    async def main():
        with pytest.raises(EmbedInputError, match="`index`"):
            await AsyncMilvusStore.open(path, "photos", CONFIG, index="IVF")  # type: ignore[arg-type]
        store = await AsyncMilvusStore.open(path, "photos", CONFIG)
        with pytest.raises(CollectionMismatchError):
            await AsyncMilvusStore.open(path, "photos", dataclasses.replace(CONFIG, model="other"))
        with pytest.raises(EmbedInputError):
            await store.search(QUERY[:3])
        with pytest.raises(EmbedInputError):
            store.scroll(where={"a": {"no": 1}})
        await store.close()

    asyncio.run(main())


def test_a_server_that_goes_away_or_does_not_answer_is_unavailable():
    async def main():
        with MilvusServer() as server:
            client = AsyncMilvusClient(uri=server.uri, dedicated=True)
            store = await AsyncMilvusStore.open(client, "photos", CONFIG, timeout_s=1)
            await store.upsert(records(0, 3))
            server.fail("Query", hold=True)
            with pytest.raises(StoreUnavailableError, match="in time"):
                await store.count()
            server.recover()
            server.stop()
            with pytest.raises(StoreUnavailableError):
                await store.count()
            await client.close()

    asyncio.run(main())
