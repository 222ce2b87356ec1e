"""The checks of every store before it sends a request: if one record of a batch is bad, none is written."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

import core_encoder.item_list
from core_encoder.errors import InputError
from jclip_connectors.config import EmbeddingConfig, Fingerprint, complete_fingerprint, is_folder_revision
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError
from jclip_connectors.port import MODALITIES, FloatArray, IntArray, Record

_Item = TypeVar("_Item")


def check_fingerprint(stored: Fingerprint, requested: Fingerprint, *, collection: str) -> None:
    """Refuse a collection that was made with another configuration.

    Raises:
        CollectionMismatchError: the fingerprints differ; the message names each different field.
    """
    made, now = complete_fingerprint(stored), complete_fingerprint(requested)
    if is_folder_revision(made.get("revision")) and made["revision"] == now.get("revision"):
        made["model"] = now["model"]  # the same files in a folder with another name
    if made != now:
        raise CollectionMismatchError(made, now, collection=collection)


def check_unchanged(stored: Fingerprint, opened: Fingerprint, *, collection: str) -> None:
    """Refuse to write to a collection that was made again since it was opened.

    Args:
        stored: the fingerprint that the collection has now.
        opened: the fingerprint that was stored when the collection was opened.
        collection: for the message.

    Raises:
        CollectionMismatchError: the fingerprints differ.
    """
    if dict(stored) != dict(opened):
        raise CollectionMismatchError(stored, opened, collection=collection)


def check_records(records: Sequence[Record], *, dimensions: int | None, tiled: bool) -> list[Record]:
    """Check the records of an `upsert` and normalise them.

    Args:
        records: the batch.
        dimensions: E of the collection; `None` if it is not known: then the first record sets it.
        tiled: whether the collection stores tiles.

    Returns:
        One record per id, the last one: vectors are float32 of unit length, metadata is a copy.

    Raises:
        EmbedInputError: a record is invalid; the message names the first one and the reason.
    """
    checked: dict[str, Record] = {}
    for position, record in enumerate(records):
        if not isinstance(record, Record):
            raise EmbedInputError(f"record {position} is {type(record).__name__}, not a `Record`")
        check_id(record.record_id, name=f"the id of record {position}")
        name = f"record {position} ({record.record_id!r})"
        _check_fields(record, name=name)
        embedding = check_embedding(record.embedding, dimensions=dimensions, name=f"`embedding` of {name}")
        dimensions = embedding.shape[0]
        tile_embeddings, tile_boxes = _check_tiles(record, dimensions=dimensions, tiled=tiled, name=name)
        checked[record.record_id] = dataclasses.replace(
            record,
            embedding=embedding,
            tile_embeddings=tile_embeddings,
            tile_boxes=tile_boxes,
            metadata=check_metadata(record.metadata, name=f"`metadata` of {name}"),
        )
    return list(checked.values())


def check_embedding(embedding: object, *, dimensions: int | None, name: str = "`embedding`") -> FloatArray:
    """Check one vector.

    Returns:
        (E,) float32 of unit length.

    Raises:
        EmbedInputError: not (E,), not finite, or of length zero.
    """
    rows = _unit_rows(embedding, name=name)
    if rows.ndim != 1 or dimensions not in (None, rows.shape[0]):
        wanted = "one vector" if dimensions is None else f"({dimensions},)"
        raise EmbedInputError(f"{name} has the shape {rows.shape}, not {wanted}")
    return rows


def check_embeddings(embeddings: object, *, dimensions: int | None) -> FloatArray:
    """Check the vectors of a `search_many`.

    Returns:
        (B, E) float32, rows of unit length; (0, 0) for no vectors.

    Raises:
        EmbedInputError: not (B, E), or a row that is not finite or of length zero; the message names the first one.
    """
    if isinstance(embeddings, str | bytes) or not isinstance(embeddings, Sequence | np.ndarray):
        raise EmbedInputError(f"`embeddings` is {type(embeddings).__name__}; use an array (B, E)")
    if isinstance(embeddings, np.ndarray) and embeddings.ndim != 2:
        raise EmbedInputError(f"`embeddings` has the shape {embeddings.shape}, not (B, E)")
    rows: list[FloatArray] = []
    for position, row in enumerate(embeddings):
        rows.append(check_embedding(row, dimensions=dimensions, name=f"`embeddings`[{position}]"))
        dimensions = rows[-1].shape[0]
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)


def check_metadata(metadata: object, *, name: str) -> dict[str, object]:
    """Check that metadata is a JSON object that JSON preserves exactly.

    Returns:
        A deep copy.

    Raises:
        EmbedInputError: not a JSON object; the message names the first bad key.
    """
    if not isinstance(metadata, Mapping):
        raise EmbedInputError(f"{name} is {type(metadata).__name__}, not a JSON object (a dict with string keys)")
    copy: dict[str, object] = {}
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise EmbedInputError(f"{name} has the key {key!r}: keys are strings")
        copy[key] = _json_copy(value, name=f"{name}[{key!r}]")
    return copy


def check_id(record_id: object, *, name: str) -> None:
    """Check one id.

    Raises:
        EmbedInputError: the id is not a string, is empty, or cannot be encoded in UTF-8.
    """
    if not isinstance(record_id, str) or not record_id:
        raise EmbedInputError(f"{name} is {record_id!r}: an id is a non-empty string")
    _check_utf8(record_id, name=name)


def check_ids(ids: Sequence[str]) -> list[str]:
    """Check the ids of a `get` or `delete`.

    Raises:
        EmbedInputError: a bare string, or an id that no record can have.
    """
    if isinstance(ids, str):
        raise EmbedInputError(f"`ids` is the string {ids!r}; write [{ids!r}]")
    for position, record_id in enumerate(ids):
        check_id(record_id, name=f"`ids`[{position}]")
    return list(ids)


def check_modality(modality: object) -> None:
    """Check a `modality` argument; `None` means both.

    Raises:
        EmbedInputError: any other value.
    """
    if modality is not None and modality not in MODALITIES:
        raise EmbedInputError(f"`modality` is {modality!r}; use 'text', 'image' or None for both")


def as_list(items: Iterable[_Item], *, name: str) -> list[_Item]:
    """The items of an iterable argument as a list.

    Raises:
        EmbedInputError: `items` is a single item, or is not iterable.
    """
    try:
        return core_encoder.item_list.as_list(items, name)
    except InputError as error:
        raise EmbedInputError(str(error)) from error


def check_count(value: object, *, name: str, error: type[Exception] = EmbedInputError) -> None:
    """Check a count such as `limit` or `batch_size`.

    Raises:
        EmbedInputError: not an int of at least 1; `error` replaces this type.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise error(f"`{name}` is {value!r}; use an int of at least 1")


def resolve_dimensions(config: EmbeddingConfig, dimensions: object, *, most: int) -> int | None:
    """The length of the vectors of a new collection; `None` if neither the option nor the configuration has it.

    Args:
        config: the configuration of the vectors.
        dimensions: the option of the store's `open`.
        most: the largest length that the database accepts.

    Raises:
        EmbedInputError: not an int from 1 to `most`, or different from the configuration's length.
    """
    known = config.embedding_dim
    length = known if dimensions is None else dimensions
    if length is None:
        return None
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= most:
        raise EmbedInputError(f"`dimensions` is {length!r}; use an int from 1 to {most}")
    if known not in (None, length):
        raise EmbedInputError(f"`dimensions` is {length}, but the configuration has {known}: leave it out")
    return length


def require_dimensions(dimensions: int | None) -> int:
    """The length of the vectors of a new collection, which must be known.

    Raises:
        EmbedInputError: neither the option nor the configuration has the length.
    """
    if dimensions is None:
        raise EmbedInputError("the configuration does not set the length of the vectors: give `dimensions`")
    return dimensions


def check_tiles(tiles: object, *, tiled: bool) -> None:
    """Check the `tiles` argument of a search.

    Raises:
        EmbedInputError: `tiles` is true, but the collection stores no tiles.
    """
    if tiles and not tiled:
        raise EmbedInputError("`tiles` is True, but this collection stores no tiles: its configuration has no `tiling`")


def check_delete(ids: object, where: object) -> None:
    """Check the arguments of `delete`.

    Raises:
        EmbedInputError: neither or both of `ids` and `where` are given.
    """
    if (ids is None) == (where is None):
        raise EmbedInputError("give one of `ids` and `where` to delete; `where={}` deletes everything")


def _check_fields(record: Record, *, name: str) -> None:
    if record.modality not in MODALITIES:
        raise EmbedInputError(f"`modality` of {name} is {record.modality!r}; use 'text' or 'image'")
    if record.modality == "text" and record.content is None:
        raise EmbedInputError(f"{name} is a text without `content`: give the text")
    for field, value in (("content", record.content), ("uri", record.uri), ("content_hash", record.content_hash)):
        if value is None:
            continue
        if not isinstance(value, str):
            raise EmbedInputError(f"`{field}` of {name} is {type(value).__name__}, not a string")
        _check_utf8(value, name=f"`{field}` of {name}")
    if record.uri is not None and record.uri[:5].lower() == "data:":
        raise EmbedInputError(
            f"`uri` of {name} is a data URI: a collection stores the location of an image, not its bytes"
        )


def _check_tiles(
    record: Record, *, dimensions: int, tiled: bool, name: str
) -> tuple[FloatArray, IntArray] | tuple[None, None]:
    if record.tile_embeddings is None and record.tile_boxes is None:
        return None, None
    if record.tile_embeddings is None or record.tile_boxes is None:
        raise EmbedInputError(f"{name} has one of `tile_embeddings` and `tile_boxes`: give both or neither")
    if not tiled:
        raise EmbedInputError(f"{name} has tiles, but this collection stores none: its configuration has no `tiling`")
    vectors = _unit_rows(record.tile_embeddings, name=f"`tile_embeddings` of {name}")
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise EmbedInputError(f"`tile_embeddings` of {name} has the shape {vectors.shape}, not (T, {dimensions})")
    boxes = np.asarray(record.tile_boxes)
    if boxes.shape != (len(vectors), 4) or boxes.dtype.kind not in "iu":
        raise EmbedInputError(
            f"`tile_boxes` of {name} is {boxes.dtype} of the shape {boxes.shape}, not integers of ({len(vectors)}, 4)"
        )
    return vectors, boxes.astype(np.int64)


def _unit_rows(values: object, *, name: str) -> FloatArray:
    """`values` as float32, scaled to unit length along the last axis."""
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EmbedInputError(f"{name} is {type(values).__name__}, not an array of numbers") from error
    if not np.isfinite(rows).all():
        raise EmbedInputError(f"{name} has a NaN or an infinity")
    if not rows.ndim or not rows.size:
        raise EmbedInputError(f"{name} has the shape {rows.shape}: a vector has at least one number")
    peaks = np.abs(rows).max(axis=-1, keepdims=True)
    if (peaks == 0).any():
        raise EmbedInputError(f"{name} is all zero: it has no direction")
    rows = rows / peaks  # so that the square of a large number does not overflow
    unit: FloatArray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def _json_copy(value: object, *, name: str) -> object:
    try:
        copy: object = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise EmbedInputError(f"{name} is not JSON: {error}") from error
    if copy != value:
        raise EmbedInputError(f"{name} is changed by JSON: keys must be strings, and a tuple must be a list")
    return copy


def _check_utf8(text: str, *, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EmbedInputError(
            f"{name} has a lone surrogate at position {error.start}: it is not Unicode text"
        ) from error
