"""The rows of files of vectors: their Arrow schema, and records as rows and back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from jclip_connectors.port import Modality, Record

VectorType = Literal["float32", "float16"]
VECTOR_COLUMNS = ("embedding", "tiles")
_TEXT_COLUMNS = ("record_id", "key", "modality", "content_hash", "content", "uri")
_TYPES = {"float32": pa.float32(), "float16": pa.float16()}
# Not `to_pandas_dtype`, for which pyarrow wants pandas.
_DTYPES = {pa.float32(): np.float32, pa.float16(): np.float16, pa.int32(): np.int32}
_BOX = 4  # left, top, right, bottom


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorRow:
    """One row of a file of vectors: a record, or an item of the source that failed.

    Attributes:
        key: what names the item in its source, such as a path or the value of a column.
        record: the record; `None` for an item that failed.
        error: why it failed; `None` for a record.
        modality: of an item that failed, if it is known.
        uri: of an item that failed: where it is, if it is known.
    """

    key: str
    record: Record | None = None
    error: str | None = None
    modality: Modality | None = None
    uri: str | None = None

    @classmethod
    def of(cls, record: Record) -> "VectorRow":
        """The row of a record whose key is its id."""
        return cls(key=record.record_id, record=record)


def vector_schema(
    dimensions: int, *, vector_type: VectorType = "float32", metadata: dict[str, str] | None = None
) -> pa.Schema:
    """The schema of a file of vectors.

    Args:
        dimensions: E, the length of the vectors.
        vector_type: the type of their values; float16 halves the files.
        metadata: what the file says about itself; its keys begin with "jclip.".
    """
    vector = pa.list_(_TYPES[vector_type], dimensions)
    texts = [pa.field(name, pa.string(), nullable=name != "key") for name in _TEXT_COLUMNS]
    vectors = [
        pa.field("embedding", vector),
        pa.field("tiles", pa.list_(vector)),
        pa.field("boxes", pa.list_(pa.list_(pa.int32(), _BOX))),
    ]
    return pa.schema([*texts, *vectors, pa.field("metadata", pa.string()), pa.field("error", pa.string())], metadata)


def to_batch(rows: Sequence[VectorRow], schema: pa.Schema) -> pa.RecordBatch:
    """The rows as an Arrow batch, in their order.

    Args:
        rows: with vectors of the length that `schema` has.
        schema: of `vector_schema`.
    """
    records = [row.record for row in rows]
    columns: dict[str, list[Any]] = {
        name: [None if record is None else getattr(record, name) for record in records]
        for name in ("record_id", "content_hash", "content")
    }
    columns |= {
        "key": [row.key for row in rows],
        "modality": [row.modality if row.record is None else row.record.modality for row in rows],
        "uri": [row.uri if row.record is None else row.record.uri for row in rows],
        "metadata": [None if record is None else json.dumps(record.metadata) for record in records],
        "error": [row.error for row in rows],
    }
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    arrays["embedding"] = _vectors(records, schema.field("embedding").type)
    tiles = [None if record is None else record.tile_embeddings for record in records]
    boxes = [None if record is None else record.tile_boxes for record in records]
    arrays["tiles"] = _lists(tiles, schema.field("tiles").type)
    arrays["boxes"] = _lists(boxes, schema.field("boxes").type)
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def to_rows(batch: pa.RecordBatch) -> list[VectorRow]:
    """The rows of a batch of a file of vectors, also those that failed, in their order."""
    errors = batch.column("error").to_pylist()
    records = iter(to_records(batch))
    named = zip(*(batch.column(name).to_pylist() for name in ("key", "modality", "uri")), errors, strict=True)
    return [
        VectorRow(key=key, record=next(records))
        if error is None
        else VectorRow(key=key, error=error, modality=modality, uri=uri)
        for key, modality, uri, error in named
    ]


def to_records(batch: pa.RecordBatch) -> list[Record]:
    """The records of a batch of a file of vectors, in their order, without the items that failed.

    Vectors are float32 views of the batch's memory; of a batch without the column "embedding", they are (0,).
    """
    good = batch.filter(batch.column("error").is_null())
    texts = [good.column(name).to_pylist() for name in ("record_id", "modality", "content_hash", "content", "uri")]
    metadata = [json.loads(text) for text in good.column("metadata").to_pylist()]
    with_vectors = "embedding" in good.schema.names
    embeddings = _rows(good.column("embedding")) if with_vectors else np.empty((len(good), 0), np.float32)
    tiles = _groups(good.column("tiles"), np.float32) if with_vectors else [None] * len(good)
    boxes = _groups(good.column("boxes"), np.int64) if with_vectors else [None] * len(good)
    return [
        Record(
            record_id=record_id,
            modality=modality,
            embedding=embedding,
            tile_embeddings=tile_embeddings,
            tile_boxes=tile_boxes,
            content=content,
            uri=uri,
            content_hash=content_hash,
            metadata=given,
        )
        for record_id, modality, content_hash, content, uri, given, embedding, tile_embeddings, tile_boxes in zip(
            *texts, metadata, embeddings, tiles, boxes, strict=True
        )
    ]


def _vectors(records: Sequence[Record | None], kind: pa.FixedSizeListType) -> pa.Array:
    dtype = _DTYPES[kind.value_type]
    rows = np.zeros((len(records), kind.list_size), dtype=dtype)
    for at, record in enumerate(records):
        if record is not None:
            rows[at] = record.embedding
    missing = pa.array([record is None for record in records], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind, mask=missing)


def _lists(groups: Sequence[Any], kind: pa.ListType) -> pa.Array:
    """A list of rows for each item, or null; each group is (T, width)."""
    inner = kind.value_type
    present = [group for group in groups if group is not None]
    dtype = _DTYPES[inner.value_type]
    rows = np.concatenate(present).astype(dtype) if present else np.empty((0, inner.list_size), dtype)  # (sum T, width)
    items = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=inner)
    counts = [0 if group is None else len(group) for group in groups]
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int32)
    missing = pa.array([group is None for group in groups], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends), items, type=kind, mask=missing)


def _rows(column: pa.Array) -> Any:  # noqa: ANN401 (an array of the dtype of the file)
    """The (N, width) values of a column of fixed-size lists without nulls."""
    width = column.type.list_size
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
    return values.astype(np.float32, copy=False) if values.dtype == np.float16 else values


def _groups(column: pa.Array, dtype: type) -> list[Any]:
    """The (T, width) rows of each item, or `None`."""
    rows = _rows(column.flatten()).astype(dtype, copy=False)  # without the items that are null
    groups, start = [], 0
    for count in column.value_lengths().to_pylist():
        groups.append(None if count is None else rows[start : start + count])
        start += count or 0
    return groups
