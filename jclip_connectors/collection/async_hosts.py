"""Hosts for asyncio: they run the flows of a collection on an asyncio store and an asyncio embedder; see `hosts`."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar
from weakref import WeakKeyDictionary

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.collection.adding import Adding, Draft
from jclip_connectors.collection.hosts import as_it_is
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import (
    AsyncVectorStore,
    Embedder,
    FloatArray,
    ImageSource,
    Modality,
    Record,
    SearchHit,
    VectorStore,
)
from jclip_connectors.store_kit.async_flows import run_async
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.patience import Patience

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class AsyncHost:
    """An asyncio store and embedder; the attributes are those of `BlockingHost`."""

    store: AsyncVectorStore
    embedder: Any = None
    embed: Callable[[Any], Any] | None = None

    async def run(self, flow: Flow[_Result]) -> _Result:
        """Run a flow without retries: the store retries its own operations."""
        return await run_async(flow, self, translate=as_it_is, attempts=1, patience=Patience(0.0))

    async def search_each(
        self,
        embeddings: FloatArray,
        modalities: Sequence[Modality | None],
        **options: Any,  # noqa: ANN401 (the options of the port)
    ) -> list[list[list[SearchHit]]]:
        """Search each modality separately for each row of `embeddings` (B, E); the modalities concurrently."""

        async def search(modality: Modality | None) -> list[list[SearchHit]]:
            if len(embeddings) == 1:
                return [await self.store.search(embeddings[0], modality=modality, **options)]
            return await self.store.search_many(embeddings, modality=modality, **options)

        return list(await asyncio.gather(*map(search, modalities)))

    async def sample_each(self, modalities: Sequence[Modality], count: int) -> list[list[Record]]:
        """The first `count` records of each modality, whose order is that of a hash."""

        async def sample(modality: Modality) -> list[Record]:
            found: list[Record] = []
            async for record in self.store.scroll(modality=modality):
                found.append(record)
                if len(found) == count:
                    break
            return found

        return list(await asyncio.gather(*map(sample, modalities)))

    async def records(self, **options: Any) -> list[Record]:  # noqa: ANN401 (the options of the port)
        """All matching records."""
        return [record async for record in self.store.scroll(**options)]

    async def work(self, task: Callable[[], _Result]) -> _Result:
        """Run a slow task in a thread."""
        return await asyncio.to_thread(task)

    async def add(self, adding: Adding, *, batch_size: int, max_concurrency: int, what: str) -> None:
        """Add the items in concurrent batches; batches with an id in common run one after another.

        Raises:
            PartialFailureError: a batch failed after others were written.
        """
        running: dict[asyncio.Task[None], set[str]] = {}

        async def write(drafts: dict[int, Draft], count: int) -> None:
            await self.run(adding.write(drafts))
            adding.advance(count)

        try:
            adding.advance(0)
            for positions in adding.batches(batch_size):
                drafts = await asyncio.to_thread(adding.describe, positions)
                ids = {draft.record_id for draft in drafts.values()}
                while len(running) >= max_concurrency or not all(map(ids.isdisjoint, running.values())):
                    await _first_done(running)
                running[asyncio.create_task(write(drafts, len(positions)))] = ids
            while running:
                await _first_done(running)
        except asyncio.CancelledError:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        except Exception as error:
            # The error says which items are written, so wait for the batches in progress.
            await asyncio.gather(*running, return_exceptions=True)
            failure = adding.failure(error, what=what)
            if failure is error:
                raise
            raise failure from error


class ThreadedEmbedder:
    """Runs a blocking embedder in threads: one batch and one query at a time in each event loop."""

    def __init__(self, embedder: Embedder) -> None:
        """Wrap a blocking embedder."""
        self._embedder = embedder
        # An asyncio lock belongs to the event loop in which a task first waited for it.
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[asyncio.Lock, asyncio.Lock]] = (
            WeakKeyDictionary()
        )

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""
        return self._embedder.config

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""
        return self._embedder.dimensions

    @property
    def _batches(self) -> asyncio.Lock:
        return self._of_this_loop()[0]

    @property
    def _queries(self) -> asyncio.Lock:
        return self._of_this_loop()[1]

    def _of_this_loop(self) -> tuple[asyncio.Lock, asyncio.Lock]:
        return self._locks.setdefault(asyncio.get_running_loop(), (asyncio.Lock(), asyncio.Lock()))

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E)."""
        async with self._batches:
            return await asyncio.to_thread(self._embedder.embed_texts, texts)

    async def embed_query(self, text: str) -> FloatArray:
        """Embed a query: (E,)."""
        async with self._queries:
            return await asyncio.to_thread(self._embedder.embed_query, text)

    async def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several queries: (B, E)."""
        async with self._queries:
            return await asyncio.to_thread(self._embedder.embed_queries, texts)

    async def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed whole images: (B, E). A single image counts as a query and does not wait for batches."""
        async with self._queries if len(images) == 1 else self._batches:
            return await asyncio.to_thread(self._embedder.embed_images, images)

    async def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles."""
        async with self._batches:
            return await asyncio.to_thread(self._embedder.embed_image_tiles, images)


def is_asyncio(store: VectorStore | AsyncVectorStore) -> TypeGuard[AsyncVectorStore]:
    """Whether the methods of a store are awaited."""
    return inspect.iscoroutinefunction(store.upsert)


async def _first_done(running: dict[asyncio.Task[None], set[str]]) -> None:
    """Wait until a batch is done and remove it from `running`.

    Raises:
        Exception: the error of a failed batch.
    """
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del running[task]
    errors = [error for error in (task.exception() for task in done) if error is not None]
    if errors:
        raise errors[0]
