"""The store for programs with an event loop: what it refuses, tells and leaves free."""

import asyncio
import dataclasses

import pytest

from jclip_connectors.errors import (
    CollectionMismatchError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.pinecone.store import AsyncPineconeStore
from jclip_connectors.port import record_uuid
from jclip_connectors.testing.store_contract import PLAIN, image, vector


async def test_an_asyncio_store_refuses_another_configuration_and_closes_its_connections(server):
    async with server.connect_async() as client:
        store = await AsyncPineconeStore.open(client, "photos", PLAIN)
        await store.upsert([image("a")])
        with pytest.raises(CollectionMismatchError):
            await AsyncPineconeStore.open(client, "photos", dataclasses.replace(PLAIN, model="other"))
        await store.close()
        await store.close()
        with pytest.raises(StoreRequestError, match="closed"):
            await store.count()
        again = await AsyncPineconeStore.open(client, "photos", PLAIN)
        assert [record.record_id async for record in again.scroll()] == ["a"]
        await again.close()


async def test_two_asyncio_openers_at_once_get_one_collection_and_leave_the_loop_free(server):
    server.ready_after_s = 60

    def described():
        return [route for _, route in server.requests].count("describe_index")

    async def go_on():
        while "photos" not in server.indexes:
            await asyncio.sleep(0.01)
        before = described()
        for _ in range(30):
            await asyncio.sleep(0.01)
        server.skipped_s = 60  # both wait for the index until then
        return described() - before

    others = asyncio.create_task(go_on())
    async with server.connect_async() as client:
        stores = await asyncio.gather(*(AsyncPineconeStore.open(client, "photos", PLAIN) for _ in range(2)))
        await stores[0].upsert([image("a")])
        assert await stores[1].count() == 1
        for store in stores:
            await store.close()
    assert await others < 10  # a loop that is held up while they wait takes a turn or two for each question


async def test_an_asyncio_store_tells_partial_failures_and_outages(server):
    async with server.connect_async() as client:
        store = await AsyncPineconeStore.open(client, "photos", PLAIN)
        server.poison = {str(record_uuid("bad"))}
        with pytest.raises(PartialFailureError) as partial:
            await store.upsert([image("good"), image("bad")])
        assert list(partial.value.failed) == [1]
        server.fail("documents_search", status=503, times=4, headers={"Retry-After": "0"})
        with pytest.raises(StoreUnavailableError):
            await store.search(vector(1))
        await store.close()
