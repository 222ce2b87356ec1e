"""A `RemoteEmbedder` to be awaited, with the same requests and answers."""

import asyncio
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

import httpx
import tenacity

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import FloatArray, ImageSource, IntArray
from jclip_connectors.remote.embedder import CLOSED, FORKED, one_row
from jclip_connectors.remote.endpoint import HOSTED_URL, Endpoint
from jclip_connectors.remote.requests import Batch, Outcome, Plan, Sending, apart, gather_rows, gather_tiles, whole

_OTHER_LOOP = (
    "`client` has connections in an event loop that is closed: leave out `client`, or make a new client and embedder "
    "for each `asyncio.run`"
)


@dataclass(frozen=True)
class _Loop:
    """What belongs to one event loop: connections, and the room for requests at one time."""

    client: httpx.AsyncClient
    room: asyncio.Semaphore


class AsyncRemoteEmbedder(Endpoint):
    """A `RemoteEmbedder` for a program with an event loop: the same methods with the same behaviour, to be awaited.

    Images are read and encoded in a thread. Every event loop that uses it has connections of its own, so several calls
    of `asyncio.run` may share it. `close` closes those of the event loop in which it is awaited.
    """

    def __init__(
        self,
        config: EmbeddingConfig,
        *,
        base_url: str = HOSTED_URL,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_concurrency: int = 4,
        max_items: int = 128,
        max_request_bytes: int = 16_000_000,
        max_image_bytes: int = 8_000_000,
        attempts: int = 5,
        truncate: bool = False,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        """Check the configuration; nothing is sent yet. The arguments are those of `RemoteEmbedder`.

        Raises:
            ConfigError: an option has a bad value, or cannot be sent to an endpoint.
        """
        super().__init__(
            config,
            base_url=base_url,
            api_key=api_key,
            timeout_s=timeout_s,
            max_concurrency=max_concurrency,
            max_items=max_items,
            max_request_bytes=max_request_bytes,
            max_image_bytes=max_image_bytes,
            attempts=attempts,
            truncate=truncate,
        )
        self._given = client
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()
        self._process = os.getpid()
        self._closed = False

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E)."""
        return gather_rows(await self._send(self._requests.texts(texts), whole), {}, dimensions=self.dimensions)

    async def embed_query(self, text: str) -> FloatArray:
        """Embed a search text, as a query if the model treats queries differently: (E,)."""
        ((_, row),) = await self._send(self._requests.texts([text], query=True), whole)
        return one_row(row)

    async def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several search texts, each as `embed_query` does: (B, E)."""
        outcomes = await self._send(self._requests.texts(texts, query=True), whole)
        return gather_rows(outcomes, {}, dimensions=self.dimensions)

    async def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole: (B, E)."""
        failed: dict[int, EmbedInputError] = {}
        outcomes = await self._send(self._requests.images(images, failed=failed), apart)
        return gather_rows(outcomes, failed, dimensions=self.dimensions)

    async def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles."""
        failed: dict[int, EmbedInputError] = {}
        boxes: dict[int, IntArray] = {}
        outcomes = await self._send(self._requests.tiles(images, failed=failed, boxes=boxes), apart)
        return gather_tiles(outcomes, failed, boxes)

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._closed = True
        loop = self._loops.pop(asyncio.get_running_loop(), None)
        if loop is not None and loop.client is not self._given:
            await loop.client.aclose()

    async def __aenter__(self) -> Self:
        """Use the embedder in an `async with` statement, which closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the embedder."""
        await self.close()

    async def _send(self, batches: Iterator[Batch], plan: Plan) -> list[Outcome]:
        """Send every batch, few at a time; a batch is made when there is room for it."""
        running: deque[asyncio.Task[list[Outcome]]] = deque()
        outcomes: list[Outcome] = []
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                if len(running) == self._max_concurrency:
                    outcomes += await running.popleft()
                running.append(asyncio.create_task(self._follow(plan(batch))))
            while running:
                outcomes += await running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return outcomes

    async def _follow(self, sending: Sending) -> list[Outcome]:
        try:
            batch = next(sending)
            while True:
                try:
                    async with self._loop().room:
                        retrying = tenacity.AsyncRetrying(sleep=asyncio.sleep, **self._retrying)
                        rows: FloatArray = await retrying(self._attempt, batch)
                except EmbedInputError as error:
                    batch = sending.throw(error)
                else:
                    batch = sending.send(rows)
        except StopIteration as done:
            outcomes: list[Outcome] = done.value
            return outcomes

    async def _attempt(self, batch: Batch) -> FloatArray:
        client = self._loop().client
        if self._closed or client.is_closed:
            raise StoreRequestError(CLOSED)
        try:
            response = await client.post(content=batch.body, **self._post)
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        except RuntimeError as error:
            if client is self._given and "loop" in str(error):
                raise StoreRequestError(_OTHER_LOOP) from error
            raise
        return await asyncio.to_thread(self._read, response, batch)

    def _loop(self) -> _Loop:
        """The connections of the running event loop."""
        running = asyncio.get_running_loop()
        if running not in self._loops:
            if self._given is not None and self._process != os.getpid():
                raise StoreRequestError(FORKED)
            client = httpx.AsyncClient() if self._given is None else self._given
            self._loops[running] = _Loop(client, asyncio.Semaphore(self._max_concurrency))
        return self._loops[running]
