"""Records as rows of Milvus, and back."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core_encoder.tiling import Box
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.milvus.filters import filter_fields
from jclip_connectors.milvus.schema import (
    MOST_CHARS,
    MOST_NUMBERS_BYTES,
    MOST_PIECES,
    MOST_TERMS,
    PIECE_CHARS,
)
from jclip_connectors.port import FloatArray, Record, record_uuid
from jclip_connectors.store_kit.batches import split
from jclip_connectors.store_kit.payload import to_payload, to_record

MOST_BATCH_BYTES = 16 * 2**20  # a server accepts 64 MB in a request
MOST_BATCH_ROWS = 1000
_PARTS = ("content", "uri", "content_hash", "metadata", "tile_boxes")  # of a payload that no filter asks
_WHOLE = "whole"  # in the place of a tile's number, in a row of a record without tiles

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """The rows of a record.

    Attributes:
        record_id: the record's id.
        row: the record's own row.
        tiles: the rows of its tiles; one row with the record's embedding if it has none; none in a collection without
            tiles.
    """

    record_id: str
    row: Row
    tiles: list[Row]


def key_of(record_id: str) -> str:
    """The key of a record."""
    return str(record_uuid(record_id))


def to_entry(record: Record, *, tiled: bool) -> Entry:
    """The rows of a checked record.

    Raises:
        EmbedInputError: the record has more than Milvus can hold; the message names it.
    """
    key = key_of(record.record_id)
    payload = to_payload(record)
    text = json.dumps({name: payload[name] for name in _PARTS}, separators=(",", ":"))  # ASCII
    shared = {"record_id": record.record_id, "modality": record.modality, **filter_fields(record.metadata)}
    _check_size(record, text, shared)
    pieces = [text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS)]
    lineage = f"{key}#{_version(record, shared)}"
    row = {"pk": key, "lineage": lineage, "embedding": record.embedding, "payload": pieces, **shared}
    if not tiled:
        return Entry(record_id=record.record_id, row=row, tiles=[])
    vectors: Sequence[FloatArray] = (
        [record.embedding] if record.tile_embeddings is None else list(record.tile_embeddings)
    )
    tiles = [
        {"pk": pk, "owner": key, "lineage": lineage, "embedding": vector, **shared}
        for pk, vector in zip(_tile_keys(lineage, record.tile_embeddings), vectors, strict=True)
    ]
    return Entry(record_id=record.record_id, row=row, tiles=tiles)


def row_bytes(row: Mapping[str, Any]) -> int:
    """About how many bytes a row needs in a request."""
    embedding: FloatArray = row["embedding"]
    texts = len(row["record_id"].encode()) + sum(map(len, row.get("payload", ())))
    return embedding.nbytes + texts + 40 * len(row["terms"]) + 64 * len(row["numbers"]) + 300


def batches_of(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Split rows, in order, into batches that a request can hold."""
    return split(rows, size_bytes=row_bytes, most_items=MOST_BATCH_ROWS, most_bytes=MOST_BATCH_BYTES)


def payload_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a record's row; see `jclip_connectors.store_kit.payload`."""
    parts: dict[str, Any] = json.loads("".join(row["payload"]))
    return {"record_id": row["record_id"], "modality": row["modality"], **parts}


def tile_keys(row: Mapping[str, Any], payload: Mapping[str, Any]) -> list[str]:
    """The keys of the tiles of a record's row."""
    boxes = payload["tile_boxes"]
    return [] if boxes is None else _tile_keys(row["lineage"], boxes)


def record_of(row: Mapping[str, Any], payload: Mapping[str, Any], tiles: Mapping[str, Any]) -> Record | None:
    """The record of a row; `None` if one of its tiles is not in `tiles`.

    Args:
        row: with its vector.
        payload: of the row.
        tiles: vectors of tiles, by key.
    """
    keys = tile_keys(row, payload)
    if any(key not in tiles for key in keys):
        return None
    return to_record(payload, embedding=row["embedding"], tile_embeddings=[tiles[key] for key in keys])


def box_of(key: str, payload: Mapping[str, Any]) -> Box | None:
    """The box of a tile; `None` for a record without tiles."""
    number = key.rpartition("#")[2]
    return None if number == _WHOLE else Box(*payload["tile_boxes"][int(number)])


def _tile_keys(lineage: str, tiles: Sequence[object] | FloatArray | None) -> list[str]:
    return [f"{lineage}#{_WHOLE}"] if tiles is None else [f"{lineage}#{number}" for number in range(len(tiles))]


def _version(record: Record, shared: Mapping[str, Any]) -> str:
    """A hash of what the rows of tiles hold."""
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode())
    if record.tile_embeddings is None or record.tile_boxes is None:
        digest.update(record.embedding.astype("<f4").tobytes())
    else:
        digest.update(record.tile_boxes.astype("<i8").tobytes())
        digest.update(record.tile_embeddings.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def _check_size(record: Record, text: str, shared: Mapping[str, Any]) -> None:
    for what, found, most in (
        ("bytes in its id", len(record.record_id.encode()), MOST_CHARS),
        ("bytes of text and metadata", len(text), min(MOST_PIECES * PIECE_CHARS, MOST_BATCH_BYTES)),
        ("fields and values of metadata that filters can ask", len(shared["terms"]), MOST_TERMS),
        ("bytes of numbers in its metadata", len(json.dumps(shared["numbers"])), MOST_NUMBERS_BYTES),
    ):
        if found > most:
            raise EmbedInputError(
                f"record {record.record_id!r} has {found} {what}, and Milvus holds {most}: keep the rest elsewhere, "
                "and its place in `uri` or metadata"
            )
