"""One request from its body to its answer: parse, prepare in threads, queue for the model, write."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core_encoder.image_input import ImageLimits
from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.matryoshka import normalize, truncate
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.engine import Engine, Outcome
from jclip_connectors.server.jina import format_answer, parse_request
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.preparation import Encoder, Preparation, Prepared, PreparedText
from jclip_connectors.server.requests import EmbeddingRequest, ImageItem, RequestError

_IMAGE_THREADS = min(8, os.cpu_count() or 1)
_INLINE_VALUES = 4096  # of an answer; more are written in a thread


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to serve.

    Attributes:
        encoder: computes the vectors.
        preprocessing: of the same checkpoint.
        names: what clients may call it; the first is its own.
        hub_id: of the checkpoint; "" where it came from a folder.
    """

    encoder: Encoder
    preprocessing: PreprocessConfig
    names: tuple[str, ...]
    hub_id: str = ""


class EmbeddingService:
    """Answers embedding requests with one model; lives in one event loop."""

    def __init__(self, model: LoadedModel, config: EmbeddingConfig, *, limits: ServerLimits, batch_tokens: int) -> None:
        """Put the parts together; `start` begins the work."""
        self.model = model
        self.limits = limits
        self.dimensions = model.encoder.embedding_dim if config.dimensions is None else config.dimensions
        max_tokens = model.encoder.max_tokens if config.max_tokens is None else config.max_tokens
        self.engine = Engine(
            model.encoder,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            max_waiting_tokens=limits.max_waiting_tokens,
        )
        self._normalize = config.normalize
        self._preparation = Preparation(
            model.encoder,
            model.preprocessing,
            limits=ImageLimits(max_bytes=limits.max_image_bytes, max_pixels=limits.max_pixels),
            max_tokens=max_tokens,
            resize_mode=config.resize_mode,
            exif_orientation=config.exif_orientation,
        )
        # Apart, so that no text waits for the decoding of images.
        self._text_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="jclip-text")
        self._image_threads = ThreadPoolExecutor(max_workers=_IMAGE_THREADS, thread_name_prefix="jclip-image")

    async def close(self) -> None:
        """Finish what was accepted."""
        await self.engine.close()
        self._text_threads.shutdown()
        self._image_threads.shutdown()

    async def answer(self, body: bytes) -> bytes:
        """Answer a request of the hosted API's dialect.

        Raises:
            RequestError: of the request, or of its first bad item where it is not `partial`.
        """
        loop = asyncio.get_running_loop()
        request, ready = await loop.run_in_executor(self._text_threads, self._parse, body)
        ready.update(await self._prepare_images(request))
        prepared = [ready[index] for index in range(len(request.items))]
        if not request.partial:
            _raise_first(prepared)
        outcomes = iter(await self.engine.run([item for item in prepared if not isinstance(item, RequestError)]))
        results = [item if isinstance(item, RequestError) else next(outcomes) for item in prepared]
        if not request.partial:
            _raise_first(results)
        if len(results) * self.dimensions <= _INLINE_VALUES:
            return self._write(request, prepared, results)
        return await loop.run_in_executor(self._text_threads, self._write, request, prepared, results)

    async def _prepare_images(self, request: EmbeddingRequest) -> dict[int, Prepared | RequestError]:
        """Decode the images of a request, a few at a time, so that those of other requests come in between."""
        loop = asyncio.get_running_loop()
        turn = asyncio.Semaphore(_IMAGE_THREADS)

        async def prepare(item: ImageItem, index: int) -> Prepared | RequestError:
            async with turn:
                return await loop.run_in_executor(self._image_threads, self._preparation.prepare_image, item, index)

        images = {index: item for index, item in enumerate(request.items) if isinstance(item, ImageItem)}
        prepared = await asyncio.gather(*(prepare(item, index) for index, item in images.items()))
        return dict(zip(images, prepared, strict=True))

    def _parse(self, body: bytes) -> tuple[EmbeddingRequest, dict[int, Prepared | RequestError]]:
        """Read a request and make ready what takes no decoding of images."""
        request = parse_request(
            body,
            model_names=self.model.names,
            embedding_dim=self.model.encoder.embedding_dim,
            default_dimensions=self.dimensions,
            limits=self.limits,
        )
        refused = {index: item for index, item in enumerate(request.items) if isinstance(item, RequestError)}
        if not request.partial:
            _raise_first(list(refused.values()))
        return request, {**refused, **self._preparation.prepare_texts(request)}

    def _write(
        self, request: EmbeddingRequest, prepared: list[Prepared | RequestError], results: list[Outcome]
    ) -> bytes:
        text_tokens, image_tokens = 0, 0
        for item, result in zip(prepared, results, strict=True):
            if isinstance(item, RequestError) or isinstance(result, RequestError):
                continue
            if isinstance(item, PreparedText):
                text_tokens += item.usage
            else:
                image_tokens += item.usage
        return format_answer(
            request,
            self._finish(request, results),
            model=self.model.names[0],
            text_tokens=text_tokens,
            image_tokens=image_tokens,
        )

    def _finish(self, request: EmbeddingRequest, results: list[Outcome]) -> list[Outcome]:
        """Raw features -> what the client asked for: truncation first, then unit length, as the encoder does."""
        good = [index for index, result in enumerate(results) if not isinstance(result, RequestError)]
        rows = [result for result in results if not isinstance(result, RequestError)]
        if not rows:
            return results
        dimensions = self.dimensions if request.dimensions is None else request.dimensions
        vectors: NDArray[np.float32] = truncate(np.stack(rows), dimensions)  # (n, dimensions)
        if self._normalize if request.normalized is None else request.normalized:
            vectors = normalize(vectors)
        finished = list(results)
        for index, vector in zip(good, vectors, strict=True):
            finished[index] = vector
        return finished


def _raise_first(results: Sequence[object]) -> None:
    for result in results:
        if isinstance(result, RequestError):
            raise result
