"""The port: the interfaces of embedders and vector stores, and the records that they exchange.

An adapter imports this module, the store kit and one SDK. Importing this module loads neither torch nor an SDK.
"""

import hashlib
import uuid
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.tiling import Box, TileEmbeddings
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Modality = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]

_ID_NAMESPACE = uuid.UUID("6f0c0dfd-6f0e-5f0b-9d1c-7d9c3a2f4b11")  # fixed: another value would orphan stored records


@dataclass(frozen=True)
class NativeFilter:
    """A filter in a database's own language, passed to it unchanged; a store of another database refuses it.

    Attributes:
        value: a filter object of the database's own client.
    """

    value: Any


Filter: TypeAlias = Mapping[str, object] | NativeFilter  # the portable grammar is in jclip_connectors.filters


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One text or image of a collection.

    Attributes:
        record_id: any non-empty string.
        modality: whether the record is a text or an image.
        embedding: (E,) float32; stores keep it at unit length and compare by cosine. A record that was read without
            vectors has (0,) here and no tiles; no store accepts it for writing.
        tile_embeddings: (T, E) float32, or `None`.
        tile_boxes: (T, 4) int64 left, top, right, bottom in original pixels, or `None`.
        content: the text of a text record; the caption of an image, or `None`.
        uri: the location of the image; never its bytes.
        content_hash: the hash of the text or of the image's bytes, or `None`.
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
        score: the cosine, higher is nearer; in a search over tiles, the cosine of the nearest tile.
        record_id: the record's id.
        modality: "text" or "image".
        metadata: unchanged, as it was added.
        box: the box of the nearest tile in a search over tiles; `None` for a record without tiles.
        content: the text of a text record; the caption of an image, or `None`.
        uri: the location of an image.
        content_hash: the hash of the text or of the image's bytes, or `None`.
        rank_score: in a search of a collection that finds texts and images, the number by which its results are
            ordered: how many standard deviations the cosine is above the mean of the query's cosines with records of
            this modality; `None` in other searches, whose results are ordered by `score`.
        duplicates: in a search of a collection that groups duplicates, the ids of the other records of equal content.
    """

    score: float
    record_id: str
    modality: Modality
    metadata: dict[str, Any]
    box: Box | None = None
    content: str | None = None
    uri: str | None = None
    content_hash: str | None = None
    rank_score: float | None = None
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `VectorStore.verify` has found.

    Attributes:
        counted: the number of records, as the store counts them.
        found: how many of the records that were read are found by a search for their own vectors.
        missing: the ids of the records that were read and are not found.
        repaired: the ids of those of `missing` that were deleted and written again, and are found now.
    """

    counted: int
    found: int
    missing: tuple[str, ...]
    repaired: tuple[str, ...]


class Embedder(Protocol):
    """Embeds texts and images as comparable float32 vectors of `dimensions` values, of unit length if so configured."""

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions.

        Args:
            texts: B strings; an empty sequence returns (0, E).

        Returns:
            (B, E) float32 in the order of `texts`.

        Raises:
            EmbedInputError: an item is not a string, or cannot be embedded.
        """

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query, with the model's query prefix if it has one.

        Args:
            text: the query.

        Returns:
            (E,) float32.

        Raises:
            EmbedInputError: `text` is not a string, or cannot be embedded.
        """

    def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several queries at once, each as `embed_query` does.

        Args:
            texts: B queries; an empty sequence returns (0, E).

        Returns:
            (B, E) float32 in the order of `texts`.

        Raises:
            EmbedInputError: an item is not a string, or cannot be embedded.
        """

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed whole images.

        Args:
            images: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays (H, W, 3).

        Returns:
            (B, E) float32 in the order of `images`.

        Raises:
            PartialFailureError: some images cannot be read; `kept` has the (E,) rows of the readable images.
        """

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles, by `config.tiling`.

        Args:
            images: as for `embed_images`.

        Returns:
            One `TileEmbeddings` for each image, in order: (T, E) float32 vectors and (T, 4) int64 boxes.

        Raises:
            PartialFailureError: some images cannot be read; `kept` has the `TileEmbeddings` of the readable images.
            EmbedInputError: the configuration has no tiling.
        """


@runtime_checkable
class StreamingEmbedder(Protocol):
    """An `Embedder` that can read images while it embeds others."""

    def stream_images(
        self, images: Iterable[ImageSource], *, at_once: int
    ) -> Generator[FloatArray | TileEmbeddings | EmbedInputError, None, None]:
        """Embed any number of images: in tiles if the configuration has them, else as wholes.

        Args:
            images: as for `embed_images`; some of them are asked for before they are needed.
            at_once: the most images that the model sees together.

        Yields:
            For each image, in order: its row, (E,) float32; or its `TileEmbeddings`; or why it cannot be read.
        """


class AsyncEmbedder(Protocol):
    """The asyncio version of `Embedder`: the same methods, awaited."""

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""

    async def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E) in the order of `texts`."""

    async def embed_query(self, text: str) -> FloatArray:
        """Embed a query: (E,)."""

    async def embed_queries(self, texts: Sequence[str]) -> FloatArray:
        """Embed several queries at once: (B, E) in the order of `texts`."""

    async def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed whole images: (B, E) in the order of `images`."""

    async def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles, by `config.tiling`."""


class VectorStore(Protocol):
    """Stores records by id and searches them by cosine.

    Every method validates all arguments before it sends a request. It raises `EmbedInputError` for bad input,
    `StoreUnavailableError` if a retry may help, and `StoreRequestError` if a retry will not help. `where` is a filter
    in the grammar of `jclip_connectors.filters`, or a `NativeFilter`; `None` and `{}` match every record.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records; a record replaces the stored record with the same id. The last of several with one id is kept.

        Args:
            records: all of them are checked before any is written.

        Raises:
            PartialFailureError: the store refused some; `failed` and `kept` are by position in `records`.
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
        """Find the nearest records, nearest first; records with equal scores are in the order of their ids.

        Args:
            embedding: (E,) float32, not all zero.
            limit: the largest number of results.
            where: only records that match this filter.
            modality: "text" or "image" to find only texts or only images.
            tiles: compare the nearest tile of each record; a record without tiles is compared by its embedding.

        Raises:
            EmbedInputError: a bad argument, or `tiles` for a collection without tiles.
        """

    def search_many(
        self,
        embeddings: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for several vectors at once: the results of `search` for each, in few requests if the database can.

        Args:
            embeddings: (B, E) float32, no row all zero; (0, E) gives an empty list.
            limit: the largest number of results for each vector.
            where: only records that match this filter.
            modality: "text" or "image" to find only texts or only images.
            tiles: compare the nearest tile of each record; a record without tiles is compared by its embedding.

        Returns:
            B lists of results, in the order of `embeddings`.

        Raises:
            EmbedInputError: a bad argument, or `tiles` for a collection without tiles.
        """

    def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Fetch records by id.

        Args:
            ids: ids of records; an unknown id is left out of the result.
            vectors: whether to read the vectors; without them, `embedding` is (0,) and the tile fields are `None`.

        Returns:
            The records in the order of `ids`.
        """

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter.

        Args:
            ids: ids of records; an unknown id is ignored.
            where: delete the records that match this filter; `{}` deletes everything.

        Raises:
            EmbedInputError: neither or both of `ids` and `where` are given.
        """

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records exactly.

        Args:
            where: a filter; `None` counts every record.
            modality: "text" or "image" to count only texts or only images.
        """

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """Iterate over the matching records, with few in memory at a time.

        Their order must not depend on their vectors or on when they were written, such as the order of `record_uuid`:
        a collection takes the first records as a sample of all.

        Args:
            where: a filter; `None` matches every record.
            modality: "text" or "image" to get only texts or only images.
            vectors: whether to read the vectors; without them, `embedding` is (0,) and the tile fields are `None`.
        """

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[str]:
        """Iterate over the ids of the matching records in no particular order; less is read than by `scroll`.

        Args:
            where: a filter; `None` matches every record.
            modality: "text" or "image" to get only the ids of texts or only those of images.
        """

    def verify(self, *, repair: bool = False) -> Verification:
        """Search for each record by its own vectors, for example after the database was killed while it wrote.

        This costs one search for each record, and one more for a record with tiles.

        Args:
            repair: delete the records that are not found, and write them again as they were read.

        Raises:
            StoreUnavailableError: the store cannot be reached; the message names the records that were deleted and
                could not be written again.
        """

    def close(self) -> None:
        """Release the store's resources; a second call does nothing."""


class AsyncVectorStore(Protocol):
    """The asyncio version of `VectorStore`: the same methods, awaited."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""

    async def upsert(self, records: Sequence[Record]) -> None:
        """Write records; a record replaces the stored record with the same id."""

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

    async def search_many(
        self,
        embeddings: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for each row of `embeddings` (B, E): B lists of results, in order."""

    async def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""

    async def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one."""

    async def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> AsyncIterator[Record]:
        """Iterate over the matching records, with few in memory at a time, in an order as of `VectorStore.scroll`."""

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> AsyncIterator[str]:
        """Iterate over the ids of the matching records in no particular order."""

    async def verify(self, *, repair: bool = False) -> Verification:
        """Search for each record by its own vectors; see `VectorStore.verify`."""

    async def close(self) -> None:
        """Release the store's resources; a second call does nothing."""


def record_uuid(record_id: str) -> uuid.UUID:
    """The UUID of an id, for stores that need UUIDs: the same in every process and store.

    Source: RFC 9562, section 5.5, as `uuid.uuid5`, which takes twice as long.
    """
    name = _ID_NAMESPACE.bytes + record_id.encode()
    return uuid.UUID(bytes=hashlib.sha1(name, usedforsecurity=False).digest()[:16], version=5)
