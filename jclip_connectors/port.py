"""The port: what an embedder and a vector store promise, and the records between them.

An adapter is one package that knows this module, the store kit and one SDK. Importing this module loads neither torch
nor an SDK.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.tiling import Box, TileEmbeddings
from jclip_connectors.config import EmbeddingConfig, Fingerprint

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Modality = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]

_ID_NAMESPACE = uuid.UUID("6f0c0dfd-6f0e-5f0b-9d1c-7d9c3a2f4b11")  # drawn once; another one would orphan every record


@dataclass(frozen=True)
class NativeFilter:
    """A filter in a database's own language, handed to it as it is; a store of another database refuses it.

    Attributes:
        value: what the database's own client takes as a filter.
    """

    value: Any


Filter: TypeAlias = Mapping[str, object] | NativeFilter  # the portable grammar is in jclip_connectors.filters


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One text or image of a collection.

    Attributes:
        record_id: any non-empty string.
        modality: what the embedding was made of.
        embedding: (E,) float32; every store compares by cosine and keeps it at unit length.
        tile_embeddings: (T, E) float32, or `None`.
        tile_boxes: (T, 4) int64 left, top, right, bottom in original pixels, or `None`.
        content: the text; of an image its caption, or `None`.
        uri: where the image is; never its bytes.
        content_hash: hash of the text or of the image's bytes, or `None`.
        metadata: a JSON object.
    """

    record_id: str
    modality: Modality
    embedding: FloatArray
    tile_embeddings: FloatArray | None = None
    tile_boxes: IntArray | None = None
    content: str | None = None
    uri: str | None = None
    content_hash: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SearchHit:
    """One result.

    Attributes:
        score: higher is nearer: the cosine, or with tiles that of the nearest tile; where results of both modalities
            are fused, the sum of reciprocal ranks.
        record_id: the record's id.
        modality: text or image.
        metadata: as it was given.
        box: the nearest tile, where tiles were searched and the record has any.
        content: the text of a text; of an image its caption, or `None`.
        uri: the place of an image.
    """

    score: float
    record_id: str
    modality: Modality
    metadata: dict[str, Any]
    box: Box | None = None
    content: str | None = None
    uri: str | None = None


class Embedder(Protocol):
    """Texts and images in, comparable vectors out: float32, `dimensions` long, of unit length if the config says so."""

    @property
    def config(self) -> EmbeddingConfig:
        """What shapes the vectors."""

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions.

        Args:
            texts: B strings; an empty sequence gives (0, E).

        Returns:
            (B, E) float32 in the order of `texts`.

        Raises:
            EmbedInputError: an item is not a string, or cannot be embedded.
        """

    def embed_query(self, text: str) -> FloatArray:
        """Embed what is searched for, as a query where the model tells queries and documents apart.

        Args:
            text: the query.

        Returns:
            (E,) float32.

        Raises:
            EmbedInputError: it is not a string, or cannot be embedded.
        """

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole.

        Args:
            images: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays (H, W, 3).

        Returns:
            (B, E) float32 in the order of `images`.

        Raises:
            PartialFailureError: some cannot be read; `kept` has the (E,) rows of the others.
        """

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles, by `config.tiling`.

        Args:
            images: as for `embed_images`.

        Returns:
            One `TileEmbeddings` for each image, in their order: (T, E) float32 vectors and (T, 4) int64 boxes.

        Raises:
            PartialFailureError: some cannot be read; `kept` has the `TileEmbeddings` of the others.
            EmbedInputError: the configuration has no tiling.
        """


class AsyncEmbedder(Protocol):
    """An `Embedder` for a program with an event loop: the same methods, the same promises, awaited."""

    @property
    def config(self) -> EmbeddingConfig:
        """What shapes the vectors."""

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E) in the order of `texts`."""

    async def embed_query(self, text: str) -> FloatArray:
        """Embed what is searched for: (E,)."""

    async def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole: (B, E) in the order of `images`."""

    async def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles, by `config.tiling`."""


class VectorStore(Protocol):
    """Records by id, searched by cosine.

    Every method validates all of its arguments before it writes or asks anything, and raises `EmbedInputError` for bad
    input, `StoreUnavailableError` where another try may help and `StoreRequestError` where it will not. `where` is a
    filter in the grammar of `jclip_connectors.filters`, or a `NativeFilter`; `None` and `{}` match everything.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, each in place of the one with its id; of two with one id the last is kept.

        Args:
            records: checked as a whole before anything is written.

        Raises:
            PartialFailureError: the store refused some; the positions in `failed` and `kept` are those in `records`.
        """

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records, nearest first; of equal scores in the order of ids.

        Args:
            embedding: (E,) float32, of any length but zero.
            limit: at most this many.
            where: only records that match this filter.
            modality: "text" or "image" to find only these.
            tiles: whether a record is as near as its nearest tile; one without tiles counts by its embedding.

        Raises:
            EmbedInputError: an argument that cannot be used, or `tiles` where the collection keeps none.
        """

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist.

        Args:
            ids: ids of records; one that does not exist is left out of the result.

        Returns:
            The records in the order of `ids`.
        """

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two.

        Args:
            ids: ids of records; one that does not exist is no error.
            where: delete the records that match this filter; `{}` deletes everything.

        Raises:
            EmbedInputError: neither or both are given.
        """

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match, exactly.

        Args:
            where: a filter; `None` counts all.
            modality: "text" or "image" to count only these.
        """

    def scroll(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[Record]:
        """Go through the records that match, in no particular order, holding few at a time.

        Args:
            where: a filter; `None` gives all.
            modality: "text" or "image" to get only these.
        """

    def close(self) -> None:
        """Let go of what the store holds; a second call does nothing."""


class AsyncVectorStore(Protocol):
    """A `VectorStore` for a program with an event loop: the same methods, the same promises, awaited."""

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""

    async def upsert(self, records: Sequence[Record]) -> None:
        """Write records, each in place of the one with its id."""

    async def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records to `embedding` (E,), nearest first."""

    async def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""

    async def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two."""

    async def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""

    def scroll(self, *, where: Filter | None = None, modality: Modality | None = None) -> AsyncIterator[Record]:
        """Go through the records that match, in no particular order, holding few at a time."""

    async def close(self) -> None:
        """Let go of what the store holds; a second call does nothing."""


def record_uuid(record_id: str) -> uuid.UUID:
    """The UUID of an id, for stores that want one: the same in every process and store."""
    return uuid.uuid5(_ID_NAMESPACE, record_id)
