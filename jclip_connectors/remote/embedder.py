"""An `Embedder` over any Jina-compatible `/v1/embeddings`, the hosted API or your own server; it needs no torch.

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
    """Embeds texts and images with an endpoint; threads may share it.

    The configuration is sent to the endpoint or applied here: `dimensions`, `normalize` and `exif_orientation` work,
    tiles are cut here, and an image that decoders could show differently (turned by EXIF, with transparency, in other
    colour spaces) is sent as a PNG of the pixels that the local encoder would get. Options that can be neither sent nor
    applied here (`max_tokens`, `resize_mode`, `precision`, a `revision` other than the pinned one) are refused.

    An endpoint cannot prove which weights it runs. With a hub id as `model`, *you* state that it runs these weights:
    the fingerprint then equals the local encoder's, and both may use the same collection. Do this only for a server
    that you run with that model. Otherwise name the vectors after the endpoint, as in
    `EmbeddingConfig(model="jina-clip-v2", revision="api.jina.ai", dimensions=1024)`: they then cannot go into a
    collection of local vectors. In both cases, an answer that names a model other than the requested one is refused.
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
            config: the model and its options; for an unknown model it must give `dimensions`.
            base_url: the URL without `/embeddings`.
            api_key: sent to `base_url`; `None` reads the variable JINA_API_KEY now for the hosted API, and sends no key
                to any other endpoint, which must not see that key.
            timeout_s: for connecting, and for every pause in an answer.
            max_concurrency: requests at one time.
            max_items: of a request.
            max_request_bytes: of a request.
            max_image_bytes: of an image as it is sent; the published limit is 8 MB.
            attempts: the most times that a request is sent while the endpoint is busy or unreachable.
            truncate: the endpoint cuts texts over the model's limit, without a warning; `False` makes it refuse them.
            client: sends the requests, and is closed by the caller; `None` makes one.

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
        self._client = httpx.Client() if client is None else client
        self._owns_client = client is None
        self._pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="jclip-remote")

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E).

        Raises:
            EmbedInputError: an item is not a string, or the endpoint refuses it.
            StoreUnavailableError: the endpoint is busy or cannot be reached.
            StoreRequestError: the endpoint refuses the key or the request, or its answer is not valid.
        """
        return gather_rows(self._send(self._requests.texts(texts), whole), {}, dimensions=self.dimensions)

    def embed_query(self, text: str) -> FloatArray:
        """Embed a search text, as a query if the model treats queries differently: (E,)."""
        ((_, row),) = self._send(self._requests.texts([text], query=True), whole)
        return _row(row)

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole: (B, E).

        Raises:
            PartialFailureError: some images are unreadable or refused by the endpoint; `kept` has the other rows.
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
        """Finish the running requests and close the connections; a second call does nothing."""
        self._pool.shutdown()
        if self._owns_client:
            self._client.close()

    def __enter__(self) -> Self:
        """Use the embedder in a `with` statement, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the embedder."""
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
    """A `RemoteEmbedder` for a program with an event loop: the same methods with the same behaviour, to be awaited.

    Images are read and encoded in a thread. Use it only in the event loop that first uses it.
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
        self._client = httpx.AsyncClient() if client is None else client
        self._owns_client = client is None
        self._room = asyncio.Semaphore(max_concurrency)
        self._closed = False

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E)."""
        return gather_rows(await self._send(self._requests.texts(texts), whole), {}, dimensions=self.dimensions)

    async def embed_query(self, text: str) -> FloatArray:
        """Embed a search text, as a query if the model treats queries differently: (E,)."""
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
        """Close the connections; a second call does nothing."""
        self._closed = True
        if self._owns_client:
            await self._client.aclose()

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
