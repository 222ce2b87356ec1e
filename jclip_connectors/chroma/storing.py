"""Writing records to a collection in Chroma.

An upsert of Chroma merges metadata: a key that is not given stays. So the keys that a record has are read first, and
those that go are given as `None`. Tiles are written before their record, which makes them visible; those of the version
before are deleted after it. An interrupted write leaves the previous record whole, and tiles that no search finds.

Chroma has no transactions, so two writers of one record can meet: what one deletes as the version before, the other may
have made current again. So tiles are deleted only if their record has, at that moment, another version; and a writer
looks after its write whether its tiles are still there.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jclip_connectors.chroma.clients import Collections
from jclip_connectors.chroma.fetching import Item, read_ids, read_items
from jclip_connectors.chroma.filters import Where
from jclip_connectors.chroma.items import Entry, split_tile_id, tile_ids, to_entry
from jclip_connectors.chroma.schema import VERSION
from jclip_connectors.port import Record
from jclip_connectors.store_kit.batches import parts, split
from jclip_connectors.store_kit.bounds import is_bound_name
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
    if tiled:
        yield from _write_tiles(written)
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
    if tiled:
        yield from _delete_former([entry for entry in written if entry.record_id in former], former)
        yield from _keep_tiles(written)


def remove(*, tiles: Where | None, **records: Any) -> Flow[None]:  # noqa: ANN401 (chromadb's)
    """Delete records, and then their tiles: not those of records that another writer has written again meanwhile.

    Args:
        tiles: the condition of their tiles; `None` in a collection without tiles.
        records: the ids or the condition of the records.
    """
    yield functools.partial(_delete, kind="records", **records)
    if tiles is None:
        return
    again = set((yield from read_ids("records", **records)))
    if not again:
        yield functools.partial(_delete, kind="tiles", where=tiles)
        return
    found = yield from read_ids("tiles", where=tiles)
    yield from _delete_tiles([tile_id for tile_id in found if split_tile_id(tile_id)[1] not in again])


def _delete_former(entries: Sequence[Entry], former: Mapping[str, Item]) -> Flow[None]:
    """Delete the tiles of the versions before, but not of one that is current again."""
    replaced = [entry for entry in entries if former[entry.record_id].fields.get(VERSION) != entry.fields[VERSION]]
    if not replaced:
        return
    now = yield from read_items([entry.record_id for entry in replaced], vectors=False)
    current = {tile_id for item in now.values() for tile_id in tile_ids(item.fields)}
    stale = [tile_id for entry in replaced for tile_id in tile_ids(former[entry.record_id].fields)]
    yield from _delete_tiles([tile_id for tile_id in stale if tile_id not in current])


def _keep_tiles(entries: Sequence[Entry]) -> Flow[None]:
    """Write tiles again that another writer has deleted, which knew them as those of a version before."""
    ids = [tile_id for entry in entries for tile_id in entry.tile_ids]
    kept: set[str] = set()
    for some in parts(ids, _BATCH_ITEMS):
        kept.update((yield from read_ids("tiles", ids=some)))
    lost = [entry for entry in entries if not kept.issuperset(entry.tile_ids)]
    if not lost:
        return
    now = yield from read_items([entry.record_id for entry in lost], vectors=False)
    versions = {record_id: item.fields.get(VERSION) for record_id, item in now.items()}
    current = [entry for entry in lost if versions.get(entry.record_id) == entry.fields[VERSION]]
    if current:
        yield from _write_tiles(current)


def _write_tiles(entries: Sequence[Entry]) -> Flow[None]:
    ids = [tile_id for entry in entries for tile_id in entry.tile_ids]
    vectors = np.concatenate([entry.tiles for entry in entries])
    fields = [entry.tile_fields for entry in entries for _ in entry.tile_ids]
    for some in parts(range(len(ids)), _BATCH_ITEMS):
        yield functools.partial(
            _upsert,
            kind="tiles",
            ids=[ids[at] for at in some],
            embeddings=vectors[some],
            metadatas=[fields[at] for at in some],
        )


def _upsert(client: Collections, *, kind: str, **options: Any) -> Any:  # noqa: ANN401 (chromadb's)
    return getattr(client, kind).upsert(**options)


def _delete_tiles(ids: Sequence[str]) -> Flow[None]:
    for some in parts(ids, _BATCH_ITEMS):
        yield functools.partial(_delete, kind="tiles", ids=some)


def _delete(client: Collections, *, kind: str, **options: Any) -> Any:  # noqa: ANN401 (chromadb's)
    return getattr(client, kind).delete(**options)
