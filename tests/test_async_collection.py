"""AsyncMultimodalCollection: the operations of a collection in an event loop that goes on meanwhile."""

import asyncio
import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from core_encoder.tiling import Tiling
from jclip_connectors import (
    AsyncMultimodalCollection,
    CollectionMismatchError,
    EmbeddingConfig,
    EmbedInputError,
    MultimodalCollection,
    PartialFailureError,
    StoreUnavailableError,
)
from jclip_connectors.collection import asynchronous
from jclip_connectors.collection.async_hosts import ThreadedEmbedder
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.qdrant import AsyncQdrantStore, operations
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.every_store.loops import needing_the_loop

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=2))
WAIT_S = 20
local_mode = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


class AsyncInMemoryStore:
    """An asyncio store of the tests: every call yields to the loop, and a gate can hold its writes."""

    def __init__(self, config):
        self.inner = InMemoryStore(config)
        self.calls = []
        self.gate = None
        self.fails = {}  # number of the upsert -> its error
        self.writing = self.most_writing = 0

    @property
    def fingerprint(self):
        return self.inner.fingerprint

    async def verify(self, *, repair=False):
        return self.inner.verify(repair=repair)

    async def upsert(self, records):
        number = self.calls.count("upsert")
        self.calls.append("upsert")
        self.writing += 1
        self.most_writing = max(self.writing, self.most_writing)
        try:
            if self.gate is not None:
                await asyncio.wait_for(self.gate(number), WAIT_S)
            if number in self.fails:
                raise self.fails[number]
            self.inner.upsert(records)
        finally:
            self.writing -= 1

    async def search(self, embedding, **options):
        self.calls.append("search")
        await asyncio.sleep(0)
        return self.inner.search(embedding, **options)

    async def search_many(self, embeddings, **options):
        self.calls.append("search_many")
        await asyncio.sleep(0)
        return self.inner.search_many(embeddings, **options)

    async def get(self, ids, **options):
        await asyncio.sleep(0)
        return self.inner.get(ids, **options)

    async def delete(self, ids=None, *, where=None):
        self.inner.delete(ids, where=where)

    async def count(self, **options):
        return self.inner.count(**options)

    async def scroll(self, **options):
        for record in self.inner.scroll(**options):
            yield record

    async def ids(self, **options):
        for record_id in self.inner.ids(**options):
            yield record_id

    async def close(self):
        self.inner.close()


class AsyncHashEmbedder:
    """An asyncio embedder: it must be awaited in the loop, not called in a thread."""

    def __init__(self, config):
        self.inner = HashEmbedder(config)
        self.config, self.dimensions = self.inner.config, self.inner.dimensions
        self.threads = set()

    def __getattr__(self, name):
        async def call(*arguments):
            self.threads.add(threading.current_thread())
            await asyncio.sleep(0)
            return getattr(self.inner, name)(*arguments)

        return call

    async def embed_query(self, text):
        return await self.__getattr__("embed_query")(text)


def note_threads(monkeypatch, module, *names):
    """Note in which threads these functions of a module are called."""
    threads = []

    def noting(call):
        def noted(*arguments, **options):
            threads.append(threading.current_thread())
            return call(*arguments, **options)

        return noted

    for name in names:
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    return threads


@pytest.fixture(params=[HashEmbedder, AsyncHashEmbedder], ids=["a blocking embedder", "an asyncio embedder"])
def embedder(request):
    return request.param(CONFIG)


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        picture(number).save(path)
    return paths


async def test_it_does_what_the_blocking_collection_does(embedder, pictures):
    store, twin = AsyncInMemoryStore(CONFIG), InMemoryStore(CONFIG)
    awaited, blocking = AsyncMultimodalCollection(embedder, store), MultimodalCollection(HashEmbedder(CONFIG), twin)
    texts, metadatas = ["a red circle", "a blue star"], [{"year": 2019}, {"year": 2024}]
    assert await awaited.add_texts(texts, metadatas) == blocking.add_texts(texts, metadatas)
    assert await awaited.add_images(pictures) == blocking.add_images(pictures)
    assert (await awaited.add_images(pictures)).embedded == 0
    assert await awaited.search("a red star") == blocking.search("a red star")
    assert await awaited.search(image=pictures[2], limit=1) == blocking.search(image=pictures[2], limit=1)
    where = {"year": {"gte": 2020}}
    assert await awaited.search("a star", where=where) == blocking.search("a star", where=where)
    assert await awaited.count(modality="image") == 5
    [hit] = await awaited.search("a blue star", modality="text", limit=1)
    assert [record.content for record in await awaited.get([hit.record_id])] == ["a blue star"]
    await awaited.delete([hit.record_id])
    assert await awaited.count(modality="text") == 1


async def test_tiles_are_added_and_their_box_is_found(pictures):
    store = AsyncInMemoryStore(TILED)
    photos = AsyncMultimodalCollection(HashEmbedder(TILED), store)
    await photos.add_images(pictures)
    [hit] = await photos.search(image=pictures[0], limit=1)
    assert hit.uri == str(pictures[0])
    assert hit.box is not None


@local_mode
async def test_a_real_asyncio_sdk_is_driven(pictures):
    store = await AsyncQdrantStore.open(AsyncQdrantClient(":memory:"), "photos", CONFIG)
    photos = AsyncMultimodalCollection(HashEmbedder(CONFIG), store, batch_size=2)
    report = await photos.add_images(pictures, [{"number": number} for number in range(5)])
    assert len(report.ids) == await photos.count() == 5
    [hit] = await photos.search(image=pictures[3], limit=1)
    assert hit.metadata == {"number": 3}
    assert hit.score == pytest.approx(1.0, abs=1e-5)


async def test_the_event_loop_goes_on_while_items_are_read_checked_and_embedded(pictures, monkeypatch):
    embedder = needing_the_loop(HashEmbedder(CONFIG), "embed_texts", "embed_query", "embed_images")
    photos = AsyncMultimodalCollection(embedder, AsyncInMemoryStore(CONFIG))
    threads = note_threads(monkeypatch, asynchronous, "describe_text", "describe_image", "check_given")
    await photos.add_texts(["a"], [{"large": ["x"] * 1000}])
    await photos.add_images(pictures)
    assert await photos.search("a")
    assert len(threads) == 2 + 1 + len(pictures)
    assert threading.current_thread() not in threads


@local_mode
async def test_a_store_checks_and_converts_records_beside_the_loop(monkeypatch):
    store = await AsyncQdrantStore.open(AsyncQdrantClient(":memory:"), "photos", CONFIG)
    threads = note_threads(monkeypatch, operations, "check_records", "to_point")
    await AsyncMultimodalCollection(HashEmbedder(CONFIG), store).add_texts(["a", "b"])
    assert threads
    assert threading.current_thread() not in threads


async def test_an_asyncio_embedder_is_awaited_in_the_loop(pictures):
    embedder = AsyncHashEmbedder(CONFIG)
    photos = AsyncMultimodalCollection(embedder, AsyncInMemoryStore(CONFIG))
    await photos.add_texts(["a"])
    await photos.add_images(pictures)
    await photos.search("a")
    assert embedder.threads == {threading.current_thread()}


async def test_batches_overlap_up_to_the_bound():
    store = AsyncInMemoryStore(CONFIG)
    three = asyncio.Barrier(3)

    async def together(number):
        if number < 3:  # these three are passed only if all of them are on their way at once
            await three.wait()

    store.gate = together
    photos = AsyncMultimodalCollection(AsyncHashEmbedder(CONFIG), store, batch_size=1, max_concurrency=3)
    report = await photos.add_texts([f"text {number}" for number in range(9)])
    assert len(report.ids) == 9
    assert store.most_writing == 3


async def test_a_blocking_embedder_embeds_one_batch_at_a_time_and_a_query_does_not_wait_for_it():
    inside, most, queried = [], [], threading.Event()

    class Slow(HashEmbedder):
        def embed_texts(self, texts):
            inside.append(texts)
            most.append(len(inside))
            if texts == ["text 0"]:
                assert queried.wait(WAIT_S), "the query waits for a batch"
            rows = super().embed_texts(texts)
            inside.remove(texts)
            return rows

    photos = AsyncMultimodalCollection(Slow(CONFIG), AsyncInMemoryStore(CONFIG), batch_size=1)
    adding = asyncio.create_task(photos.add_texts([f"text {number}" for number in range(4)]))
    await photos.search("a")
    queried.set()
    await adding
    assert max(most) == 1


async def test_of_two_items_with_one_id_the_last_is_kept_although_batches_overlap():
    store = AsyncInMemoryStore(CONFIG)

    async def the_first_is_slow(number):
        for _ in range(0 if number else 50):
            await asyncio.sleep(0)

    store.gate = the_first_is_slow
    photos = AsyncMultimodalCollection(AsyncHashEmbedder(CONFIG), store, batch_size=1)
    await photos.add_texts(["old", "new"], ids=["a", "a"])
    assert [record.content for record in await photos.get(["a"])] == ["new"]


async def test_what_is_written_is_told_where_a_batch_fails_while_another_is_on_its_way():
    store = AsyncInMemoryStore(CONFIG)
    failed = asyncio.Event()

    async def the_others_first(number):
        if number == 1:
            failed.set()
        elif number == 2:  # is written after the failure
            await failed.wait()
            for _ in range(20):
                await asyncio.sleep(0)

    store.gate = the_others_first
    store.fails = {1: StoreUnavailableError("out of order")}
    photos = AsyncMultimodalCollection(AsyncHashEmbedder(CONFIG), store, batch_size=1, max_concurrency=3)
    with pytest.raises(PartialFailureError) as caught:
        await photos.add_texts([f"text {number}" for number in range(9)], ids=list("abcdefghi"))
    stored = sorted([record.record_id async for record in store.scroll()])
    assert sorted(caught.value.kept.values()) == stored
    assert {"a", "c"} <= set(stored)
    assert sorted([*caught.value.kept, *caught.value.failed]) == list(range(9))
    assert isinstance(caught.value.failed[1], StoreUnavailableError)


async def test_a_failure_before_anything_is_written_is_the_error_itself():
    store = AsyncInMemoryStore(CONFIG)
    store.fails = {0: StoreUnavailableError("out of order")}
    with pytest.raises(StoreUnavailableError, match="out of order"):
        await AsyncMultimodalCollection(HashEmbedder(CONFIG), store).add_texts(["a"])


async def test_an_embedder_that_fails_later_leaves_nothing_untold():
    class Failing(AsyncHashEmbedder):
        async def embed_texts(self, texts):
            if "bad" in texts:
                raise StoreUnavailableError("the endpoint is down")
            return self.inner.embed_texts(texts)

    photos = AsyncMultimodalCollection(Failing(CONFIG), AsyncInMemoryStore(CONFIG), batch_size=1, max_concurrency=1)
    with pytest.raises(PartialFailureError) as caught:
        await photos.add_texts(["a", "bad", "c"], ids=["a", "b", "c"])
    assert caught.value.kept == {0: "a"}
    assert {position: str(error) for position, error in caught.value.failed.items()} == dict.fromkeys(
        (1, 2), "the endpoint is down"
    )


async def test_a_cancelled_call_leaves_no_task_behind():
    store = AsyncInMemoryStore(CONFIG)
    begun, never = asyncio.Event(), asyncio.Event()

    async def wait(_):
        begun.set()
        await never.wait()

    store.gate = wait
    photos = AsyncMultimodalCollection(AsyncHashEmbedder(CONFIG), store, batch_size=1)
    call = asyncio.create_task(photos.add_texts(["a", "b"]))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert store.writing == 0


async def test_unreadable_images_are_reported_and_the_others_written(pictures, tmp_path):
    photos = AsyncMultimodalCollection(HashEmbedder(CONFIG), AsyncInMemoryStore(CONFIG), batch_size=2)
    report = await photos.add_images([pictures[0], tmp_path / "none.png", *pictures[1:]])
    assert list(report.failed) == [1]
    assert len(report.ids) == await photos.count() == 5


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"max_concurrency": 0}, {"max_concurrency": True}])
async def test_a_bad_option_is_refused_by_name(options):
    with pytest.raises(EmbedInputError, match=f"`{next(iter(options))}`"):
        AsyncMultimodalCollection(HashEmbedder(CONFIG), AsyncInMemoryStore(CONFIG), **options)


async def test_a_blocking_store_and_a_store_of_another_model_are_refused():
    blocking: Any = InMemoryStore(CONFIG)
    with pytest.raises(EmbedInputError, match="InMemoryStore, which is not asyncio"):
        AsyncMultimodalCollection(HashEmbedder(CONFIG), blocking)
    with pytest.raises(CollectionMismatchError, match="`tiling`"):
        AsyncMultimodalCollection(HashEmbedder(TILED), AsyncInMemoryStore(CONFIG))


def test_one_embedder_in_threads_serves_several_event_loops():
    embedder = ThreadedEmbedder(HashEmbedder(CONFIG))

    async def ask():
        return await asyncio.gather(*(embedder.embed_query(f"text {i}") for i in range(8)))

    first, second = asyncio.run(ask()), asyncio.run(ask())  # the tasks of each loop wait for one another
    np.testing.assert_array_equal(first, second)
