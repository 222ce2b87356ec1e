"""The operations of the port on a Pinecone namespace, as flows for both kinds of indexes."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.pinecone.dialects import DELETE_IDS, FETCH_IDS, Dialect, Match
from jclip_connectors.pinecone.errors import is_about_items, translate
from jclip_connectors.pinecone.filters import Expression, none_of, to_expression
from jclip_connectors.pinecone.importing import write_files
from jclip_connectors.pinecone.items import (
    Entry,
    Item,
    batches,
    box_of,
    lineage_of,
    payload_of,
    record_of,
    split_id,
    tile_ids,
    to_entry,
)
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.batches import parts
from jclip_connectors.store_kit.failures import partial
from jclip_connectors.store_kit.flows import Flow, Page, one_search
from jclip_connectors.store_kit.payload import to_hit, without_vectors
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
_MOST_RESULTS = 10_000  # per search; also the number of values per $nin
_WITH_FIELDS = 64  # results whose fields, of at most 40 KB each, fit into a response of 4 MB
_TILES_EACH = 10  # requested matches per record
_FEWEST_MATCHES = 100
_OF_HITS = ("record_id", "modality", "content", "uri", "content_hash", "metadata", "tile_boxes", "version")


class PineconeFlows:
    """The operations of one namespace; see `StoreFlows`."""

    attempts = 1  # the SDK itself retries

    def __init__(self, dialect: Dialect, fingerprint: Fingerprint, *, dimensions: int, tiled: bool) -> None:
        """Use a namespace that has a fingerprint."""
        self._dialect = dialect
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._tiled = tiled

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of the SDK."""
        return translate(error)

    def import_records(self, batches: Iterable[Sequence[Record]], uri: str, integration: str | None) -> Flow[str]:
        """Write records as files at `uri`, and start their import; returns the id of the import."""
        write_files(
            self._dialect,
            batches,
            uri,
            fingerprint=self._fingerprint,
            dimensions=self._dimensions,
            tiled=self._tiled,
        )
        answer = yield lambda index: index.start_import(uri=uri, error_mode="abort", integration_id=integration)
        started: str = answer.id
        return started

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write records: first their tiles, then the records, which make the tiles visible.

        An interrupted write leaves the previous record complete; tiles without a record are never found.
        """
        checked = check_records(records, dimensions=self._dimensions, tiled=self._tiled)
        entries = {entry.record.item_id: entry for entry in map(to_entry, checked)}
        former = (yield from self._former_tiles(entries)) if self._tiled else {}
        failed: dict[str, ConnectorError] = {}
        stop = yield from self._write((tile for entry in entries.values() for tile in entry.tiles), failed, stop=None)
        written = (entry.record for uuid, entry in entries.items() if uuid not in failed)
        stop = yield from self._write(list(written), failed, stop=stop)
        for uuid in failed:
            former.pop(uuid, None)
        yield from self._delete_former(former, failed)
        if stop is not None and len(failed) == len(entries):
            raise stop
        if failed:
            raise partial(records, {entries[uuid].record_id: error for uuid, error in failed.items()})

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Find the nearest records."""
        query = check_embedding(embedding, dimensions=self._dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        check_modality(modality)
        wanted = min(limit, _MOST_RESULTS)
        find = self._nearest_tiles if tiles else self._nearest
        hits, more = yield from find(query.tolist(), wanted, where, modality)
        if more and limit > _MOST_RESULTS:
            raise StoreRequestError(
                f"`limit` is {limit}, but Pinecone returns at most {_MOST_RESULTS} results: "
                "narrow the search with `where`"
            )
        return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))[:wanted]

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors, with one request or more for each."""
        queries = check_embeddings(embeddings, dimensions=self._dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        _records_where(where, modality)
        return [
            one_search(self.search(query, limit=limit, where=where, modality=modality, tiles=tiles))
            for query in queries
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        wanted = check_ids(ids)
        uuids = [_uuid(record_id) for record_id in dict.fromkeys(wanted)]
        items = yield from self._fetch(uuids, fields=None if vectors else _OF_HITS)
        records = yield from self._records(list(items.values()), vectors=vectors)
        found = {record.record_id: record for record in records}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete records by ids or by filter; an interrupted delete may leave tiles without a record."""
        check_delete(ids, where)
        if ids is None:
            yield from self._dialect.delete_where(to_expression(where, {"kind": {"$in": ["record", "tile"]}}))
            return
        uuids = [_uuid(record_id) for record_id in dict.fromkeys(check_ids(ids))]
        for some in parts(uuids, DELETE_IDS):
            yield from self._dialect.delete(some)
            if self._tiled:
                tiles: Expression = {"kind": {"$eq": "tile"}}
                yield from self._dialect.delete_where(to_expression(None, tiles, {"parent": {"$in": some}}))

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records: Pinecone has no count by filter, so their ids are read page by page."""
        expression = _records_where(where, modality)
        total, token = 0, None
        while True:
            items, token = yield from self._dialect.page(expression, token=token, fields=("kind",))
            total += len(items)
            if token is None:
                return total

    def page(
        self,
        start: Any,  # noqa: ANN401 (a token of Pinecone's)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """Read one page of the matching records."""
        expression = _records_where(where, modality)
        items, token = yield from self._dialect.page(expression, token=start, fields=None if vectors else _OF_HITS)
        records = yield from self._records(items, vectors=vectors)
        return records, token

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (a token of Pinecone's)
        """Read one page of the ids of the matching records."""
        expression = _records_where(where, modality)
        items, token = yield from self._dialect.page(expression, token=start, fields=("record_id",))
        return [item.fields["record_id"] for item in items], token

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        return (yield from unfound(self, records))

    def _nearest(
        self, vector: list[float], wanted: int, where: Filter | None, modality: Modality | None
    ) -> Flow[tuple[list[SearchHit], bool]]:
        """The results, and whether there may be more."""
        with_fields = wanted <= _WITH_FIELDS
        matches = yield from self._dialect.search(
            vector, top_k=wanted, where=_records_where(where, modality), fields=_OF_HITS if with_fields else None
        )
        items = {match.item.item_id: match.item for match in matches}
        if not with_fields:
            items = yield from self._fetch(list(items), fields=_OF_HITS)
        hits = [_hit(match, items[match.item.item_id]) for match in matches if match.item.item_id in items]
        return hits, len(matches) == wanted

    def _nearest_tiles(
        self, vector: list[float], wanted: int, where: Filter | None, modality: Modality | None
    ) -> Flow[tuple[list[SearchHit], bool]]:
        """The results by their nearest tiles, and whether there may be more.

        The first match of a lineage is its nearest tile. Found lineages are excluded from the next search, until there
        are enough records.
        """
        expression = to_expression(where, {"in_tiles": {"$eq": True}}, *_of_modality(modality))
        seen: dict[str, Match] = {}  # by lineage, best first
        hits: list[SearchHit] = []
        while True:
            top_k = min(_MOST_RESULTS, max(_FEWEST_MATCHES, _TILES_EACH * (wanted - len(hits))))
            rest = [expression, none_of("lineage", list(seen))] if seen else [expression]
            matches = yield from self._dialect.search(vector, top_k=top_k, where=to_expression(None, *rest))
            found: dict[str, Match] = {}
            for match in matches:
                found.setdefault(split_id(match.item.item_id)[0], match)
            items = yield from self._fetch(list(dict.fromkeys(map(_parent, found))), fields=_OF_HITS)
            current = {lineage_of(item): item for item in items.values()}
            hits += [_hit(match, current[lineage]) for lineage, match in found.items() if lineage in current]
            seen |= found
            if len(matches) < top_k or len(hits) >= wanted:
                return hits, len(matches) == top_k or len(hits) > wanted
            if len(seen) > _MOST_RESULTS:
                raise StoreRequestError(
                    f"more than {_MOST_RESULTS} groups of tiles were searched for {wanted} records: reduce `limit`, or "
                    "narrow the search with `where`"
                )

    def _fetch(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> Flow[dict[str, Item]]:
        found: dict[str, Item] = {}
        for some in parts(ids, FETCH_IDS):
            found |= yield from self._dialect.fetch(some, fields=fields)
        return found

    def _records(self, items: Sequence[Item], *, vectors: bool) -> Flow[list[Record]]:
        if not vectors:
            return [without_vectors(payload_of(item)) for item in items]
        tiles = yield from self._fetch([tile_id for item in items for tile_id in tile_ids(item)])
        records: list[Record] = []
        for item in items:
            record = record_of(item, tiles)
            if record is None:
                raise StoreUnavailableError(
                    f"some tiles of record {item.fields['record_id']!r} are missing: it is being written, or was "
                    "written a moment ago; retry later"
                )
            records.append(record)
        return records

    def _former_tiles(self, entries: Mapping[str, Entry]) -> Flow[dict[str, list[str]]]:
        """The ids of stale tiles, which the new versions replace, by record."""
        items = yield from self._fetch(list(entries), fields=("version", "tile_boxes"))
        return {
            uuid: tile_ids(item)
            for uuid, item in items.items()
            if lineage_of(item) not in {split_id(tile.item_id)[0] for tile in entries[uuid].tiles}
        }

    def _write(
        self, items: Iterable[Item], failed: dict[str, ConnectorError], *, stop: ConnectorError | None
    ) -> Flow[ConnectorError | None]:
        """Write items in batches; errors are stored in `failed`, by record.

        Pinecone accepts or refuses a request as a whole: a batch that is refused for its content is split in two
        halves. After any other error, and after `stop`, the remaining batches are not tried.

        Returns:
            The error that stopped the writing, or `None`.
        """
        todo = list(batches(items))
        _LOG.debug("%d items in %d batches", sum(map(len, todo)), len(todo))
        while todo:
            batch = todo.pop(0)
            if stop is None:
                try:
                    yield from self._write_batch(batch)
                    continue
                except ConnectorError as error:
                    if is_about_items(error) and len(batch) > 1:
                        middle = len(batch) // 2
                        todo[:0] = [batch[:middle], batch[middle:]]
                        _LOG.warning("a batch of %d items was refused and is retried in two halves", len(batch))
                        continue
                    stop = None if is_about_items(error) else error
                    reason = error
            else:
                reason = StoreUnavailableError(f"not tried after the error: {stop}")
            for item in batch:
                failed.setdefault(item.fields["parent"], reason)
        return stop

    def _write_batch(self, batch: Sequence[Item]) -> Flow[None]:
        taken = yield from self._dialect.write(batch)
        if taken != len(batch):
            raise StoreRequestError(f"Pinecone wrote {taken} of {len(batch)} items and does not say which")

    def _delete_former(self, former: Mapping[str, list[str]], failed: dict[str, ConnectorError]) -> Flow[None]:
        doomed = {tile_id: uuid for uuid, ids in former.items() for tile_id in ids}
        for some in parts(list(doomed), DELETE_IDS):
            try:
                yield from self._dialect.delete(some)
            except ConnectorError as error:
                reason = StoreUnavailableError(
                    "it is written, but the tiles of its previous version, which no search finds, could not be "
                    f"deleted: {error}"
                )
                failed |= dict.fromkeys((doomed[tile_id] for tile_id in some), reason)


def _hit(match: Match, item: Item) -> SearchHit:
    return to_hit(payload_of(item), score=match.score, box=box_of(item, split_id(match.item.item_id)[1]))


def _records_where(where: Filter | None, modality: Modality | None) -> Expression:
    check_modality(modality)
    return to_expression(where, {"kind": {"$eq": "record"}}, *_of_modality(modality))


def _of_modality(modality: Modality | None) -> list[Expression]:
    return [] if modality is None else [{"modality": {"$eq": modality}}]


def _uuid(record_id: str) -> str:
    return str(record_uuid(record_id))


def _parent(lineage: str) -> str:
    return lineage.partition("#")[0]
