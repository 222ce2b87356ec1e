"""The operations of the port on a table of LanceDB, as flows for blocking and asyncio connections."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import pyarrow as pa

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, StoreRequestError
from jclip_connectors.lancedb.clients import Read, Search
from jclip_connectors.lancedb.errors import translate
from jclip_connectors.lancedb.filters import to_sql
from jclip_connectors.lancedb.requests import (
    columns_to_read,
    columns_to_search,
    row_bytes,
    to_hits,
    to_records,
    to_rows,
    with_ids,
)
from jclip_connectors.lancedb.schema import EMBEDDING, TILES, Layout, read_schema, to_schema
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit
from jclip_connectors.store_kit.batches import parts, split, write_batches
from jclip_connectors.store_kit.coarse import CANDIDATES, count_at_once
from jclip_connectors.store_kit.flows import Flow, Page
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_embeddings,
    check_ids,
    check_modality,
    check_records,
    check_tiles,
    check_unchanged,
)
from jclip_connectors.store_kit.verification import unfound

_LOG = logging.getLogger(__package__)
ATTEMPTS = 3

_BATCH_RECORDS = 1000
_BATCH_BYTES = 32 * 2**20
_PAGE_RECORDS, _TILED_PAGE_RECORDS, _PAGE_IDS = 1000, 100, 4096
_PAGES_AT_ONCE = 8  # whose keys are read in one request
_READ_AT_ONCE = 1000  # ids of a `get` or `delete`
_FEW = 1000  # results: for more, the records are counted first, as no search may ask for more than there are
_EQUAL_AT_THE_END = 256  # records with the score of the last result that are read to find those with the first ids


# Where a page starts: above a key, and the last keys of the next pages, as far as they are known; `None` is no end.
_Start: TypeAlias = tuple[int, tuple[int | None, ...]]


@dataclass(frozen=True, kw_only=True)
class LanceReport:
    """The result of `lance_optimize`.

    Attributes:
        records: the number of records in the collection.
        indexed: whether searches use an index; a collection of up to 4,096 records gets none.
    """

    records: int
    indexed: bool


class LanceFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = ATTEMPTS

    def __init__(
        self, name: str, fingerprint: Fingerprint, layout: Layout, *, exact: bool, refine: int, partitions: int
    ) -> None:
        """Use an existing collection."""
        self._name = name
        self._fingerprint = fingerprint
        self._layout = layout
        self._schema = to_schema(layout, fingerprint)
        self._refine = None if exact else refine
        self._partitions = partitions

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of lancedb."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write in batches limited by count and size, each in one commit."""
        checked = check_records(records, dimensions=self._layout.dimensions, tiled=self._layout.tiled)
        batches = list(split(checked, size_bytes=row_bytes, most_items=_BATCH_RECORDS, most_bytes=_BATCH_BYTES))
        _LOG.debug("%r: %d records in %d batches", self._name, len(checked), len(batches))
        yield from write_batches(records, batches, self._write)

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Search in one request; one more if there are many records, or many with equal scores."""
        query = check_embedding(embedding, dimensions=self._layout.dimensions)
        condition = self._check_search(limit, where, modality, tiles=tiles)
        (hits,) = yield from self._search(query[None], limit=limit, condition=condition, tiles=tiles)
        return hits

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors in one request; over tiles, in one for each."""
        queries = check_embeddings(embeddings, dimensions=self._layout.dimensions)
        condition = self._check_search(limit, where, modality, tiles=tiles)
        at_once = 1 if tiles else count_at_once(limit, tiles=False)
        return [
            self._search(queries[start : start + at_once], limit=limit, condition=condition, tiles=tiles)
            for start in range(0, len(queries), at_once)
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`."""
        wanted = check_ids(ids)
        found: dict[str, Record] = {}
        for part in parts(list(dict.fromkeys(wanted)), self._page_size if vectors else _READ_AT_ONCE):
            records = yield from self._read(with_ids(part), vectors=vectors)
            found |= {record.record_id: record for record in records}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete in one commit for each 1000 ids, or in one for a filter."""
        check_delete(ids, where)
        if ids is None:
            conditions = [to_sql(where) or "true"]
        else:
            conditions = [with_ids(part) for part in parts(list(dict.fromkeys(check_ids(ids))), _READ_AT_ONCE)]
        for condition in conditions:
            yield from self._check_table()
            yield functools.partial(_delete, condition=condition)

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records exactly."""
        condition = to_sql(where, modality)
        counted: int = yield lambda client: client.count(condition)
        return counted

    def page(
        self,
        start: Any,  # noqa: ANN401 (keys)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """Read one page of the matching records, in the order of their keys."""
        condition, end = yield from self._part(start, to_sql(where, modality), self._page_size)
        records = yield from self._read(condition, vectors=vectors)
        return records, end

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (keys)
        """Read one page of the ids of the matching records, in the order of their keys."""
        condition, end = yield from self._part(start, to_sql(where, modality), _PAGE_IDS)
        asked = Read(columns=["record_id"], where=condition)
        rows: pa.Table = yield lambda client: client.read(asked)
        return rows["record_id"].to_pylist(), end

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        return (yield from unfound(self, records))

    def optimize(self, keep: timedelta) -> Flow[LanceReport]:
        """Merge small files, and make the indexes that are missing."""
        yield lambda client: client.compact(keep)
        records = yield from self.count(where=None, modality=None)
        has: set[str] = yield lambda client: client.indexed_columns()
        for column in ("record_id", "key"):
            if records and column not in has:
                yield functools.partial(_index_rows, column=column)
        for column in self._layout.vector_columns:
            if records > CANDIDATES and column not in has:
                _LOG.debug("%r: an index of %r for %d records", self._name, column, records)
                yield functools.partial(_index_vectors, column=column)
        return LanceReport(records=records, indexed=records > CANDIDATES or EMBEDDING in has)

    def _check_search(self, limit: int, where: Filter | None, modality: Modality | None, *, tiles: bool) -> str | None:
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._layout.tiled)
        check_modality(modality)
        return to_sql(where, modality)

    def _search(
        self, queries: FloatArray, *, limit: int, condition: str | None, tiles: bool
    ) -> Flow[list[list[SearchHit]]]:
        if limit > _FEW:
            counted: int = yield lambda client: client.count(condition)
            limit = min(limit, max(counted, 1))
        # One more than asked for tells whether the engine has chosen among records with the last score.
        found = yield from self._find(queries, limit=limit + 1, condition=condition, tiles=tiles)
        if any(len(hits) > limit and hits[limit - 1].score == hits[limit].score for hits in found):
            more = limit + _EQUAL_AT_THE_END
            found = yield from self._find(queries, limit=more, condition=condition, tiles=tiles)
        return [hits[:limit] for hits in found]

    def _find(
        self, queries: FloatArray, *, limit: int, condition: str | None, tiles: bool
    ) -> Flow[list[list[SearchHit]]]:
        asked = Search(
            vectors=queries if len(queries) > 1 else queries[0],
            column=TILES if tiles else EMBEDDING,
            columns=columns_to_search(tiles=tiles),
            where=condition,
            limit=limit,
            refine=self._refine,
            partitions=self._partitions,
        )
        rows: pa.Table = yield lambda client: client.search(asked)
        return to_hits(rows, queries, tiles=tiles)

    @property
    def _page_size(self) -> int:
        """The number of records per request: fewer if records have tiles."""
        return _TILED_PAGE_RECORDS if self._layout.tiled else _PAGE_RECORDS

    def _part(self, start: _Start | None, condition: str | None, size: int) -> Flow[tuple[str | None, _Start | None]]:
        """The condition of the next rows, about `size` of them, and where the rows after these start."""
        after, ends = start or (None, ())
        if not ends:
            most = _PAGES_AT_ONCE * size
            asked = Read(columns=["key"], where=_between(condition, after, None), limit=most, in_order=True)
            keys: list[int] = (yield lambda client: client.read(asked))["key"].to_pylist()
            ends = tuple(dict.fromkeys(keys[size - 1 :: size]))
            if len(keys) < most:
                ends = (*ends, None)
        end, *later = ends
        return _between(condition, after, end), None if end is None else (end, tuple(later))

    def _read(self, condition: str | None, *, vectors: bool) -> Flow[list[Record]]:
        asked = Read(columns=columns_to_read(self._layout, vectors=vectors), where=condition)
        rows: pa.Table = yield lambda client: client.read(asked)
        return list(to_records(rows.sort_by("key"), vectors=vectors))

    def _write(self, batch: Sequence[Record]) -> Flow[None]:
        yield from self._check_table()
        rows = to_rows(batch, self._schema, self._layout)
        yield lambda client: client.merge(rows)

    def _check_table(self) -> Flow[None]:
        """Refuse to change a table that was dropped, or made again with another configuration."""
        schema: pa.Schema | None = yield lambda client: client.schema()
        if schema is None:
            raise StoreRequestError(f"the collection {self._name!r} was deleted: open it again to make it")
        stored, _ = read_schema(schema, self._name)
        check_unchanged(stored, self._fingerprint, collection=f"the collection {self._name!r}")


def _delete(client: Any, *, condition: str) -> Any:  # noqa: ANN401 (blocking or asyncio)
    return client.delete(condition)


def _index_rows(client: Any, *, column: str) -> Any:  # noqa: ANN401 (blocking or asyncio)
    return client.index_rows(column)


def _index_vectors(client: Any, *, column: str) -> Any:  # noqa: ANN401 (blocking or asyncio)
    return client.index_vectors(column)


def _between(condition: str | None, after: int | None, end: int | None) -> str | None:
    """A condition for the rows whose keys are above `after`, and at most `end`."""
    bounds = [] if after is None else [f"key > {after}"]
    if end is not None:
        bounds.append(f"key <= {end}")
    return " AND ".join([*([] if condition is None else [condition]), *bounds]) or None
