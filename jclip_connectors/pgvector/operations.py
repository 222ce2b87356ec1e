"""The operations of the port on a collection in PostgreSQL, as flows for blocking and asyncio connections."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError
from jclip_connectors.pgvector.clients import Row, Statement
from jclip_connectors.pgvector.errors import translate
from jclip_connectors.pgvector.filters import to_sql, with_modality
from jclip_connectors.pgvector.requests import row_bytes, row_to_hit, row_to_record, to_read, to_rows, to_search
from jclip_connectors.pgvector.schema import Layout, Names
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.batches import split, write_batches
from jclip_connectors.store_kit.coarse import count_at_once, count_candidates
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
)
from jclip_connectors.store_kit.verification import unfound

_LOG = logging.getLogger(__package__)
ATTEMPTS = 3

_VECTOR_TOLERANCE = 1e-6
_HALFVEC_TOLERANCE = 2.0**-10  # half a unit in the last place of 16 bits, and what that does to the length

_BATCH_RECORDS = 1000
_BATCH_BYTES = 32 * 2**20  # in memory, and per transaction
_PAGE_RECORDS, _TILED_PAGE_RECORDS, _PAGE_IDS = 256, 32, 4096
_WORTH_A_GRAPH = 10  # records per candidate: finding a candidate in the index costs as much as comparing this many
_MOST_SCANNED = 20_000  # rows: the default of `hnsw.max_scan_tuples`, at which an index scan stops


class PgVectorFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = ATTEMPTS

    def __init__(self, names: Names, fingerprint: Fingerprint, layout: Layout, *, candidates: int) -> None:
        """Use an existing collection."""
        self._names = names
        self._fingerprint = fingerprint
        self._layout = layout
        self._candidates = candidates

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    @property
    def vector_tolerance(self) -> float:
        """The most that a value of a stored vector may differ from what was written, at unit length."""
        return _HALFVEC_TOLERANCE if self._layout.storage == "halfvec" else _VECTOR_TOLERANCE

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of psycopg."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write in batches limited by count and size, each in one transaction."""
        checked = check_records(records, dimensions=self._layout.dimensions, tiled=self._layout.tiled)
        size_bytes = functools.partial(row_bytes, layout=self._layout)
        batches = list(split(checked, size_bytes=size_bytes, most_items=_BATCH_RECORDS, most_bytes=_BATCH_BYTES))
        _LOG.debug("%r: %d records in %d batches", self._names.name, len(checked), len(batches))
        yield from write_batches(records, batches, self._write)

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Search with all stages in one statement."""
        query = check_embedding(embedding, dimensions=self._layout.dimensions)
        self._check_search(limit, where, modality, tiles=tiles)
        (hits,) = yield from self._search(query[None], limit=limit, where=where, modality=modality, tiles=tiles)
        return hits

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors in one statement."""
        queries = check_embeddings(embeddings, dimensions=self._layout.dimensions)
        self._check_search(limit, where, modality, tiles=tiles)
        at_once = count_at_once(limit, tiles=False)  # the vectors of tiles stay in the database
        return [
            self._search(queries[start : start + at_once], limit=limit, where=where, modality=modality, tiles=tiles)
            for start in range(0, len(queries), at_once)
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`."""
        wanted = check_ids(ids)
        keys = [record_uuid(record_id) for record_id in dict.fromkeys(wanted)]
        found: dict[str, Record] = {}
        for start in range(0, len(keys), self._page_size):
            values = {"keys": keys[start : start + self._page_size]}
            asked = to_read(self._names, self._layout, condition=_IS_ONE_OF, values=values, vectors=vectors)
            for row in (yield from _transact([asked]))[0]:
                record = row_to_record(row, self._layout)
                found[record.record_id] = record
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete in one transaction; PostgreSQL deletes the tiles with their records."""
        check_delete(ids, where)
        condition, values = to_sql(where)
        if ids is not None:
            keys = sorted({record_uuid(record_id) for record_id in check_ids(ids)})
            if not keys:
                return
            condition, values = _IS_ONE_OF, {"keys": keys}
        deleted = sql.SQL("DELETE FROM {} WHERE {}").format(self._names.records, condition)
        yield from _transact([Statement(query=deleted, parameters=values)])

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records exactly."""
        condition, values = to_sql(where)
        counted = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
            self._names.records, with_modality(condition, modality)
        )
        (((count,),),) = yield from _transact([Statement(query=counted, parameters=values)])
        return int(count)

    def page(
        self,
        start: Any,  # noqa: ANN401 (a key as text)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """Read one page of the matching records, in the order of their keys."""
        condition, values = _after(start, where, modality)
        size = self._page_size
        asked = to_read(self._names, self._layout, condition=condition, values=values, limit=size, vectors=vectors)
        (rows,) = yield from _transact([asked])
        return [row_to_record(row, self._layout) for row in rows], rows[-1][-1] if len(rows) == size else None

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (a key as text)
        """Read one page of the ids of the matching records, in the order of their keys."""
        condition, values = _after(start, where, modality)
        asked = sql.SQL("SELECT record_id, key::text FROM {} WHERE {} ORDER BY key LIMIT {}").format(
            self._names.records, condition, sql.Literal(_PAGE_IDS)
        )
        (rows,) = yield from _transact([Statement(query=asked, parameters=values)])
        return [row[0].decode() for row in rows], rows[-1][-1] if len(rows) == _PAGE_IDS else None

    def _check_search(self, limit: int, where: Filter | None, modality: Modality | None, *, tiles: bool) -> None:
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._layout.tiled)
        check_modality(modality)
        to_sql(where)

    def _search(
        self, queries: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[list[SearchHit]]]:
        condition, values = to_sql(where)
        candidates = count_candidates(self._candidates, limit=limit)
        approximate = False
        if self._layout.hnsw is not None and not where and candidates <= _MOST_SCANNED:
            approximate = yield from self._has_more(_WORTH_A_GRAPH * candidates)
        statements = to_search(
            queries,
            self._names,
            self._layout,
            condition=condition,
            values=values,
            modality=modality,
            tiles=tiles,
            limit=limit,
            candidates=candidates,
            approximate=approximate,
        )
        found: list[list[SearchHit]] = [[] for _ in queries]
        for row in (yield from _transact(statements, undo=approximate))[-1]:
            found[row[-1]].append(row_to_hit(row))
        return found

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        return (yield from unfound(self, records))

    @property
    def _page_size(self) -> int:
        """The number of records per request: fewer if records have tiles."""
        return _TILED_PAGE_RECORDS if self._layout.tiled else _PAGE_RECORDS

    def _has_more(self, rows: int) -> Flow[bool]:
        counted = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS few").format(
            self._names.records, sql.Literal(rows + 1)
        )
        (((count,),),) = yield from _transact([Statement(query=counted)])
        return bool(count > rows)

    def _write(self, batch: Sequence[Record]) -> Flow[None]:
        yield from _transact(to_rows(batch, self._names, self._layout))


_IS_ONE_OF = sql.SQL("key = ANY(%(keys)s::uuid[])")


def _after(start: str | None, where: Filter | None, modality: Modality | None) -> tuple[sql.Composable, dict[str, Any]]:
    """The condition of a page, and its values."""
    condition, values = to_sql(where)
    condition = with_modality(condition, modality)
    if start is None:
        return condition, values
    return sql.SQL("({}) AND key > %(after)s::uuid").format(condition), {**values, "after": start}


def _transact(statements: Sequence[Statement], *, undo: bool = False) -> Flow[list[list[Row]]]:
    rows: list[list[Row]] = yield lambda client: client.transact(statements, undo=undo)
    return rows
