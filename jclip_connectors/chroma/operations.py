"""The operations of the port on a collection in Chroma, as flows for blocking and asyncio clients."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

from jclip_connectors.chroma.errors import translate
from jclip_connectors.chroma.fetching import read_ids, read_records
from jclip_connectors.chroma.filters import Where, every_record, to_where
from jclip_connectors.chroma.items import parent_of
from jclip_connectors.chroma.schema import PARENT, Stored
from jclip_connectors.chroma.searching import nearest, nearest_by_tiles
from jclip_connectors.chroma.storing import batches_of, remove, write
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.batches import parts, write_batches
from jclip_connectors.store_kit.flows import Flow, Page, one_search
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_embeddings,
    check_ids,
    check_records,
    check_tiles,
)
from jclip_connectors.store_kit.verification import unfound

_LOG = logging.getLogger(__package__)
ATTEMPTS = 3
_DELETED = 256  # records for each request
_PAGE_RECORDS, _TILED_PAGE_RECORDS, _PAGE_IDS = 256, 32, 4096
_QUERIES_AT_ONCE = 32


class ChromaFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = ATTEMPTS

    def __init__(self, name: str, stored: Stored, *, dimensions: int | None, tiled: bool, candidates: int) -> None:
        """Use an existing collection."""
        self._name = name
        self._fingerprint = stored.fingerprint
        self._dimensions = dimensions
        self._tiled = tiled
        self._candidates = candidates

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of chromadb."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write in batches limited by count and size; Chroma takes or refuses each as a whole."""
        checked = check_records(records, dimensions=self._dimensions, tiled=self._tiled)
        if not checked:
            return
        batches, entries = batches_of(checked, tiled=self._tiled)
        _LOG.debug("%r: %d records in %d batches", self._name, len(checked), len(batches))
        yield from write_batches(records, batches, functools.partial(write, entries=entries, tiled=self._tiled))
        self._dimensions = len(checked[0].embedding)

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Find the nearest records."""
        query = check_embedding(embedding, dimensions=self._dimensions)
        condition = self._check_search(limit, where, modality, tiles=tiles)
        at_most = yield from self._at_most(limit)
        if tiles:
            return (yield from nearest_by_tiles(query, condition, limit=at_most, candidates=self._candidates))
        (hits,) = yield from nearest(query[None], condition, limit=at_most, candidates=self._candidates)
        return hits

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors, for some in each request; with tiles, for one."""
        queries = check_embeddings(embeddings, dimensions=self._dimensions)
        condition = self._check_search(limit, where, modality, tiles=tiles)
        if tiles:
            return [
                one_search(self.search(query, limit=limit, where=where, modality=modality, tiles=True))
                for query in queries
            ]
        return [
            self._search(queries[start : start + _QUERIES_AT_ONCE], condition, limit=limit)
            for start in range(0, len(queries), _QUERIES_AT_ONCE)
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`."""
        wanted = check_ids(ids)
        found: dict[str, Record] = {}
        for some in parts(list(dict.fromkeys(wanted)), self._page_size):
            found |= yield from read_records(some, vectors=vectors)
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete records by ids or by filter, and then their tiles; tiles without a record are never found."""
        check_delete(ids, where)
        if ids is None:
            condition = every_record(to_where(where, None))
            yield from remove(where=condition, tiles=condition if self._tiled else None)
            return
        for some in parts(list(dict.fromkeys(check_ids(ids))), _DELETED):
            of_records: Where = {PARENT: {"$in": list(map(parent_of, some))}}
            yield from remove(ids=some, tiles=of_records if self._tiled else None)

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records; with a filter their ids are read, as Chroma has no count by filter."""
        condition = to_where(where, modality)
        if condition is not None:
            return len((yield from read_ids("records", where=condition)))
        counted: int = yield lambda client: client.records.count()
        return counted

    def page(
        self,
        start: Any,  # noqa: ANN401 (all ids, and a position)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """Read one page of the records that matched when the first page was read."""
        some, following = yield from self._part(start, where, modality, size=self._page_size)
        found = yield from read_records(some, vectors=vectors)
        return [found[record_id] for record_id in some if record_id in found], following

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (all ids, and a position)
        """One page of the ids of the records that matched when the first page was read."""
        return (yield from self._part(start, where, modality, size=_PAGE_IDS))

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        return (yield from unfound(self, records))

    def _part(
        self, start: tuple[list[str], int] | None, where: Filter | None, modality: Modality | None, *, size: int
    ) -> Flow[Page[str]]:
        """Some of the ids of the records that matched at the start, in an order that says nothing about them."""
        condition = to_where(where, modality)
        if start is None:
            found = yield from read_ids("records", where=condition)
            start = sorted(found, key=lambda record_id: record_uuid(record_id).bytes), 0
        ids, at = start
        return ids[at : at + size], (ids, at + size) if at + size < len(ids) else None

    def _search(self, queries: FloatArray, where: Where | None, *, limit: int) -> Flow[list[list[SearchHit]]]:
        at_most = yield from self._at_most(limit)
        return (yield from nearest(queries, where, limit=at_most, candidates=self._candidates))

    def _at_most(self, limit: int) -> Flow[int]:
        """`limit`, but no more than there are records: Chroma reserves memory for as many results as are asked for."""
        if limit <= self._candidates:
            return limit
        return min(limit, max(1, (yield from self.count(where=None, modality=None))))

    def _check_search(
        self, limit: int, where: Filter | None, modality: Modality | None, *, tiles: bool
    ) -> Where | None:
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        return to_where(where, modality)

    @property
    def _page_size(self) -> int:
        """The number of records per request: fewer if records have tiles."""
        return _TILED_PAGE_RECORDS if self._tiled else _PAGE_RECORDS
