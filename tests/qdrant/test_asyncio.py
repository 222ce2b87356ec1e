"""The asyncio store: the suite for stores, calls at the same time, and the same errors."""

import asyncio
import threading

import pytest
from qdrant_client import AsyncQdrantClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.qdrant.store import AsyncQdrantStore
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from jclip_connectors.testing.store_contract import StoreContract
from tests.doubles.qdrant_server import Fault
from tests.qdrant.harness import CONFIG, QUERY, SEARCH, TILED, UPSERT, records


class TestAsyncQdrantStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        client = AsyncQdrantClient(":memory:")
        with EventLoop() as loop:

            def open_store(config):
                if config not in opened:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    opening = AsyncQdrantStore.open(client, str(len(opened)), config, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(client.close())


async def test_many_can_wait_for_the_server_at_once(server):
    client = AsyncQdrantClient(url=server.url, check_compatibility=False)
    store = await AsyncQdrantStore.open(client, "photos", CONFIG)
    await asyncio.gather(*(store.upsert(records(start, start + 10)) for start in range(0, 100, 10)))
    assert await store.count() == 100
    server.faults.append(Fault(SEARCH, meeting=threading.Barrier(5), times=5))
    found = await asyncio.gather(*(store.search(QUERY, limit=3) for _ in range(5)))
    assert found == [found[0]] * 5
    assert len([record async for record in store.scroll()]) == 100
    await store.close()
    await client.close()


async def test_errors_are_the_same_for_a_program_with_an_event_loop(server, clock):
    client = AsyncQdrantClient(url=server.url, check_compatibility=False)
    store = await AsyncQdrantStore.open(client, "photos", CONFIG)
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "3"}))
    assert await store.search(QUERY) == []
    assert clock.waited == [3.0]
    with pytest.raises(CollectionMismatchError):
        await AsyncQdrantStore.open(client, "photos", TILED)
    server.faults.append(Fault(UPSERT, status=400, skip=1))
    with pytest.raises(PartialFailureError) as caught:
        await store.upsert(records(0, 300))
    assert sorted(caught.value.failed) == list(range(256, 300))
    await client.close()
    with pytest.raises(StoreRequestError, match="closed"):
        await store.count()


@pytest.mark.parametrize("name", ["scroll", "ids"])
async def test_bad_arguments_are_refused_before_anything_is_iterated(name):
    store = await AsyncQdrantStore.open(AsyncQdrantClient(":memory:"), "photos", CONFIG)
    with pytest.raises(EmbedInputError, match="'near'"):
        getattr(store, name)(where={"year": {"near": 2020}})
    assert [item async for item in getattr(store, name)(where={"year": {"gte": 2020}})] == []
