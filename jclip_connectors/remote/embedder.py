"""An `Embedder` over any Jina-compatible `/v1/embeddings`, the hosted API or a server of one's own; it needs no torch.

    with RemoteEmbedder(EmbeddingConfig(dimensions=512), base_url="http://localhost:8080/v1") as embedder:
        rows = embedder.embed_texts(["a red bicycle"])

In a program with an event loop, use `AsyncRemoteEmbedder`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import httpx
import tenacity

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import FloatArray, ImageSource, IntArray
from jclip_connectors.remote.endpoint import HOSTED_URL, Endpoint
from jclip_connectors.remote.requests import (
    Batch,
    Outcome,
    Plan,
    Sending,
    apart,
    gather_rows,
    gather_tiles,
    whole,
)

_CLOSED = "the embedder is closed: make a new one"


class RemoteEmbedder(Endpoint):
    """Texts and images to vectors at an endpoint; threads may share it.

    What the configuration says is asked for, or done here: `dimensions`, `normalize` and `exif_orientation` hold, tiles
    are cut here, and an image that readers could show differently (turned by EXIF, with transparency, in other colours)
    is sent as a PNG of the pixels that the local encoder sees. What can be neither asked for nor done here
    (`max_tokens`, `resize_mode`, `precision`, a `revision` beside the pinned one) is refused.

    No endpoint proves which weights it runs. A hub id as `model` is *your* statement that this one runs those: the
    fingerprint then equals the local encoder's, and both may use one collection. Make it for a server that you
    run with that model. Otherwise name the vectors after the endpoint, as in
    `EmbeddingConfig(model="jina-clip-v2", revision="api.jina.ai", dimensions=1024)`: they then share collections only
    with themselves. An answer that names another model than the one that was asked for is refused either way.
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
        client: httpx.Client | None = None,
    ) -> None:
        """Check the configuration; nothing is sent yet.

        Args:
            config: which model makes the vectors, and how; of a model that is not a known one it gives `dimensions`.
            base_url: what comes before `/embeddings`.
            api_key: sent to `base_url`; `None` is the variable JINA_API_KEY, read now, for the hosted API, and no key
                for any other endpoint: that key is not theirs to see.
            timeout_s: for connecting, and for every pause in an answer.
            max_concurrency: requests at one time.
            max_items: of a request.
            max_request_bytes: of a request.
            max_image_bytes: of an image as it is sent; the published limit is 8 MB.
            attempts: how often a request is sent while the endpoint is busy or away, at most.
            truncate: let the endpoint cut texts over the model's limit, of which nobody hears; else it refuses them.
            client: to send with, the caller's to close; `None` makes one.

        Raises:
            ConfigError: an option has a bad value, or is one that an endpoint cannot be asked for.
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
        self._client = httpx.Client() if client is None else client
        self._owns_client = client is None
        self._pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="jclip-remote")

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E).

        Raises:
            EmbedInputError: an item is no text, or the endpoint refuses it.
            StoreUnavailableError: the endpoint is busy or away, or cannot be reached.
            StoreRequestError: it refuses the key or the request, or answers what is no answer.
        """
        return gather_rows(self._send(self._requests.texts(texts), whole), {}, dimensions=self.dimensions)

    def embed_query(self, text: str) -> FloatArray:
        """Embed what is searched for, as a query where the model tells queries apart: (E,)."""
        ((_, row),) = self._send(self._requests.texts([text], query=True), whole)
        return _row(row)

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole: (B, E).

        Raises:
            PartialFailureError: some cannot be read, or the endpoint refuses them; `kept` has the rows of the others.
        """
        failed: dict[int, EmbedInputError] = {}
        outcomes = self._send(self._requests.images(images, failed=failed), apart)
        return gather_rows(outcomes, failed, dimensions=self.dimensions)

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles.

        Raises:
            PartialFailureError: as for `embed_images`; `kept` has the `TileEmbeddings` of the others.
            EmbedInputError: the configuration has no tiling.
        """
        failed: dict[int, EmbedInputError] = {}
        boxes: dict[int, IntArray] = {}
        outcomes = self._send(self._requests.tiles(images, failed=failed, boxes=boxes), apart)
        return gather_tiles(outcomes, failed, boxes)

    def close(self) -> None:
        """Finish what has begun and let go of the connections; a second call does nothing."""
        self._pool.shutdown()
        if self._owns_client:
            self._client.close()

    def __enter__(self) -> Self:
        """Use it in a `with` statement, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _send(self, batches: Iterator[Batch], plan: Plan) -> list[Outcome]:
        """Send every batch, few at a time; a batch is made when there is room for it."""
        running: deque[Future[list[Outcome]]] = deque()
        outcomes: list[Outcome] = []
        try:
            for batch in batches:
                if len(running) == self._max_concurrency:
                    outcomes += running.popleft().result()
                running.append(self._submit(plan(batch)))
            while running:
                outcomes += running.popleft().result()
        finally:
            for future in running:
                future.cancel()
        return outcomes

    def _submit(self, sending: Sending) -> Future[list[Outcome]]:
        try:
            return self._pool.submit(self._follow, sending)
        except RuntimeError as error:
            raise StoreRequestError(_CLOSED) from error

    def _follow(self, sending: Sending) -> list[Outcome]:
        try:
            batch = next(sending)
            while True:
                try:
                    rows = tenacity.Retrying(sleep=time.sleep, **self._retrying)(self._attempt, batch)
                except EmbedInputError as error:
                    batch = sending.throw(error)
                else:
                    batch = sending.send(rows)
        except StopIteration as done:
            outcomes: list[Outcome] = done.value
            return outcomes

    def _attempt(self, batch: Batch) -> FloatArray:
        if self._client.is_closed:
            raise StoreRequestError(_CLOSED)
        try:
            response = self._client.post(content=batch.body, **self._post)
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        return self._read(response, batch)


class AsyncRemoteEmbedder(Endpoint):
    """A `RemoteEmbedder` for a program with an event loop: the same methods, the same promises, awaited.

    Images are read and encoded in a thread. It belongs to the loop that first uses it.
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
            ConfigError: an option has a bad value, or is one that an endpoint cannot be asked for.
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
        self._client = httpx.AsyncClient() if client is None else client
        self._owns_client = client is None
        self._room = asyncio.Semaphore(max_concurrency)
        self._closed = False

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E)."""
        return gather_rows(await self._send(self._requests.texts(texts), whole), {}, dimensions=self.dimensions)

    async def embed_query(self, text: str) -> FloatArray:
        """Embed what is searched for, as a query where the model tells queries apart: (E,)."""
        ((_, row),) = await self._send(self._requests.texts([text], query=True), whole)
        return _row(row)

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
        """Let go of the connections; a second call does nothing."""
        self._closed = True
        if self._owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        """Use it in an `async with` statement, which closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
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
                    async with self._room:
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
        if self._closed or self._client.is_closed:
            raise StoreRequestError(_CLOSED)
        try:
            response = await self._client.post(content=batch.body, **self._post)
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        return self._read(response, batch)


def _row(outcome: FloatArray | EmbedInputError) -> FloatArray:
    if isinstance(outcome, EmbedInputError):  # a batch that is sent `whole` raises instead
        raise outcome
    return outcome
