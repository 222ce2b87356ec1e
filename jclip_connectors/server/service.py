"""One request from its body to its answer: parse, prepare in threads, queue for the model, write."""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core_encoder.image_limits import ImageLimits
from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.matryoshka import normalize, truncate
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.server.engine import Engine, Kind, Outcome, Ticket
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.observation import contained
from jclip_connectors.server.preparation import Encoder, Preparation, PreparedImage, PreparedText, text_groups
from jclip_connectors.server.requests import (
    Answer,
    Call,
    Dialect,
    EmbeddingRequest,
    ImageItem,
    RequestError,
    Served,
    TextItem,
    UrlItem,
    Vector,
    item_error,
)

_IMAGE_THREADS = min(8, os.cpu_count() or 1)
_BATCHES_AHEAD = 2  # batches of decoded images that one request may hold
_REQUESTS_AHEAD = 4  # requests that may hold so many at the same time
_FETCHES = 16  # at the same time, each of at most `max_image_bytes`
_INLINE_BYTES = 1024  # a request up to this size is read and tokenized faster than a thread would start
_INLINE_VALUES = 4096  # of an answer, likewise
_OF_THE_URL = re.compile(r"(?<=the image's host) '[^']*'| with the port \d+")  # what an error repeats of a URL

Groups: TypeAlias = Iterator[dict[int, str]]
"""Groups of texts by their index in the request; a thread tokenizes one group at a time."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to serve.

    Attributes:
        encoder: computes the vectors.
        preprocessing: of the same checkpoint.
        names: that clients may use for it; the first is the listed one.
        batch_tokens: highest cost of a batch on its device.
        hub_id: of the checkpoint; "" if it came from a folder.
    """

    encoder: Encoder
    preprocessing: PreprocessConfig
    names: tuple[str, ...]
    batch_tokens: int
    hub_id: str = ""


class Fetcher(Protocol):
    """The part of `ImageFetcher` that the server uses."""

    async def fetch(self, url: str) -> bytes: ...  # noqa: D102 (as in `ImageFetcher`, like the rest)
    async def aclose(self) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class _Result:
    """The raw features of an item or its error, and the tokens that are reported for it."""

    outcome: Outcome
    text_tokens: int = 0
    image_tokens: int = 0


class EmbeddingService:
    """Answers embedding requests with one model; use it in one event loop only."""

    def __init__(
        self,
        model: LoadedModel,
        config: EmbeddingConfig,
        *,
        limits: ServerLimits,
        fetcher: Fetcher | None = None,
        observe_batch: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        """Make the engine, the preparation and the threads; `engine.start` begins the work.

        Args:
            model: computes the vectors.
            config: defaults for options that a request leaves out.
            limits: on requests.
            fetcher: of image URLs; `None` refuses them.
            observe_batch: called after every batch with "text" or "image", the number of items, and the seconds.
        """
        self.model = model
        self.served = Served(
            names=model.names,
            embedding_dim=model.encoder.embedding_dim,
            dimensions=model.encoder.embedding_dim if config.dimensions is None else config.dimensions,
            limits=limits,
            image_urls=fetcher is not None,
        )
        self.max_tokens = model.encoder.max_tokens if config.max_tokens is None else config.max_tokens
        self.engine = Engine(
            model.encoder,
            batch_tokens=model.batch_tokens,
            max_waiting_requests=limits.max_waiting_requests,
            max_waiting_tokens=limits.max_waiting_tokens,
            max_wait_s=limits.max_wait_s,
            observe=observe_batch,
        )
        self._normalize = config.normalize
        self._preparation = Preparation(
            model.encoder,
            model.preprocessing,
            limits=ImageLimits(
                max_bytes=limits.max_image_bytes, max_pixels=limits.max_pixels, max_decode_s=limits.max_decode_s
            ),
            max_tokens=self.max_tokens,
            resize_mode=config.resize_mode,
            rendering=config.rendering,
            resampling=config.resampling,
        )
        self._fetcher = fetcher
        self._fetches = asyncio.Semaphore(_FETCHES)
        # Decoded images wait here for the model, so that requests with thousands of them do not fill the memory.
        self._images_ahead = max(_IMAGE_THREADS, _BATCHES_AHEAD * (model.batch_tokens // self._preparation.image_cost))
        self._decoded = asyncio.Semaphore(_REQUESTS_AHEAD * self._images_ahead)
        # Separate pools, so that no text waits for the decoding of images.
        self._text_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="jclip-text")
        self._image_threads = ThreadPoolExecutor(max_workers=_IMAGE_THREADS, thread_name_prefix="jclip-image")

    async def close(self) -> None:
        """Finish the accepted requests, and stop the threads and the fetcher."""
        await self.engine.close()
        self._text_threads.shutdown()
        self._image_threads.shutdown()
        if self._fetcher is not None:
            await self._fetcher.aclose()

    async def answer(self, body: bytes, dialect: Dialect) -> tuple[bytes, Answer]:
        """Answer a request in its dialect; returns the written body and the `Answer` in it.

        Raises:
            RequestError: of the request, or of a bad item if the request is not `partial`.
        """
        loop = asyncio.get_running_loop()
        if len(body) <= _INLINE_BYTES:
            call, ready, groups = self._read(body, dialect)
        else:
            call, ready, groups = await loop.run_in_executor(self._text_threads, contained, self._read, body, dialect)
        for group in groups:  # one by one, so that texts of other requests get their turn
            ready |= await loop.run_in_executor(
                self._text_threads, contained, self._preparation.prepare_texts, call.request, group
            )
        if not call.request.partial:
            _raise_first(ready)
        vectors = await self._compute(call.request, ready)
        if len(vectors) * self.served.dimensions <= _INLINE_VALUES:
            return self._write(call, vectors)
        return await loop.run_in_executor(self._text_threads, contained, self._write, call, vectors)

    async def embed_query(self, item: TextItem | ImageItem) -> NDArray[np.float32]:
        """Embed one query with the options of the configuration: (E,) float32.

        Raises:
            RequestError: the item cannot be embedded, or too much work waits.
        """
        request = EmbeddingRequest(items=(item,), query=True, truncate=True)
        texts = {0: item.text} if isinstance(item, TextItem) else {}
        ready = await asyncio.get_running_loop().run_in_executor(
            self._text_threads, contained, self._preparation.prepare_texts, request, texts
        )
        _raise_first(ready)
        (vector,) = self._finish(request, [result.outcome for result in await self._compute(request, ready)])
        if isinstance(vector, RequestError):
            raise vector
        return vector

    def _read(self, body: bytes, dialect: Dialect) -> tuple[Call, dict[int, PreparedText | RequestError], Groups]:
        """Read a request and prepare its first group of texts; most requests have only one group."""
        call = dialect.read(body, self.served)
        refused = {i: item for i, item in enumerate(call.request.items) if isinstance(item, RequestError)}
        if not call.request.partial:
            _raise_first(refused)
        groups = text_groups(call.request)
        first = next(groups, {})
        return call, {**refused, **self._preparation.prepare_texts(call.request, first)}, groups

    async def _compute(
        self, request: EmbeddingRequest, ready: Mapping[int, PreparedText | RequestError]
    ) -> list[_Result]:
        """Compute all items that are not errors; images are decoded at the same time."""
        texts = {index: item for index, item in ready.items() if isinstance(item, PreparedText)}
        images = {i: item for i, item in enumerate(request.items) if isinstance(item, ImageItem | UrlItem)}
        results = {index: _Result(item) for index, item in ready.items() if isinstance(item, RequestError)}
        costs: dict[Kind, int] = {
            PreparedText: sum(text.cost for text in texts.values()),
            PreparedImage: len(images) * self._preparation.image_cost,
        }
        with self.engine.admit(costs) as ticket:
            if images:
                turn = asyncio.Semaphore(self._images_ahead)
                try:
                    async with asyncio.TaskGroup() as tasks:
                        running = {
                            index: tasks.create_task(self._compute_image(ticket, turn, request, index, item))
                            for index, item in images.items()
                        }
                        outcomes = await ticket.compute(list(texts.values()))
                except* RequestError as refusals:
                    raise refusals.exceptions[0] from None
                results |= {index: task.result() for index, task in running.items()}
            else:
                outcomes = await ticket.compute(list(texts.values()))
        for (index, text), outcome in zip(texts.items(), outcomes, strict=True):
            results[index] = _Result(outcome, text_tokens=text.usage)
        if not request.partial:
            _raise_first({index: result.outcome for index, result in results.items()})
        return [results[index] for index in range(len(request.items))]

    async def _compute_image(
        self, ticket: Ticket, turn: asyncio.Semaphore, request: EmbeddingRequest, index: int, item: ImageItem | UrlItem
    ) -> _Result:
        """Fetch, decode and compute one image; raises its error if the request is not `partial`."""
        loop, number = asyncio.get_running_loop(), request.number(index)
        async with turn, self._fetches if isinstance(item, UrlItem) else contextlib.nullcontext():
            data = await self._fetch(item.url, number) if isinstance(item, UrlItem) else item.data
            async with self._decoded:
                image: PreparedImage | RequestError
                if isinstance(data, RequestError):
                    image = data
                else:
                    image = await loop.run_in_executor(
                        self._image_threads, contained, self._preparation.prepare_image, data, number
                    )
                if not isinstance(image, RequestError):
                    return _Result((await ticket.compute([image]))[0], image_tokens=image.usage)
        if not request.partial:
            raise image
        return _Result(image)

    async def _fetch(self, url: str, number: int) -> bytes | RequestError:
        if self._fetcher is None:
            return item_error(number, "is the URL of an image, and this server does not fetch images")
        try:
            return await self._fetcher.fetch(url)
        except EmbedInputError as error:
            detail = _OF_THE_URL.sub("", str(error))
            return item_error(number, f"cannot be fetched: {detail}", code="INPUT_URL")

    def _write(self, call: Call, results: Sequence[_Result]) -> tuple[bytes, Answer]:
        good = [result for result in results if not isinstance(result.outcome, RequestError)]
        answer = Answer(
            vectors=self._finish(call.request, [result.outcome for result in results]),
            text_tokens=sum(result.text_tokens for result in good),
            image_tokens=sum(result.image_tokens for result in good),
        )
        return call.write(answer), answer

    def _finish(self, request: EmbeddingRequest, results: list[Outcome]) -> list[Vector]:
        """Raw features -> vectors for the client: truncation first, then unit length, as in the encoder."""
        good = [index for index, result in enumerate(results) if not isinstance(result, RequestError)]
        rows = [result for result in results if not isinstance(result, RequestError)]
        if not rows:
            return results
        dimensions = self.served.dimensions if request.dimensions is None else request.dimensions
        vectors: NDArray[np.float32] = truncate(np.array(rows), dimensions)  # (n, dimensions)
        if self._normalize if request.normalized is None else request.normalized:
            vectors = normalize(vectors)
        finished = list(results)
        for index, vector in zip(good, vectors, strict=True):
            finished[index] = vector
        return finished


def _raise_first(results: Mapping[int, object]) -> None:
    """Raise the error with the lowest item index, if there is an error."""
    for _, result in sorted(results.items()):
        if isinstance(result, RequestError):
            raise result
