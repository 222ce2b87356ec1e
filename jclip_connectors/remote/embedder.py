"""An `Embedder` over any Jina-compatible `/v1/embeddings`, the hosted API or your own server; it needs no torch.

    with RemoteEmbedder(EmbeddingConfig(dimensions=512), base_url="http://localhost:8080/v1") as embedder:
        rows = embedder.embed_texts(["a red bicycle"])

In a program with an event loop, use `AsyncRemoteEmbedder`, in `async_embedder`.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import httpx
import tenacity

from core_encoder.forks import ForkSafeLock
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

CLOSED = "the embedder is closed: make a new one"
FORKED = (
    "this process was forked from the one that made `client`, and cannot use its connections: make a new embedder with "
    "a new `client` in this process, or leave out `client`"
)


class RemoteEmbedder(Endpoint):
    """Embeds texts and images with an endpoint; threads may share it.

    The configuration is sent to the endpoint or applied here: `dimensions`, `normalize` and `rendering` work,
    tiles are cut here, and an image that decoders could show differently (turned by EXIF, with transparency, in other
    colour spaces) is sent as a PNG of the pixels that the local encoder would get. Options that can be neither sent nor
    applied here (`max_tokens`, `resize_mode`, `resampling`, `precision`, a `revision` other than the pinned one) are
    refused.

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
        self._pool = self._new_pool()
        self._process = os.getpid()
        self._lock = ForkSafeLock()
        self._inherited: list[object] = []

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
        return one_row(row)

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several search texts, each as `embed_query` does: (B, E)."""
        return gather_rows(self._send(self._requests.texts(texts, query=True), whole), {}, dimensions=self.dimensions)

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
        if self._process != os.getpid():
            return  # the connections belong to the process that this one was forked from
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
        self._own_process()
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

    def _own_process(self) -> None:
        """In a forked process, use connections and threads of its own.

        Raises:
            StoreRequestError: the caller's `client` has connections of the process that this one was forked from.
        """
        with self._lock:
            if self._process == os.getpid():
                return
            if not self._owns_client:
                raise StoreRequestError(FORKED)
            if self._client.is_closed:
                raise StoreRequestError(CLOSED)
            # These are kept: closing them here would end the connections of the other process.
            self._inherited += [self._client, self._pool]
            self._client, self._pool, self._process = httpx.Client(), self._new_pool(), os.getpid()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._max_concurrency, thread_name_prefix="jclip-remote")

    def _submit(self, sending: Sending) -> Future[list[Outcome]]:
        try:
            return self._pool.submit(self._follow, sending)
        except RuntimeError as error:
            raise StoreRequestError(CLOSED) from error

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
            raise StoreRequestError(CLOSED)
        try:
            response = self._client.post(content=batch.body, **self._post)
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        return self._read(response, batch)


def one_row(outcome: FloatArray | EmbedInputError) -> FloatArray:
    """The row of a query, or its error."""
    if isinstance(outcome, EmbedInputError):  # a batch that is sent `whole` raises instead
        raise outcome
    return outcome
