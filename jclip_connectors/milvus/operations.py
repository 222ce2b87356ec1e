"""The operations of the port on a Milvus collection, as flows for pymilvus's two clients."""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, StoreRequestError
from jclip_connectors.milvus.errors import translate
from jclip_connectors.milvus.filters import one_of, to_expression
from jclip_connectors.milvus.reading import (
    OF_HITS,
    Place,
    ask,
    count,
    fetch,
    nearest,
    nearest_by_tiles,
    wanted_results,
)
from jclip_connectors.milvus.requests import (
    MOST_BATCH_BYTES,
    MOST_BATCH_ROWS,
    Entry,
    Row,
    batches_of,
    key_of,
    payload_of,
    record_of,
    row_bytes,
    tile_keys,
    to_entry,
)
from jclip_connectors.milvus.schema import read_dimensions, read_fingerprint
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit
from jclip_connectors.store_kit.batches import parts, split, write_batches
from jclip_connectors.store_kit.flows import Flow, Page, one_search
from jclip_connectors.store_kit.payload import without_vectors
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_embeddings,
    check_ids,
    check_records,
    check_tiles,
    check_unchanged,
)
from jclip_connectors.store_kit.verification import TilesMissingError, unfound

_LOG = logging.getLogger(__package__)
_PAGE, _PAGE_OF_TILED, _PAGE_OF_IDS = 500, 64, 4096
_MOST_OF_PAGE = 8192  # far more than a page has, as the keys are spread evenly
_KEYS = 2**32  # of the first eight digits of a key
_FRESH_S = 2.0  # within one `upsert`, how long the collection is known to be the same
_TRIES = 3  # to read a record that is being replaced
_RESULTS_AT_ONCE = 2000

Span = tuple[int, int]  # from the first to before the second number of a key's first eight digits


class MilvusFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = 1  # the client itself tries again

    def __init__(self, place: Place, fingerprint: Fingerprint) -> None:
        """Use an existing collection."""
        self._place = place
        self._fingerprint = fingerprint
        self._checked_s = -float("inf")

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of the client."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write in batches limited by count and size."""
        place = self._place
        checked = check_records(records, dimensions=place.dimensions, tiled=place.tiled)
        if not checked:
            return
        entries = {record.record_id: to_entry(record, tiled=place.tiled) for record in checked}

        def size_bytes(record: Record) -> int:
            entry = entries[record.record_id]
            return sum(map(row_bytes, (entry.row, *entry.tiles)))

        batches = list(split(checked, size_bytes=size_bytes, most_items=MOST_BATCH_ROWS, most_bytes=MOST_BATCH_BYTES))
        _LOG.debug("%r: %d records in %d batches", place.name, len(checked), len(batches))
        yield from self._check_collection()
        yield from write_batches(records, batches, functools.partial(self._write, entries=entries))

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Find the nearest records."""
        query = check_embedding(embedding, dimensions=self._place.dimensions)
        self._check_search(limit, tiles=tiles)
        expression = to_expression(where, modality)
        wanted = yield from wanted_results(self._place, expression, limit)
        if tiles:
            return (yield from nearest_by_tiles(self._place, query, expression, wanted))
        (hits,) = yield from nearest(self._place, [query], expression, wanted)
        return hits

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors in one request, or one after another by their tiles."""
        queries = check_embeddings(embeddings, dimensions=self._place.dimensions)
        self._check_search(limit, tiles=tiles)
        expression = to_expression(where, modality)
        if tiles:
            return [
                one_search(self.search(query, limit=limit, where=where, modality=modality, tiles=True))
                for query in queries
            ]
        at_once = max(1, _RESULTS_AT_ONCE // limit)
        return [
            self._search_some(list(queries[start : start + at_once]), expression, limit)
            for start in range(0, len(queries), at_once)
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`."""
        wanted = check_ids(ids)
        keys = [key_of(record_id) for record_id in dict.fromkeys(wanted)]
        rows = yield from fetch(self._place, self._place.name, keys, self._fields(vectors=vectors))
        records = yield from self._records(list(rows.values()), vectors=vectors)
        found = {record.record_id: record for record in records}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete records by ids, in batches, or by filter: first the records, then their tiles."""
        check_delete(ids, where)
        if ids is None:
            expression = to_expression(where)
            yield from self._check_collection()
            yield from self._delete(expression, of_tiles=expression)
            return
        keys = [key_of(record_id) for record_id in dict.fromkeys(check_ids(ids))]
        if keys:
            yield from self._check_collection()
        for some in parts(keys, MOST_BATCH_ROWS):
            yield from self._delete(one_of("pk", some), of_tiles=one_of("owner", some))

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records exactly."""
        return (yield from count(self._place, to_expression(where, modality)))

    def page(
        self,
        start: Any,  # noqa: ANN401 (the parts of the keys that are left)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """Read one page of the matching records, in the order of their UUIDs."""
        size = _PAGE_OF_TILED if self._place.tiled and vectors else _PAGE
        expression = to_expression(where, modality)
        rows, left = yield from self._page(start, expression, size, self._fields(vectors=vectors))
        return (yield from self._records(rows, vectors=vectors)), left

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (the parts of the keys that are left)
        """Read one page of the ids of the matching records."""
        rows, left = yield from self._page(start, to_expression(where, modality), _PAGE_OF_IDS, ("record_id",))
        return [row["record_id"] for row in rows], left

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        return (yield from unfound(self, records))

    def _check_search(self, limit: int, *, tiles: bool) -> None:
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._place.tiled)

    def _search_some(self, queries: Sequence[FloatArray], expression: str, limit: int) -> Flow[list[list[SearchHit]]]:
        wanted = yield from wanted_results(self._place, expression, limit)
        return (yield from nearest(self._place, queries, expression, wanted))

    def _fields(self, *, vectors: bool) -> tuple[str, ...]:
        return (*OF_HITS, "embedding") if vectors else OF_HITS

    def _page(
        self, start: list[Span] | None, expression: str, size: int, fields: Sequence[str]
    ) -> Flow[tuple[list[Row], list[Span] | None]]:
        """Read the rows of one part of the keys; Milvus has no order in which pages could follow one another."""
        spans = start
        if spans is None:
            parts = 1 + (yield from count(self._place, expression)) // size
            spans = [(part * _KEYS // parts, (part + 1) * _KEYS // parts) for part in range(parts)]
        (first, end), left = spans[0], spans[1:]
        rows = yield from ask(
            self._place,
            "query",
            self._place.name,
            filter=f"{_in_span(first, end)} and {expression}",
            output_fields=list(fields),
            limit=_MOST_OF_PAGE,
        )
        if len(rows) == _MOST_OF_PAGE and end - first > 1:  # many were added since they were counted
            middle = (first + end) // 2
            return [], [(first, middle), (middle, end), *left]
        unique = {row["pk"]: row for row in rows}
        return [unique[key] for key in sorted(unique)], left or None

    def _records(self, rows: Sequence[Row], *, vectors: bool) -> Flow[list[Record]]:
        if not vectors:
            return [without_vectors(payload_of(row)) for row in rows]
        records: dict[str, Record] = {}
        order = [row["pk"] for row in rows]
        for _ in range(_TRIES):
            payloads = {row["pk"]: payload_of(row) for row in rows}
            keys = [key for row in rows for key in tile_keys(row, payloads[row["pk"]])]
            tiles = yield from fetch(self._place, self._place.tiles, keys, ("embedding",))
            embeddings = {key: tile["embedding"] for key, tile in tiles.items()}
            made = {row["pk"]: record_of(row, payloads[row["pk"]], embeddings) for row in rows}
            records |= {key: record for key, record in made.items() if record is not None}
            replaced = [key for key, record in made.items() if record is None]  # since the rows were read
            if not replaced:
                return [records[key] for key in order if key in records]
            again = yield from fetch(self._place, self._place.name, replaced, self._fields(vectors=True))
            rows = list(again.values())
            if not rows:
                return [records[key] for key in order if key in records]
        raise TilesMissingError([row["record_id"] for row in rows])

    def _delete(self, expression: str, *, of_tiles: str) -> Flow[None]:
        place = self._place
        yield place.calls("delete", place.name, filter=expression)
        if not place.tiled:
            return
        # What another writer has written again meanwhile keeps its tiles.
        rows = yield from ask(
            place, "query", place.name, filter=expression, output_fields=["lineage"], limit=_MOST_OF_PAGE
        )
        if rows:
            of_tiles = f"{of_tiles} and {one_of('lineage', sorted({row['lineage'] for row in rows}), negate=True)}"
        yield place.calls("delete", place.tiles, filter=of_tiles)

    def _check_collection(self, *, fresh_s: float = 0.0) -> Flow[None]:
        """Before a write: refuse a collection that was made again with another configuration.

        Raises:
            CollectionMismatchError: the collection was made again with another configuration.
            StoreRequestError: the collection was deleted, or made again by another program or for other vectors, or its
                alias stands for another one.
        """
        if time.monotonic() - self._checked_s < fresh_s:
            return
        place = self._place
        found: Mapping[str, Any] = yield place.calls("describe_collection", place.given)
        check_unchanged(read_fingerprint(found), self._fingerprint, collection=f"the collection {place.name!r}")
        if found["collection_name"] != place.name:
            raise StoreRequestError(
                f"the alias {place.given!r} stood for {place.name!r}, and stands for {found['collection_name']!r} now: "
                "open it again"
            )
        if read_dimensions(found) != place.dimensions:
            raise StoreRequestError(f"the collection {place.name!r} was made again for other vectors: open it again")
        self._checked_s = time.monotonic()

    def _write(self, batch: Sequence[Record], *, entries: Mapping[str, Entry]) -> Flow[None]:
        """Write tiles, then the records that make them visible, then delete the tiles that these had before."""
        place = self._place
        yield from self._check_collection(fresh_s=_FRESH_S)
        written = [entries[record.record_id] for record in batch]
        keys = [entry.row["pk"] for entry in written] if place.tiled else []
        former = (yield from self._lineages(keys)) - {entry.row["lineage"] for entry in written}
        for rows in batches_of([tile for entry in written for tile in entry.tiles]):
            yield place.calls("upsert", place.tiles, data=rows)
        for rows in batches_of([entry.row for entry in written]):
            yield place.calls("upsert", place.name, data=rows)
        try:
            if former:  # another writer may have made one the current version again
                former -= yield from self._lineages(keys)
            for some in parts(sorted(former), MOST_BATCH_ROWS):
                yield place.calls("delete", place.tiles, filter=one_of("lineage", some))
        except ConnectorError as error:
            _LOG.warning("%r: tiles that no search finds could not be deleted: %s", place.tiles, error)
        if place.tiled:
            yield from self._write_lost_tiles(written)

    def _write_lost_tiles(self, written: Sequence[Entry]) -> Flow[None]:
        """Write tiles again that another writer has deleted just before their records, as those of a former version."""
        place = self._place
        first = {entry.tiles[0]["pk"]: entry for entry in written}
        there = yield from fetch(place, place.tiles, list(first), ("lineage",))
        lost = [entry for key, entry in first.items() if key not in there]
        current = yield from self._lineages([entry.row["pk"] for entry in lost])
        for rows in batches_of([tile for entry in lost if entry.row["lineage"] in current for tile in entry.tiles]):
            yield place.calls("upsert", place.tiles, data=rows)

    def _lineages(self, keys: Sequence[str]) -> Flow[set[str]]:
        """The lineages of tiles that the records have now."""
        rows = yield from fetch(self._place, self._place.name, keys, ("lineage",))
        return {row["lineage"] for row in rows.values()}


def _in_span(first: int, end: int) -> str:
    above = f'pk >= "{first:08x}"'
    return above if end == _KEYS else f'{above} and pk < "{end:08x}"'
