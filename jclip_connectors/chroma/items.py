"""Conversion of records to Chroma's items and back.

A record is one item of the collection; its id is the record's. In a collection with tiles, a second collection has an
item for each tile, and one for a record without tiles, whose vector is the record's:

    <version>#<n>#<record id>   the vector of tile n, and the fields for filters

`version` is a hash of what the tiles are, and the record names it, so tiles of two versions never mix: those of another
version than the record's are never used.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jclip_connectors.chroma.schema import MODALITY, PARENT, PAYLOAD, TERMS, VERSION
from jclip_connectors.port import FloatArray, Record, record_uuid
from jclip_connectors.store_kit.bounds import filter_fields
from jclip_connectors.store_kit.payload import to_payload, to_record, without_vectors

_VERSION_CHARS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """The items of a record.

    Attributes:
        record_id: the record's id, and the id of its item.
        embedding: (E,) float32.
        fields: strings, float64 numbers and lists of strings.
        tile_ids: the ids of the items in the collection of tiles.
        tiles: (T, E) float32, their vectors.
        tile_fields: the fields of each of them.
    """

    record_id: str
    embedding: FloatArray
    fields: dict[str, Any]
    tile_ids: list[str]
    tiles: FloatArray
    tile_fields: dict[str, Any]

    def size_bytes(self) -> int:
        """About how long the items are in a request, whose vectors are base64."""
        values = self.embedding.size + self.tiles.size
        return values * 6 + _json_bytes(self.fields) + len(self.tile_ids) * _json_bytes(self.tile_fields)


def to_entry(record: Record, *, tiled: bool) -> Entry:
    """The items of a checked record."""
    payload = to_payload(record)
    del payload["terms"], payload["numbers"]  # they are in the fields
    filtered = {MODALITY: record.modality, **filter_fields(record.metadata)}
    fields = {**filtered, PAYLOAD: json.dumps(payload)}
    tiles = record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings
    if not tiled:
        tiles = tiles[:0]
    tile_fields = {**filtered, PARENT: parent_of(record.record_id)}
    if tiled:
        fields[VERSION] = _version(tile_fields, tiles, payload["tile_boxes"])
    return Entry(
        record_id=record.record_id,
        embedding=record.embedding,
        fields=fields,
        tile_ids=[_tile_id(fields[VERSION], position, record.record_id) for position in range(len(tiles))],
        tiles=tiles,
        tile_fields=tile_fields,
    )


def parent_of(record_id: str) -> str:
    """What the tiles of a record call it."""
    return str(record_uuid(record_id))


def payload_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a record's item; see `jclip_connectors.store_kit.payload`."""
    payload: dict[str, Any] = json.loads(fields[PAYLOAD])
    return payload


def tile_ids(fields: Mapping[str, Any]) -> list[str]:
    """The ids of the tiles that belong to a record's item; none in a collection without tiles."""
    if VERSION not in fields:
        return []
    payload = payload_of(fields)
    boxes = payload["tile_boxes"]
    tiles = 1 if boxes is None else len(boxes)
    return [_tile_id(fields[VERSION], position, payload["record_id"]) for position in range(tiles)]


def split_tile_id(tile_id: str) -> tuple[str, str]:
    """The version and the record id of a tile."""
    version, _, rest = tile_id.partition("#")
    return version, rest.partition("#")[2]


def bare_record(fields: Mapping[str, Any]) -> Record:
    """The record of an item without its vectors."""
    return without_vectors(payload_of(fields))


def record_of(fields: Mapping[str, Any], embedding: FloatArray, tiles: Mapping[str, FloatArray]) -> Record | None:
    """The record of an item; `None` if one of its tiles is not in `tiles`."""
    payload = payload_of(fields)
    if payload["tile_boxes"] is None:
        return to_record(payload, embedding=embedding, tile_embeddings=None)
    wanted = tile_ids(fields)
    if any(tile_id not in tiles for tile_id in wanted):
        return None
    return to_record(payload, embedding=embedding, tile_embeddings=np.stack([tiles[tile_id] for tile_id in wanted]))


def _tile_id(version: str, position: int, record_id: str) -> str:
    return f"{version}#{position}#{record_id}"


def _version(fields: Mapping[str, Any], tiles: FloatArray, boxes: object) -> str:
    digest = hashlib.sha256(json.dumps([fields, boxes], sort_keys=True).encode())
    digest.update(tiles.astype("<f4").tobytes())
    return digest.hexdigest()[:_VERSION_CHARS]


def _json_bytes(fields: Mapping[str, Any]) -> int:
    texts = [fields.get(PAYLOAD, ""), *fields[TERMS]]
    return sum(map(len, texts)) + 40 * (len(texts) + len(fields))
