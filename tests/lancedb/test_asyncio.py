"""The asyncio store: the suite of all stores, and many tasks over one connection."""

import asyncio
import tempfile
from typing import Any

import lancedb
import numpy as np
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, StoreRequestError
from jclip_connectors.lancedb import AsyncLanceStore, LanceStore, async_lance_optimize
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import PLAIN, StoreContract
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from tests.lancedb.parts import CONFIG, QUERY, TILED, ids_of, records


@pytest.mark.slow
class TestAsyncLanceStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        with tempfile.TemporaryDirectory() as folder, EventLoop() as loop:
            connection = loop.run(lancedb.connect_async(folder))

            def open_store(config):
                if config not in opened:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    opening = AsyncLanceStore.open(connection, f"photos{len(opened)}", config, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            connection.close()


def test_tasks_may_share_a_store(folder):
    async def work(store, i):
        await store.upsert(records(100 * i, 100 * i + 20, tiles=2))
        return len(await store.search(QUERY, limit=5, tiles=True))

    async def main():
        store = await AsyncLanceStore.open(await lancedb.connect_async(folder), "photos", TILED)
        assert await asyncio.gather(*(work(store, i) for i in range(8))) == [5] * 8
        lists = await store.search_many(np.stack([QUERY, -QUERY]), limit=3)
        assert [ids_of(hits) for hits in lists] == [
            ids_of(await store.search(each, limit=3)) for each in (QUERY, -QUERY)
        ]
        report = await async_lance_optimize(store)
        assert (report.records, report.indexed) == (160, False)
        return await store.count()

    assert asyncio.run(main()) == 160


def test_both_stores_see_what_the_other_has_written(folder, store):
    async def main():
        connection = await lancedb.connect_async(folder)
        own = await AsyncLanceStore.open(connection, "photos", CONFIG)
        store.upsert(records(0, 3))
        with pytest.raises(CollectionMismatchError):
            await AsyncLanceStore.open(connection, "photos", PLAIN)
        found = [record.record_id async for record in own.scroll()]
        await own.delete(["1"])
        connection.close()
        with pytest.raises(StoreRequestError, match="closed: connect again"):
            await own.count()
        return found

    assert sorted(asyncio.run(main())) == ["0", "1", "2"]
    assert sorted(store.ids()) == ["0", "2"]


def test_a_store_of_the_other_kind_cannot_be_optimised(store):
    with pytest.raises(ValueError, match="pass an AsyncLanceStore"):
        asyncio.run(async_lance_optimize(store))


def test_a_new_store_is_for_its_own_kind_of_connection(folder):
    async def main():
        connection: Any = await lancedb.connect_async(folder)
        with pytest.raises(ValueError, match="use `AsyncLanceStore`"):
            LanceStore.open(connection, "photos", CONFIG)

    asyncio.run(main())
