"""Reading items of a collection in Chroma, in bounded requests."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jclip_connectors.chroma.clients import Collections
from jclip_connectors.chroma.items import bare_record, payload_of, record_of, tile_ids
from jclip_connectors.port import FloatArray, Record
from jclip_connectors.store_kit.batches import parts
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.verification import TilesMissingError

_READ = 256  # records or tiles for each request
_TRIES = 3  # of reading a record that is written meanwhile


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """A record's item.

    Attributes:
        fields: its metadata.
        embedding: (E,) float32, or (0,) if vectors were left out.
    """

    fields: Mapping[str, Any]
    embedding: FloatArray


_NO_VALUES = np.empty(0, dtype=np.float32)


def read_items(ids: Sequence[str], *, vectors: bool) -> Flow[dict[str, Item]]:
    """The items of the records that exist, by id."""
    found: dict[str, Item] = {}
    include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
    for some in parts(ids, _READ):
        answer = yield functools.partial(_get, kind="records", ids=some, include=include)
        rows = answer["embeddings"] if vectors else [_NO_VALUES] * len(answer["ids"])
        for record_id, fields, row in zip(answer["ids"], answer["metadatas"], rows, strict=True):
            found[record_id] = Item(fields=fields, embedding=np.asarray(row, dtype=np.float32))
    return found


def read_tiles(ids: Sequence[str]) -> Flow[dict[str, FloatArray]]:
    """The vectors of the tiles that exist, by id."""
    return (yield from read_vectors("tiles", ids))


def read_vectors(kind: Literal["records", "tiles"], ids: Sequence[str]) -> Flow[dict[str, FloatArray]]:
    """The vectors of the records or tiles that exist, by id."""
    found: dict[str, FloatArray] = {}
    for some in parts(ids, _READ):
        answer = yield functools.partial(_get, kind=kind, ids=some, include=["embeddings"])
        rows = (np.asarray(row, dtype=np.float32) for row in answer["embeddings"])
        found |= zip(answer["ids"], rows, strict=True)
    return found


def read_records(ids: Sequence[str], *, vectors: bool) -> Flow[dict[str, Record]]:
    """The records that exist, by id.

    Raises:
        TilesMissingError: records are being written, or writers have deleted each other's tiles.
    """
    read: dict[str, Record] = {}
    missing = list(ids)
    for _ in range(_TRIES):
        items = yield from read_items(missing, vectors=vectors)
        if not vectors:
            return {record_id: bare_record(item.fields) for record_id, item in items.items()}
        wanted = [tile_id for item in items.values() for tile_id in _of_boxes(item)]
        tiles = yield from read_tiles(wanted)
        records = {key: record_of(item.fields, item.embedding, tiles) for key, item in items.items()}
        read |= {record_id: record for record_id, record in records.items() if record is not None}
        missing = [record_id for record_id, record in records.items() if record is None]
        if not missing:
            return read
    raise TilesMissingError(missing)


def read_ids(kind: Literal["records", "tiles"], **which: Any) -> Flow[list[str]]:  # noqa: ANN401 (chromadb's)
    """The ids of all matching records or tiles; `which` is chromadb's `ids=` or `where=`."""
    answer = yield functools.partial(_get, kind=kind, include=[], **which)
    ids: list[str] = answer["ids"]
    return ids


def _of_boxes(item: Item) -> list[str]:
    """The tiles whose vectors the record has besides its own."""
    return [] if payload_of(item.fields)["tile_boxes"] is None else tile_ids(item.fields)


def _get(client: Collections, *, kind: Literal["records", "tiles"], **options: Any) -> Any:  # noqa: ANN401 (chromadb's)
    return getattr(client, kind).get(**options)
