"""An embedding function of LanceDB's registry: a table embeds pictures and texts when they are added or asked for.

The registry's name is "jclip". A table keeps the options, and makes the function anew at each use; so the loaded models
are kept in this process.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pyarrow as pa
from lancedb.embeddings import EmbeddingFunction, register
from pydantic import ConfigDict, model_validator

from core_encoder.forks import ForkSafeLock
from core_encoder.image_preprocess import Resampling, ResizeMode
from core_encoder.models import Precision
from core_encoder.rendering import Rendering
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import Embedder, FloatArray, ImageSource

_DEFAULT = EmbeddingConfig()
_OPTIONS = tuple(field.name for field in dataclasses.fields(EmbeddingConfig) if field.name != "tiling")
_MODELS = 2  # that are kept loaded
_LOCK = ForkSafeLock()


@register("jclip")  # type: ignore[no-untyped-call]
class JinaClipEmbeddings(EmbeddingFunction):
    """Embeds the source column of a table, and its queries: texts, or pictures.

    `get_registry().get("jclip").create(...)` makes one; the options are those of `EmbeddingConfig`, by the same names,
    but `tiling`. Import `jclip_connectors.lancedb` before a table is opened that was made with it. Search with
    `.distance_type("cosine")`.

    Attributes:
        model: hub id, folder, or "nano".
        revision: commit of a hub id.
        dimensions: length of the vectors.
        normalize: whether vectors have unit length.
        max_tokens: longer texts are cut to this many tokens.
        resize_mode: how an image becomes square.
        rendering: how an image's file becomes pixels.
        resampling: "exact" or "fast".
        precision: number format in which the model computes.
        max_pixels: width times height of an image.
        max_image_bytes: size of an image's file.
        source: what the source column has: "image" for paths, `file:` URLs or the bytes of images, "text" for texts.
        device: "cpu", "cuda", ...; `None` uses CUDA if it is available.
        max_retries: 0, as no retry makes a bad image good; LanceDB's own default waits for minutes.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = _DEFAULT.model
    revision: str | None = _DEFAULT.revision
    dimensions: int | None = _DEFAULT.dimensions
    normalize: bool = _DEFAULT.normalize
    max_tokens: int | None = _DEFAULT.max_tokens
    resize_mode: ResizeMode | None = _DEFAULT.resize_mode
    rendering: Rendering = _DEFAULT.rendering
    resampling: Resampling = _DEFAULT.resampling
    precision: Precision = _DEFAULT.precision
    max_pixels: int | None = _DEFAULT.max_pixels
    max_image_bytes: int | None = _DEFAULT.max_image_bytes
    source: Literal["image", "text"] = "image"
    device: str | None = None
    max_retries: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.embedding_config()
        return self

    def embedding_config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""
        return EmbeddingConfig(**{name: getattr(self, name) for name in _OPTIONS})

    def ndims(self) -> int:
        """The length of the vectors."""
        known = self.embedding_config().embedding_dim
        return self._embedder().dimensions if known is None else known

    def compute_query_embeddings(self, query: ImageSource, *_: object, **__: object) -> list[FloatArray]:  # type: ignore[override]  # its types are no types
        """Embed one query.

        Args:
            query: a text; or a picture as bytes, a Pillow image or a uint8 array (H, W, 3).

        Returns:
            One row (E,).

        Raises:
            EmbedInputError: the query cannot be embedded.
        """
        embedder = self._embedder()
        return [embedder.embed_query(query)] if isinstance(query, str) else self._images([query], name="the query")

    def compute_source_embeddings(self, items: Any, *_: object, **__: object) -> list[FloatArray | None]:  # noqa: ANN401 (a list, an array of Arrow, or one item)
        """Embed the source column.

        Args:
            items: B texts, or B pictures as paths, `file:` URLs or bytes; null is left out.

        Returns:
            B rows (E,), and `None` for null.

        Raises:
            EmbedInputError: an item cannot be embedded; its position is named.
        """
        given = _as_list(items)
        present = [at for at, item in enumerate(given) if item is not None]
        values = [given[at] for at in present]
        name = f"item {{}} of the column of {self.source}s"
        if not values:
            rows: Sequence[FloatArray] = []
        elif self.source == "text":
            rows = list(self._embedder().embed_texts(values))
        else:
            rows = self._images([_path(value) for value in values], name=name, positions=present)
        found: dict[int, FloatArray] = dict(zip(present, rows, strict=True))
        return [found.get(at) for at in range(len(given))]

    def compute_query_embeddings_with_retry(self, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401 (passed on)
        """As `compute_query_embeddings`: a model in this process does not fail for a moment.

        Args:
            *arguments: passed on.
            **options: passed on.

        Raises:
            EmbedInputError: the query cannot be embedded.
        """
        return self.compute_query_embeddings(*arguments, **options)

    def compute_source_embeddings_with_retry(self, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401 (passed on)
        """As `compute_source_embeddings`: a model in this process does not fail for a moment.

        Args:
            *arguments: passed on.
            **options: passed on.

        Raises:
            EmbedInputError: an item cannot be embedded; its position is named.
        """
        return self.compute_source_embeddings(*arguments, **options)

    def _embedder(self) -> Embedder:
        with _LOCK:
            return _load(self.embedding_config(), self.device)

    def _images(
        self, images: Sequence[ImageSource], *, name: str, positions: Sequence[int] | None = None
    ) -> list[FloatArray]:
        try:
            return [np.asarray(row, np.float32) for row in self._embedder().embed_images(images)]
        except PartialFailureError as error:
            at, reason = next(iter(error.failed.items()))
            told = name.format(at if positions is None else positions[at])
            raise EmbedInputError(f"{told} cannot be embedded: {reason}") from error


@functools.lru_cache(maxsize=_MODELS)
def _load(config: EmbeddingConfig, device: str | None) -> Embedder:
    return LocalEmbedder(config, device=device)


def _as_list(items: Any) -> list[Any]:  # noqa: ANN401 (what LanceDB gives)
    if isinstance(items, str | bytes):
        return [items]
    if isinstance(items, pa.Array | pa.ChunkedArray):
        values: list[Any] = items.to_pylist()
        return values
    return list(items)


def _path(item: Any) -> Any:  # noqa: ANN401 (an image in any form)
    """The path of a `file:` URL; anything else as it is."""
    if isinstance(item, str) and item.startswith("file:"):
        return url2pathname(urlsplit(item).path)
    return item
