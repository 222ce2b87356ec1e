"""The operations of the port on a Qdrant collection, as flows for qdrant-client's two clients."""

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any

from qdrant_client import models

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import (
    ConnectorError,
    EmbedInputError,
    StoreRequestError,
)
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, record_uuid
from jclip_connectors.qdrant.errors import translate
from jclip_connectors.qdrant.requests import (
    WITHOUT_INDEXED,
    Layout,
    payload_indexes,
    payload_of,
    point_bytes,
    read_description,
    read_layout,
    to_filter,
    to_part_of_batch,
    to_point,
    to_query,
)
from jclip_connectors.store_kit.batches import split, write_batches
from jclip_connectors.store_kit.coarse import CANDIDATES, count_at_once, count_candidates
from jclip_connectors.store_kit.flows import Flow, Page
from jclip_connectors.store_kit.payload import nearest_box, to_hit, to_record, without_vectors
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

_BATCH_RECORDS = 256
_BATCH_BYTES = 24 * 2**20  # a server accepts 32 MiB per request
_TILED_PAGE_RECORDS = 32
_PAGE_IDS = 4096
_FRESH_S = 2.0  # within one `upsert`, how long the collection is known to be the same


class QdrantFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = ATTEMPTS

    def __init__(
        self,
        name: str,
        fingerprint: Fingerprint,
        layout: Layout,
        *,
        candidates: int,
        params: models.SearchParams | None,
        indexed: set[str],
    ) -> None:
        """Use an existing collection; `params` are of its searches, `indexed` are the payload fields with an index."""
        self._name = name
        self._fingerprint = fingerprint
        self._layout = layout
        self._candidates = candidates
        self._params = params
        self._indexed = {_unquoted(field) for field in indexed}
        self._checked_s = -float("inf")

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self._name

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of the client."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write in batches limited by count and size, and make the payload indexes that the records need."""
        checked = check_records(records, dimensions=self._layout.dimensions, tiled=self._layout.tiled)
        if not checked:
            return
        payloads = {record.record_id: payload_of(record, self._layout) for record in checked}

        def size_bytes(record: Record) -> int:
            return self._size_bytes(record, payloads[record.record_id])

        batches = list(split(checked, size_bytes=size_bytes, most_items=_BATCH_RECORDS, most_bytes=_BATCH_BYTES))
        _LOG.debug("%r: %d records in %d batches", self._name, len(checked), len(batches))
        yield from self._check_collection()
        yield from write_batches(records, batches, functools.partial(self._write, payloads=payloads))

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Search with all stages in one request."""
        query = check_embedding(embedding, dimensions=self._layout.dimensions)
        self._check_search(limit, tiles=tiles)
        condition = self._condition(where, modality)
        (hits,) = yield from self._search([query], condition, limit=limit, tiles=tiles)
        return hits

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors in one request."""
        queries = check_embeddings(embeddings, dimensions=self._layout.dimensions)
        self._check_search(limit, tiles=tiles)
        condition = self._condition(where, modality)
        at_once = count_at_once(limit, tiles=tiles)
        return [
            self._search(list(queries[start : start + at_once]), condition, limit=limit, tiles=tiles)
            for start in range(0, len(queries), at_once)
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`."""
        wanted = check_ids(ids)
        points = [str(record_uuid(record_id)) for record_id in dict.fromkeys(wanted)]
        found: dict[str, Record] = {}
        for start in range(0, len(points), self._page_size):
            some = points[start : start + self._page_size]
            answer = yield methodcaller(
                "retrieve", self._name, some, with_payload=WITHOUT_INDEXED, with_vectors=self._vector_names(vectors)
            )
            found |= {record.record_id: record for record in map(_record, answer)}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete records by ids, in batches, or by filter."""
        check_delete(ids, where)
        if ids is None:
            selector = models.FilterSelector(filter=self._condition(where, None))
            yield from self._check_collection()
            yield lambda client: client.delete(self._name, selector, wait=True)
            return
        points: list[Any] = [str(record_uuid(record_id)) for record_id in check_ids(ids)]
        if points:
            yield from self._check_collection()
        for start in range(0, len(points), _BATCH_RECORDS):
            some = models.PointIdsList(points=points[start : start + _BATCH_RECORDS])
            yield methodcaller("delete", self._name, some, wait=True)

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records exactly."""
        condition = self._condition(where, modality)
        answer = yield lambda client: client.count(self._name, count_filter=condition, exact=True)
        return int(answer.count)

    def page(
        self,
        start: Any,  # noqa: ANN401 (an offset of the server)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """Read one page of the matching records."""
        condition = self._condition(where, modality)
        points, following = yield lambda client: client.scroll(
            self._name,
            scroll_filter=condition,
            limit=self._page_size,
            offset=start,
            with_payload=WITHOUT_INDEXED,
            with_vectors=self._vector_names(vectors),
        )
        return [_record(point) for point in points], following

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        return (yield from unfound(self, records))

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (an offset of the server)
        """Read one page of the ids of the matching records."""
        condition = self._condition(where, modality)
        points, following = yield lambda client: client.scroll(
            self._name,
            scroll_filter=condition,
            limit=_PAGE_IDS,
            offset=start,
            with_payload=["record_id"],
            with_vectors=False,
        )
        return [point.payload["record_id"] for point in points], following

    def _search(
        self, queries: Sequence[FloatArray], condition: models.Filter, *, limit: int, tiles: bool
    ) -> Flow[list[list[SearchHit]]]:
        if limit > CANDIDATES:  # a server allocates memory for `limit` results
            limit = min(limit, max(1, (yield from self.count(where=None, modality=None))))
        candidates = count_candidates(self._candidates, limit=limit)
        requests = [
            to_query(
                query,
                self._layout,
                condition,
                tiles=tiles,
                limit=limit,
                candidates=candidates,
                params=self._params,
            )
            for query in queries
        ]
        if len(requests) == 1:
            answers = [(yield methodcaller("query_points", self._name, **requests[0]))]
        else:
            batch = list(map(to_part_of_batch, requests))
            answers = yield lambda client: client.query_batch_points(self._name, batch)
        return [
            sorted(
                (_hit(point, query, tiles=tiles) for point in answer.points),
                key=lambda hit: (-hit.score, hit.record_id),
            )
            for query, answer in zip(queries, answers, strict=True)
        ]

    def _check_search(self, limit: int, *, tiles: bool) -> None:
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._layout.tiled)

    def _vector_names(self, vectors: bool) -> list[str] | bool:  # noqa: FBT001 (private)
        """The vectors that a record is read from; none if they are left out."""
        if not vectors:
            return False
        return ["full", "tiles"] if self._layout.tiled else ["full"]

    def _condition(self, where: Filter | None, modality: Modality | None) -> models.Filter:
        check_modality(modality)
        return to_filter(where, modality, index_per_field=self._layout.index_per_field)

    @property
    def _page_size(self) -> int:
        """The number of records per request: fewer if records have tiles."""
        return _TILED_PAGE_RECORDS if self._layout.tiled else _BATCH_RECORDS

    def _check_collection(self, *, fresh_s: float = 0.0) -> Flow[None]:
        """Before a write: refuse a collection that was made again with another configuration.

        Raises:
            CollectionMismatchError: the collection was made again with another configuration.
            StoreRequestError: the collection was deleted, or made again by another program or for other vectors.
        """
        if time.monotonic() - self._checked_s < fresh_s:
            return
        info = yield lambda client: client.get_collection(self._name)
        fingerprint, stored_format = read_description(info, self._name)
        check_unchanged(fingerprint, self._fingerprint, collection=f"the collection {self._name!r}")
        if (
            read_layout(info.config.params.vectors, tiled=self._layout.tiled, stored_format=stored_format)
            != self._layout
        ):
            raise StoreRequestError(f"the collection {self._name!r} was made again with other options: open it again")
        self._indexed = {_unquoted(field) for field in info.payload_schema}
        self._checked_s = time.monotonic()

    def _size_bytes(self, record: Record, payload: Mapping[str, Any]) -> int:
        size = point_bytes(record, self._layout, payload)
        if size > _BATCH_BYTES:
            raise EmbedInputError(
                f"the record {record.record_id!r} needs {size} bytes in a request, more than {_BATCH_BYTES}: "
                "shorten its text or metadata, or use fewer tiles"
            )
        return size

    def _write(self, batch: Sequence[Record], *, payloads: Mapping[str, dict[str, Any]]) -> Flow[None]:
        yield from self._check_collection(fresh_s=_FRESH_S)
        for field, kind in payload_indexes(batch, self._layout).items():
            if _unquoted(field) not in self._indexed:
                yield methodcaller("create_payload_index", self._name, field, field_schema=kind, wait=True)
                self._indexed.add(_unquoted(field))
                _LOG.debug("%r: made the payload index %s (%s)", self._name, field, kind.value)
        points = [to_point(record, self._layout, payloads[record.record_id]) for record in batch]
        yield lambda client: client.upsert(self._name, points, wait=True)


def _unquoted(path: str) -> str:
    """A path without quotes, for comparison: a server returns it with fewer quotes than it received."""
    return path.replace('"', "")


def _record(point: models.Record) -> Record:
    vectors: Any = point.vector
    if vectors is None:
        return without_vectors(point.payload or {})
    return to_record(point.payload or {}, embedding=vectors["full"], tile_embeddings=vectors.get("tiles"))


def _hit(point: models.ScoredPoint, query: FloatArray, *, tiles: bool) -> SearchHit:
    payload: dict[str, Any] = point.payload or {}
    vectors: Any = point.vector
    box = nearest_box(payload, tile_embeddings=vectors["tiles"], query=query) if tiles else None
    return to_hit(payload, score=point.score, box=box)
