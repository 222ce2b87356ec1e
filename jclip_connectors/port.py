"""The port: what an embedder and a vector store promise, the records between them, and the errors of this package.

An adapter is one file that knows this module and one SDK. Importing it loads neither torch nor an SDK.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from jclip_connectors.config import EmbeddingConfig

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
Modality = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
Fingerprint: TypeAlias = Mapping[str, str | int | bool | None]
ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]

_NAMED_FAILURES = 5  # in the message; all are in the attribute
_ID_NAMESPACE = uuid.UUID("6f0c0dfd-6f0e-5f0b-9d1c-7d9c3a2f4b11")  # drawn once; another one would orphan every record


class ConnectorError(Exception):
    """Base of every error of `jclip_connectors`."""


class MissingDependencyError(ConnectorError, ImportError):
    """A package that an adapter needs is not installed.

    Attributes:
        extra: the extra of this distribution that brings it.
    """

    def __init__(self, package: str, *, extra: str) -> None:
        """Name the package and the command that installs it."""
        super().__init__(f"{package} is not installed: pip install 'jclip-connectors[{extra}]'")
        self.extra = extra


class EmbedInputError(ConnectorError, ValueError):
    """A text, image, vector, id, metadata or filter that cannot be accepted; the message names it."""


class CollectionMismatchError(ConnectorError):
    """A collection was made with another configuration.

    Attributes:
        stored: the fingerprint of the collection.
        requested: the fingerprint of the configuration it was opened with.
    """

    def __init__(self, stored: Fingerprint, requested: Fingerprint, *, collection: str) -> None:
        """Name every field that differs."""
        names = [name for name in {**stored, **requested} if stored.get(name) != requested.get(name)]
        differing = ", ".join(f"`{name}` {stored.get(name)!r} (now {requested.get(name)!r})" for name in names)
        super().__init__(
            f"{collection} was made with {differing}: its vectors cannot be compared with yours. "
            "Open it with the configuration it was made with, or make a new one"
        )
        self.stored = dict(stored)
        self.requested = dict(requested)


class StoreUnavailableError(ConnectorError):
    """The store cannot be reached or is in use; the same call may succeed later.

    Attributes:
        retry_after_s: seconds that the store asks to wait, or `None`.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Keep the delay beside the message."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreRequestError(ConnectorError):
    """The store refuses the request; the same call will fail again."""


class PartialFailureError(ConnectorError):
    """Some items of a bulk call failed; the others need not be done again.

    Attributes:
        failed: position of each failed item, and its error.
        kept: position of each other item, and its result (`None` where the call returns nothing).
    """

    def __init__(self, what: str, *, failed: Mapping[int, Exception], kept: Mapping[int, Any]) -> None:
        """Say how many of `what` failed and which, and keep both sides beside the message."""
        named = "; ".join(f"{position}: {error}" for position, error in list(failed.items())[:_NAMED_FAILURES])
        more = f"; and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
        super().__init__(f"{len(failed)} of {len(failed) + len(kept)} {what} failed: {named}{more}")
        self.failed = dict(failed)
        self.kept = dict(kept)


@dataclass(frozen=True)
class NativeFilter:
    """A filter in a database's own language, handed to it as it is; a store of another database refuses it.

    Attributes:
        value: what the database's own client takes as a filter.
    """

    value: Any


Filter: TypeAlias = Mapping[str, object] | NativeFilter  # the portable grammar is in jclip_connectors.filters


class Box(NamedTuple):
    """A rectangle in pixels of the original image; `right` and `bottom` are outside it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, eq=False)
class TileEmbeddings:
    """The vectors of one image's tiles; the first is the whole image.

    Attributes:
        vectors: (T, E) float32.
        boxes: (T, 4) left, top, right, bottom in original pixels.
    """

    vectors: FloatArray
    boxes: IntArray


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
    def config(self) -> "EmbeddingConfig":
        """What shapes the vectors."""

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E) in the order of `texts`; an empty sequence gives (0, E)."""

    def embed_query(self, text: str) -> FloatArray:
        """Embed what is searched for: (E,)."""

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole: (B, E) in the order of `images`.

        Raises:
            PartialFailureError: some cannot be read; `kept` has the (E,) rows of the others.
        """

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles, by `config.tiling`.

        Raises:
            PartialFailureError: some cannot be read; `kept` has the `TileEmbeddings` of the others.
            EmbedInputError: the configuration has no tiling.
        """


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
        """Find the nearest records to `embedding` (E,), nearest first.

        With `tiles` a record is as near as its nearest tile; one without tiles counts by its embedding.
        """

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two; an id that is not there is no error."""

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""

    def scroll(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[Record]:
        """Go through the records that match, in no particular order, holding few at a time."""

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


def check_fingerprint(stored: Fingerprint, requested: Fingerprint, *, collection: str) -> None:
    """Refuse a collection that was made with another configuration.

    Raises:
        CollectionMismatchError: naming each field that differs.
    """
    if dict(stored) != dict(requested):
        raise CollectionMismatchError(stored, requested, collection=collection)
