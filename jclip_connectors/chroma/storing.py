"""Writing records to a collection in Chroma.

An upsert of Chroma merges metadata: a key that is not given stays. So the keys that a record has are read first, and
those that go are given as `None`. Tiles are written before their record, which makes them visible; those of the version
before are deleted after it. An interrupted write leaves the previous record whole, and tiles that no search finds.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jclip_connectors.chroma.clients import Collections
from jclip_connectors.chroma.fetching import read_items
from jclip_connectors.chroma.filters import is_bound_name
from jclip_connectors.chroma.items import Entry, parts, tile_ids, to_entry
from jclip_connectors.port import Record
from jclip_connectors.store_kit.batches import split
from jclip_connectors.store_kit.flows import Flow

_BATCH_ITEMS, _BATCH_BYTES = 1000, 16 * 2**20  # a server takes requests of 40 MiB, and 5461 items


def batches_of(records: Sequence[Record], *, tiled: bool) -> tuple[list[list[Record]], dict[str, Entry]]:
    """The batches of checked records, and their items by record id."""
    entries = {record.record_id: to_entry(record, tiled=tiled) for record in records}

    def size_bytes(record: Record) -> int:
        return entries[record.record_id].size_bytes()

    batches = split(records, size_bytes=size_bytes, most_items=_BATCH_ITEMS, most_bytes=_BATCH_BYTES)
    return list(batches), entries


def write(batch: Sequence[Record], *, entries: Mapping[str, Entry], tiled: bool) -> Flow[None]:
    """Write the items of a batch of records."""
    written = [entries[record.record_id] for record in batch]
    former = yield from read_items([entry.record_id for entry in written], vectors=False)
    stale: list[str] = []
    if tiled:
        yield from _write_tiles(written)
        current = {tile_id for entry in written for tile_id in entry.tile_ids}
        stale = [tile_id for item in former.values() for tile_id in tile_ids(item.fields) if tile_id not in current]
    rows: list[dict[str, Any]] = []
    for entry in written:
        before = former[entry.record_id].fields if entry.record_id in former else {}
        rows.append({**dict.fromkeys(filter(is_bound_name, before)), **entry.fields})
    yield functools.partial(
        _upsert,
        kind="records",
        ids=[entry.record_id for entry in written],
        embeddings=np.stack([entry.embedding for entry in written]),
        metadatas=rows,
    )
    for some in parts(stale, _BATCH_ITEMS):
        yield functools.partial(_delete_tiles, ids=some)


def _write_tiles(entries: Sequence[Entry]) -> Flow[None]:
    ids = [tile_id for entry in entries for tile_id in entry.tile_ids]
    vectors = np.concatenate([entry.tiles for entry in entries])
    fields = [entry.tile_fields for entry in entries for _ in entry.tile_ids]
    for some in parts(range(len(ids)), _BATCH_ITEMS):
        yield functools.partial(
            _upsert,
            kind="tiles",
            ids=[ids[at] for at in some],
            embeddings=vectors[some.start : some.stop],
            metadatas=[fields[at] for at in some],
        )


def _upsert(client: Collections, *, kind: str, **options: Any) -> Any:  # noqa: ANN401 (chromadb's)
    return getattr(client, kind).upsert(**options)


def _delete_tiles(client: Collections, *, ids: list[str]) -> Any:  # noqa: ANN401 (chromadb's)
    return client.tiles.delete(ids=ids)
