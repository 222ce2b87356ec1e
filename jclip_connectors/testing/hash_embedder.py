"""An embedder for tests that needs no model."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.port import FloatArray, ImageSource

_Result = TypeVar("_Result")


class HashEmbedder:
    """An `Embedder` whose vectors come from hashes: the same in every process, without a model.

    A text is the sum of its words' vectors, so texts that share words are near; an image is the hash of its pixels.
    With tiling, an image wider than one pixel has three tiles: the whole image, its left half and its right half.
    """

    def __init__(self, config: EmbeddingConfig | None = None) -> None:
        """Make an embedder for `config`, which must give `dimensions`; `None` gives 32 dimensions.

        Raises:
            EmbedInputError: the configuration does not give the length of the vectors.
        """
        self._config = EmbeddingConfig(model="hash", revision="1", dimensions=32) if config is None else config
        if self._config.embedding_dim is None:
            raise EmbedInputError("HashEmbedder needs a configuration with `dimensions`")
        self._dimensions = self._config.embedding_dim

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration that the vectors are made for."""
        return self._config

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""
        return self._dimensions

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts: (B, E).

        Raises:
            EmbedInputError: a bare string, or an item that is not a string.
        """
        if isinstance(texts, str):
            raise EmbedInputError(f"`texts` is the string {texts!r}; write [{texts!r}]")
        rows = [self._embed_text(text, position) for position, text in enumerate(texts)]
        return np.array(rows, dtype=np.float32).reshape(-1, self._dimensions)

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query: (E,), equal to the same text's vector."""
        return self._embed_text(text, 0)

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several queries: (B, E), equal to the same texts' vectors."""
        return HashEmbedder.embed_texts(self, texts)

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images: (B, E)."""
        rows = _each(images, self._embed_image)
        return np.array(rows, dtype=np.float32).reshape(-1, self._dimensions)

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed images as wholes and halves.

        Raises:
            EmbedInputError: the configuration has no tiling.
            PartialFailureError: some cannot be read.
        """
        if self._config.tiling is None:
            raise EmbedInputError("`embed_image_tiles` needs a configuration with `tiling`")
        return _each(images, self._embed_tiles)

    def _embed_text(self, text: str, position: int) -> FloatArray:
        if not isinstance(text, str):
            raise EmbedInputError(f"text {position} is {type(text).__name__}, not a string")
        words = text.lower().split() or [""]
        return _unit(np.sum([self._hash(word.encode("utf-8", "surrogatepass")) for word in words], axis=0))

    def _embed_image(self, image: Image.Image) -> FloatArray:
        return _unit(self._hash(repr(image.size).encode() + image.tobytes()))

    def _embed_tiles(self, image: Image.Image) -> TileEmbeddings:
        width, height = image.size
        boxes = [(0, 0, width, height)]
        if width > 1:
            boxes += [(0, 0, width // 2, height), (width // 2, 0, width, height)]
        vectors = np.stack([self._embed_image(image.crop(box)) for box in boxes])  # (T, E)
        return TileEmbeddings(vectors, np.array(boxes, dtype=np.int64))

    def _hash(self, data: bytes) -> FloatArray:
        digest = hashlib.shake_256(data).digest(4 * self._dimensions)
        return (np.frombuffer(digest, dtype="<u4") / 2.0**31 - 1.0).astype(np.float32)  # -1..1


def _each(images: Sequence[ImageSource], embed: Callable[[Image.Image], _Result]) -> list[_Result]:
    if isinstance(images, str | bytes | Path):
        raise EmbedInputError("`images` is one image; write [image]")
    kept: dict[int, _Result] = {}
    failed: dict[int, Exception] = {}
    for position, source in enumerate(images):
        try:
            kept[position] = embed(_open(source))
        except (OSError, ValueError, TypeError) as error:
            failed[position] = EmbedInputError(f"the image cannot be read: {error}")
    if failed:
        raise PartialFailureError("images", failed=failed, kept=kept)
    return list(kept.values())


def _open(source: ImageSource) -> Image.Image:
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    if isinstance(source, np.ndarray):
        return Image.fromarray(source).convert("RGB")
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return image.convert("RGB")


def _unit(vector: FloatArray) -> FloatArray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)
