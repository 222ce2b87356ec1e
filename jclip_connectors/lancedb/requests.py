"""Records as rows of Arrow, and rows as records and results."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jclip_connectors.filters import exists_term, numbers, terms
from jclip_connectors.lancedb.clients import DISTANCE, QUERY
from jclip_connectors.lancedb.filters import any_of, quoted
from jclip_connectors.lancedb.schema import EMBEDDING, TILES, Layout
from jclip_connectors.port import FloatArray, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.payload import nearest_box, to_hit, to_record, without_vectors

BRIEF = ("record_id", "key", "modality", "content", "uri", "content_hash", "metadata")
_BOX = 4  # numbers
_BYTES_BESIDE = 256  # of a row, beside its vectors and texts


def key_of(record_id: str) -> int:
    """The `key` of an id: keys are in the order of the UUIDs. Two ids may have one key."""
    return int.from_bytes(record_uuid(record_id).bytes[:8], "big") - 2**63


def with_ids(ids: Sequence[str]) -> str:
    """The condition of some ids; keys are compared first, as numbers."""
    keys, names = (str(key_of(record_id)) for record_id in ids), (quoted(record_id) for record_id in ids)
    return f"{any_of('key', keys)} AND {any_of('record_id', names)}"


def row_bytes(record: Record) -> int:
    """About how much memory the row of a record takes."""
    tiles = 0 if record.tile_embeddings is None else record.tile_embeddings.nbytes
    texts = len(record.content or "") + 3 * len(json.dumps(record.metadata))  # in `metadata`, and again in `terms`
    return record.embedding.nbytes + max(tiles, record.embedding.nbytes) + texts + _BYTES_BESIDE


def to_rows(records: Sequence[Record], schema: pa.Schema, layout: Layout) -> pa.Table:
    """The rows of checked records."""
    found = [numbers(record.metadata) for record in records]
    columns: dict[str, Any] = {
        "record_id": [record.record_id for record in records],
        "key": [key_of(record.record_id) for record in records],
        "modality": [record.modality for record in records],
        "content": [record.content for record in records],
        "uri": [record.uri for record in records],
        "content_hash": [record.content_hash for record in records],
        "metadata": [json.dumps(record.metadata) for record in records],
        "terms": [terms(record.metadata) for record in records],
        "number_fields": [[exists_term(field) for field in each] for each in found],
        "least": [[min(values) for values in each.values()] for each in found],
        "greatest": [[max(values) for values in each.values()] for each in found],
        "tile_boxes": [None if record.tile_boxes is None else record.tile_boxes.ravel() for record in records],
    }
    arrays = [pa.array(values, schema.field(name).type) for name, values in columns.items()]
    arrays.append(_vectors(np.stack([record.embedding for record in records])))
    if layout.tiled:
        tiles = [
            record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings for record in records
        ]
        starts = np.cumsum([0, *map(len, tiles)], dtype=np.int32)
        arrays.append(pa.ListArray.from_arrays(pa.array(starts), _vectors(np.concatenate(tiles))))
    return pa.Table.from_arrays(arrays, schema=schema)


def columns_to_read(layout: Layout, *, vectors: bool) -> list[str]:
    """The columns of a record."""
    return [*BRIEF, "tile_boxes", *layout.vector_columns] if vectors else list(BRIEF)


def to_records(rows: pa.Table, *, vectors: bool) -> Iterator[Record]:
    """The records of rows with the columns of `columns_to_read`."""
    payloads = _payloads(rows)
    if not vectors:
        return map(without_vectors, payloads)
    embeddings, tiled = _read_vectors(rows, EMBEDDING), TILES in rows.column_names
    return (
        to_record(payload, embedding=embeddings[at], tile_embeddings=_read_tiles(rows, at) if tiled else None)
        for at, payload in enumerate(payloads)
    )


def columns_to_search(*, tiles: bool) -> list[str]:
    """The columns of a result."""
    return [*BRIEF, "tile_boxes", TILES] if tiles else list(BRIEF)


def to_hits(rows: pa.Table, queries: FloatArray, *, tiles: bool) -> list[list[SearchHit]]:
    """The results of each query, nearest first and by id: rows with the columns of `columns_to_search`, and distances.

    Args:
        rows: those of all queries.
        queries: (B, E), of unit length.
        tiles: whether the nearest tile is told; B is 1 then.
    """
    hits: list[list[SearchHit]] = [[] for _ in queries]
    scores = 1.0 - rows[DISTANCE].to_numpy().astype(np.float64)
    positions = rows[QUERY].to_pylist() if QUERY in rows.column_names else [0] * len(rows)
    for at, payload in enumerate(_payloads(rows)):
        query = queries[positions[at]]
        box = nearest_box(payload, tile_embeddings=_read_tiles(rows, at), query=query) if tiles else None
        hits[positions[at]].append(to_hit(payload, score=float(scores[at]), box=box))
    return [sorted(each, key=lambda hit: (-hit.score, hit.record_id)) for each in hits]


def _payloads(rows: pa.Table) -> list[dict[str, Any]]:
    names = [name for name in (*BRIEF, "tile_boxes") if name in rows.column_names]
    payloads: list[dict[str, Any]] = rows.select(names).to_pylist()
    for payload in payloads:
        boxes = payload.setdefault("tile_boxes", None)
        if boxes is not None:
            payload["tile_boxes"] = [boxes[start : start + _BOX] for start in range(0, len(boxes), _BOX)]
    return payloads


def _vectors(rows: FloatArray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def _read_vectors(rows: pa.Table, column: str) -> FloatArray:
    return _rows_of(rows[column].combine_chunks())  # (N, E)


def _read_tiles(rows: pa.Table, at: int) -> FloatArray:
    return _rows_of(rows[TILES][at].values)  # (T, E)


def _rows_of(array: pa.FixedSizeListArray) -> FloatArray:
    vectors: FloatArray = np.asarray(array.flatten(), dtype=np.float32).reshape(len(array), array.type.list_size)
    return vectors
