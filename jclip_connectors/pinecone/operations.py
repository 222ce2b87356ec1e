"""The operations of a collection in Pinecone, on an index of either kind; see `jclip_connectors.store_kit.flows`."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.pinecone.dialects import DELETE_IDS, FETCH_IDS, Dialect, Match
from jclip_connectors.pinecone.errors import is_about_items, translate
from jclip_connectors.pinecone.filters import Expression, none_of, to_expression
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
from jclip_connectors.store_kit.failures import partial
from jclip_connectors.store_kit.flows import Flow, Page
from jclip_connectors.store_kit.payload import to_hit
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_ids,
    check_modality,
    check_records,
    check_tiles,
)

_LOG = logging.getLogger(__package__)
_MOST_RESULTS = 10_000  # of one search, and values of one $nin
_WITH_FIELDS = 64  # results whose fields, of 40 KB at most, fit the 4 MB of one answer
_TILES_EACH = 10  # matches to ask for, for each record that is wanted
_FEWEST_MATCHES = 100
_OF_HITS = ("record_id", "modality", "content", "uri", "content_hash", "metadata", "tile_boxes", "version")


class PineconeFlows:
    """The operations of one namespace; see `StoreFlows`."""

    attempts = 1  # the SDK itself tries again

    def __init__(self, dialect: Dialect, fingerprint: Fingerprint, *, dimensions: int, tiled: bool) -> None:
        """Take a namespace that has its fingerprint."""
        self._dialect = dialect
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._tiled = tiled

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Our error for one of the SDK's."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write records: first their tiles, which count from the moment that the record itself is written.

        So what is stopped in between leaves the former record whole; tiles that are no record's are never found.
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
                f"`limit` is {limit}, and {_MOST_RESULTS} records match, or more: Pinecone gives no more at once; "
                "narrow the search with `where`"
            )
        return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))[:wanted]

    def get(self, ids: Sequence[str]) -> Flow[list[Record]]:
        """Fetch the records that exist, in the order of `ids`."""
        wanted = check_ids(ids)
        items = yield from self._fetch([_uuid(record_id) for record_id in dict.fromkeys(wanted)])
        records = yield from self._records(list(items.values()))
        found = {record.record_id: record for record in records}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete by ids or by filter; what is stopped in between leaves tiles that are no record's."""
        check_delete(ids, where)
        if ids is None:
            yield from self._dialect.delete_where(to_expression(where, {"kind": {"$in": ["record", "tile"]}}))
            return
        uuids = [_uuid(record_id) for record_id in dict.fromkeys(check_ids(ids))]
        for some in _parts(uuids, DELETE_IDS):
            yield from self._dialect.delete(some)
            if self._tiled:
                tiles: Expression = {"kind": {"$eq": "tile"}}
                yield from self._dialect.delete_where(to_expression(None, tiles, {"parent": {"$in": some}}))

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the records that match: Pinecone counts nothing by filter, so their names are read, page by page."""
        expression = _records_where(where, modality)
        total, token = yield from self._dialect.page_size(expression, token=None)
        while token is not None:
            size, token = yield from self._dialect.page_size(expression, token=token)
            total += size
        return total

    def page(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page]:  # noqa: ANN401 (a token of Pinecone's)
        """Some of the records that match."""
        items, token = yield from self._dialect.page(_records_where(where, modality), token=start)
        records = yield from self._records(items)
        return records, token

    def _nearest(
        self, vector: list[float], wanted: int, where: Filter | None, modality: Modality | None
    ) -> Flow[tuple[list[SearchHit], bool]]:
        """The hits, and whether there may be more."""
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
        """The hits by their nearest tiles, and whether there may be more.

        The first match of a lineage is its nearest tile. What has been found is excluded, and the rest searched again,
        until there are enough records.
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
                    f"more than {_MOST_RESULTS} groups of tiles were searched for {wanted} records: ask for fewer, or "
                    "narrow the search with `where`"
                )

    def _fetch(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> Flow[dict[str, Item]]:
        found: dict[str, Item] = {}
        for some in _parts(ids, FETCH_IDS):
            found |= yield from self._dialect.fetch(some, fields=fields)
        return found

    def _records(self, items: Sequence[Item]) -> Flow[list[Record]]:
        tiles = yield from self._fetch([tile_id for item in items for tile_id in tile_ids(item)])
        records: list[Record] = []
        for item in items:
            record = record_of(item, tiles)
            if record is None:
                raise StoreUnavailableError(
                    f"the tiles of record {item.fields['record_id']!r} are not all there: it is being written, or was "
                    "a moment ago; try again"
                )
            records.append(record)
        return records

    def _former_tiles(self, entries: Mapping[str, Entry]) -> Flow[dict[str, list[str]]]:
        """The tiles that the new versions leave behind, by record."""
        items = yield from self._fetch(list(entries), fields=("version", "tile_boxes"))
        return {
            uuid: tile_ids(item)
            for uuid, item in items.items()
            if lineage_of(item) not in {split_id(tile.item_id)[0] for tile in entries[uuid].tiles}
        }

    def _write(
        self, items: Iterable[Item], failed: dict[str, ConnectorError], *, stop: ConnectorError | None
    ) -> Flow[ConnectorError | None]:
        """Write items, batch by batch; what fails goes to `failed`, by record.

        A request is taken or refused as a whole: one that is refused for what is in it is sent again in halves. After
        any other error, and after `stop`, the rest is not tried.

        Returns:
            The error that has ended it.
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
                        _LOG.warning("a batch of %d items is refused and is sent again in halves", len(batch))
                        continue
                    stop = None if is_about_items(error) else error
                    reason = error
            else:
                reason = StoreUnavailableError(f"not tried after: {stop}")
            for item in batch:
                failed.setdefault(item.fields["parent"], reason)
        return stop

    def _write_batch(self, batch: Sequence[Item]) -> Flow[None]:
        taken = yield from self._dialect.write(batch)
        if taken != len(batch):
            raise StoreRequestError(f"Pinecone has taken {taken} of {len(batch)} items and does not say which")

    def _delete_former(self, former: Mapping[str, list[str]], failed: dict[str, ConnectorError]) -> Flow[None]:
        doomed = {tile_id: uuid for uuid, ids in former.items() for tile_id in ids}
        for some in _parts(list(doomed), DELETE_IDS):
            try:
                yield from self._dialect.delete(some)
            except ConnectorError as error:
                reason = StoreUnavailableError(
                    "it is written, but tiles of its former version, which no search finds, could not be deleted: "
                    f"{error}"
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


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])
