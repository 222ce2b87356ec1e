"""Conversion of records to Pinecone items and back.

A record is one item, whose id is the UUID of the record's id. Its tiles are separate items:

    <uuid>                  the whole record; `version` identifies its tiles
    <uuid>#<version>#<n>    the vector of tile n, and the fields for filters

`version` is a hash of the tiles' content, so tiles of two versions never mix: only tiles with the version of the record
are used. `lineage`, the part of a tile's id before the last number, groups the tiles of one version.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core_encoder.tiling import Box
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import FloatArray, Record, record_uuid
from jclip_connectors.store_kit.batches import split
from jclip_connectors.store_kit.bounds import filter_fields
from jclip_connectors.store_kit.payload import to_payload, to_record

MAX_METADATA_BYTES = 40 * 1024  # per item
MAX_BATCH_BYTES = 2_000_000  # below the limit, whether it means 2 MB or 2 MiB
MAX_BATCH_ITEMS = 1000

FINGERPRINT_ID = "fingerprint"
OWN_FIELDS = frozenset(
    {
        "kind",
        "in_tiles",
        "parent",
        "lineage",
        "version",
        "record_id",
        "modality",
        "content",
        "uri",
        "content_hash",
        "metadata",
        "terms",
        "tile_boxes",
        "fingerprint",
    }
)
_OPTIONAL = ("content", "uri", "content_hash", "tile_boxes")  # Pinecone has no null: absent fields are left out
_ONLY_OF_RECORDS = ("content", "metadata", "tile_boxes", "version")  # fields that tiles do not need


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One vector in Pinecone.

    Attributes:
        item_id: ASCII, at most 512 characters.
        vector: E numbers; empty if they were not requested.
        fields: strings, numbers, bools and lists of strings.
    """

    item_id: str
    vector: list[float]
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """The items of a record.

    Attributes:
        record_id: the record's id.
        record: the record's item.
        tiles: the items of its tiles.
    """

    record_id: str
    record: Item
    tiles: list[Item]


def to_entry(record: Record) -> Entry:
    """The items of a checked record.

    Raises:
        EmbedInputError: the record has more metadata than Pinecone accepts.
    """
    uuid = str(record_uuid(record.record_id))
    payload = to_payload(record)
    del payload["numbers"]  # Pinecone has no lists of numbers
    fields = {name: value for name, value in payload.items() if value is not None}
    fields |= {"kind": "record", "parent": uuid, "in_tiles": record.tile_embeddings is None}
    fields |= filter_fields(record.metadata)
    if record.tile_embeddings is None:
        item = Item(item_id=uuid, vector=record.embedding.tolist(), fields={**fields, "lineage": uuid})
        return _checked(Entry(record_id=record.record_id, record=item, tiles=[]))
    fields["tile_boxes"] = json.dumps(payload["tile_boxes"])
    of_tiles = {name: value for name, value in fields.items() if name not in _ONLY_OF_RECORDS}
    of_tiles |= {"kind": "tile", "in_tiles": True}
    version = _version(of_tiles, record.tile_embeddings, fields["tile_boxes"])
    of_tiles["lineage"] = f"{uuid}#{version}"
    item = Item(item_id=uuid, vector=record.embedding.tolist(), fields={**fields, "lineage": uuid, "version": version})
    tiles = [
        Item(item_id=f"{uuid}#{version}#{position}", vector=vector, fields=of_tiles)
        for position, vector in enumerate(record.tile_embeddings.tolist())
    ]
    return _checked(Entry(record_id=record.record_id, record=item, tiles=tiles))


def fingerprint_item(fingerprint: Fingerprint, *, dimensions: int) -> Item:
    """The item that stores the fingerprint of a collection; its vector is meaningless, and no search finds it."""
    fields = {"kind": "fingerprint", "fingerprint": json.dumps(dict(fingerprint))}
    return Item(item_id=FINGERPRINT_ID, vector=[1.0] + [0.0] * (dimensions - 1), fields=fields)


def read_fingerprint(item: Item) -> Fingerprint:
    """Read the fingerprint from the item of `fingerprint_item`."""
    fingerprint: Fingerprint = json.loads(item.fields["fingerprint"])
    return fingerprint


def payload_of(item: Item) -> dict[str, Any]:
    """The payload of a record's item; see `jclip_connectors.store_kit.payload`."""
    payload: dict[str, Any] = {**dict.fromkeys(_OPTIONAL), **item.fields}
    if payload["tile_boxes"] is not None:
        payload["tile_boxes"] = json.loads(payload["tile_boxes"])
    return payload


def record_of(item: Item, tiles: Mapping[str, Item]) -> Record | None:
    """The record of an item; `None` if one of its tiles is not in `tiles`."""
    wanted = tile_ids(item)
    if any(tile_id not in tiles for tile_id in wanted):
        return None
    return to_record(
        payload_of(item), embedding=item.vector, tile_embeddings=[tiles[tile_id].vector for tile_id in wanted]
    )


def tile_ids(item: Item) -> list[str]:
    """The ids of the tiles that belong to a record's item."""
    boxes = payload_of(item)["tile_boxes"]
    return [] if boxes is None else [f"{lineage_of(item)}#{position}" for position in range(len(boxes))]


def lineage_of(item: Item) -> str:
    """The lineage of the tiles of a record's item, or the item's own id without tiles."""
    version = item.fields.get("version")
    return item.item_id if version is None else f"{item.item_id}#{version}"


def split_id(item_id: str) -> tuple[str, int | None]:
    """Split an item's id into its lineage and the number of the tile; `None` for a record."""
    lineage, mark, position = item_id.rpartition("#")
    return (lineage, int(position)) if mark else (item_id, None)


def box_of(item: Item, position: int | None) -> Box | None:
    """The box of a record's tile."""
    return None if position is None else Box(*payload_of(item)["tile_boxes"][position])


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Split items, in order, into batches that one request can hold."""
    return split(items, size_bytes=_item_bytes, most_items=MAX_BATCH_ITEMS, most_bytes=MAX_BATCH_BYTES)


def _item_bytes(item: Item) -> int:
    return _size_bytes(item.vector) + _size_bytes(item.fields) + len(item.item_id) + 100  # for punctuation


def _checked(entry: Entry) -> Entry:
    found = _size_bytes(entry.record.fields)
    if found > MAX_METADATA_BYTES:
        raise EmbedInputError(
            f"record {entry.record_id!r} has {found} bytes of content and metadata, including fields for filters; "
            f"Pinecone accepts {MAX_METADATA_BYTES}: store long text elsewhere, and its location in `uri` or metadata"
        )
    return entry


def _version(fields: Mapping[str, Any], vectors: FloatArray, boxes: str) -> str:
    digest = hashlib.sha256(json.dumps([fields, boxes], sort_keys=True).encode())
    digest.update(vectors.astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def _size_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
