"""The asyncio store: the suite for stores, calls at the same time, and the same errors."""

import asyncio
import dataclasses

import grpc  # type: ignore[import-untyped]  # no stubs
import pytest
import weaviate

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import (
    CollectionMismatchError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import PLAIN, StoreContract, ids_of, image, text, vector
from jclip_connectors.weaviate.store import AsyncWeaviateStore, Hybrid
from tests.doubles.weaviate_server import WeaviateDouble
from tests.weaviate.harness import EXHAUSTED, UNAVAILABLE


class TestAsyncWeaviateStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        with WeaviateDouble() as server, EventLoop() as loop:
            client = weaviate.use_async_with_custom(**server.address())
            loop.run(client.connect())

            def open_store(config):
                if config not in opened:
                    dimensions = 8 if config.embedding_dim is None else None
                    opening = AsyncWeaviateStore.open(client, f"Test{len(opened)}", config, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(client.close())
            assert server.surprises == []


@pytest.fixture
async def async_photos(server):
    async with server.connect_async() as client:
        yield await AsyncWeaviateStore.open(client, "Photos", PLAIN)


async def test_the_loop_goes_on_while_the_server_thinks(server, async_photos):
    server.gather("Search", 2)
    search = asyncio.ensure_future(async_photos.search(vector(1)))
    while "Search" not in server.calls:
        await asyncio.sleep(0.01)
    assert not search.done()
    assert await async_photos.search(vector(1)) == []  # for which the server waits before it answers the first
    assert await search == []


async def test_many_at_once_share_one_client(async_photos):
    await asyncio.gather(*(async_photos.upsert([image(str(number), metadata={"n": number})]) for number in range(20)))
    assert await async_photos.count(where={"n": {"gte": 0}}) == 20


async def test_hybrid_works_without_blocking_too(async_photos):
    await async_photos.upsert([text("a", content="red car"), text("b", content="boat")])
    hits = await async_photos.search(vector(1), hybrid=Hybrid(text="boat", alpha=0.0))
    assert ids_of(hits) == ["b"]


async def test_opening_with_another_configuration_is_refused_there_too(server, async_photos):
    async with server.connect_async() as client:
        with pytest.raises(CollectionMismatchError, match="`model` 'contract'"):
            await AsyncWeaviateStore.open(client, "Photos", dataclasses.replace(PLAIN, model="other"))
    assert await async_photos.count() == 0


@pytest.mark.parametrize(("code", "tries"), [(EXHAUSTED, 7), (UNAVAILABLE, 6), (grpc.StatusCode.UNKNOWN, 1)])
async def test_errors_are_the_same_without_blocking(server, async_photos, code, tries):
    server.fail("Search", code, times=10)
    server.calls.clear()
    kind = StoreRequestError if code is grpc.StatusCode.UNKNOWN else StoreUnavailableError
    with pytest.raises(kind):
        await async_photos.search(vector(1))
    assert server.calls == ["Search"] * tries


async def test_half_a_batch_refused_is_told_without_blocking(server, async_photos):
    server.refused["b"] = "no room"
    with pytest.raises(PartialFailureError) as caught:
        await async_photos.upsert([image("a"), image("b")])
    assert sorted(caught.value.failed) == [1]
