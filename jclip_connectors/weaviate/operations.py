"""The operations of the port on a Weaviate collection, as flows for the blocking and the asyncio client."""

import logging
from collections.abc import Sequence
from typing import Any

from weaviate.collections.classes.filters import FilterReturn

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.filters import compared_fields, numbers
from jclip_connectors.port import Filter, FloatArray, Modality, NativeFilter, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.batches import split
from jclip_connectors.store_kit.failures import partial
from jclip_connectors.store_kit.flows import Flow, Page, one_search
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
from jclip_connectors.store_kit.verification import unfound_by_embedding, write_again
from jclip_connectors.weaviate.definition import Definition
from jclip_connectors.weaviate.errors import AllRefusedError, refusal, translate
from jclip_connectors.weaviate.filters import condition, every_record, parse
from jclip_connectors.weaviate.reading import Hybrid, Reader
from jclip_connectors.weaviate.schema import size_bytes, to_object
from jclip_connectors.weaviate.writing import Writer

_LOG = logging.getLogger(__package__)
ATTEMPTS = 3
_BATCH, _BATCH_BYTES = 200, 16 * 2**20  # `insert_many` sends all its objects in one message
_MESSAGE_BYTES = 100_000_000  # the server's default is 104,858,000
_VERIFIED = 64  # records at a time


class WeaviateFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = ATTEMPTS

    def __init__(self, definition: Definition, *, max_tiles: int | None) -> None:
        """Use an existing collection."""
        self._name = definition.name
        self._definition = definition
        self._dimensions = definition.layout.dimensions
        self._tiled = max_tiles is not None
        self._reader = Reader(definition.name, max_tiles=max_tiles)
        self._writer = Writer(definition.name)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._definition.layout.fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of weaviate-client."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write records in batches; if some are refused, the other records are written.

        A record whose write has failed is deleted first. After an outage of the server, the records that were written
        shortly before are verified.
        """
        checked = check_records(records, dimensions=self._dimensions, tiled=self._tiled)
        objects = [to_object(record, tiled=self._tiled) for record in checked]
        for record, thing in zip(checked, objects, strict=True):
            if size_bytes(thing) > _MESSAGE_BYTES:
                raise EmbedInputError(
                    f"the record {record.record_id!r} has {size_bytes(thing)} bytes; "
                    f"Weaviate accepts messages of {_MESSAGE_BYTES}: use fewer tiles, or less text or metadata"
                )
        if not checked:
            return
        yield from self._definition.check()
        yield from self._definition.add_numbers({field for record in checked for field in numbers(record.metadata)})
        failed_before = [record.record_id for record in checked if record.record_id in self._writer.failed]
        yield from self._writer.delete_ids(failed_before)
        failed: dict[str, ConnectorError] = {}
        batches = list(split(objects, size_bytes=size_bytes, most_items=_BATCH, most_bytes=_BATCH_BYTES))
        _LOG.debug("%r: %d records in %d batches", self._name, len(checked), len(batches))
        end = 0
        for batch in batches:
            start, end = end, end + len(batch)
            names = [record.record_id for record in checked[start:end]]
            try:
                yield from self._definition.check_if_old()
                refused = yield from self._writer.insert(batch, names)
                failed |= {names[i]: refusal(why) for i, why in refused.items()}
            except AllRefusedError as error:
                failed |= dict.fromkeys(names, error)
            except ConnectorError as error:
                if not start:
                    raise  # so that the whole call is retried or fails
                failed |= dict.fromkeys(names, error)
                untried = type(error)(f"not tried, because the previous batch failed: {error}")
                failed |= {record.record_id: untried for record in checked[end:]}
                break
        if failed:
            raise partial(records, failed)
        yield from self._verify_doubtful()

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int,
        where: Filter | None,
        modality: Modality | None,
        tiles: bool,
        hybrid: Hybrid | None = None,
    ) -> Flow[list[SearchHit]]:
        """Find the nearest records; with `hybrid` also by keywords."""
        query = check_embedding(embedding, dimensions=self._dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        if hybrid is not None and not isinstance(hybrid, Hybrid):
            raise EmbedInputError(f"`hybrid` is {type(hybrid).__name__}; use a `Hybrid`, or None")
        filters = yield from self._condition(where, modality)
        return (yield from self._reader.search(query, limit=limit, filters=filters, tiles=bool(tiles), hybrid=hybrid))

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """Search for many vectors, with one request or more for each."""
        queries = check_embeddings(embeddings, dimensions=self._dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        check_modality(modality)
        parse(where)
        return [
            one_search(self.search(query, limit=limit, where=where, modality=modality, tiles=tiles))
            for query in queries
        ]

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`; without unknown ids and those whose write has failed."""
        wanted = [record_id for record_id in check_ids(ids) if record_id not in self._writer.failed]
        unique = [record_uuid(record_id) for record_id in dict.fromkeys(wanted)]
        found = {record.record_id: record for record in (yield from self._reader.records(unique, vectors=vectors))}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete records by ids or by filter."""
        check_delete(ids, where)
        if ids is None:
            filters = yield from self._condition(where, None)
            yield from self._definition.check()
            while (yield from self._writer.delete(every_record() if filters is None else filters)):
                pass  # one call deletes at most 10,000
            return
        doomed = list(dict.fromkeys(check_ids(ids)))
        if doomed:
            yield from self._definition.check()
            yield from self._writer.delete_ids(doomed)

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """Count the matching records."""
        filters = yield from self._condition(where, modality)
        return (yield from self._reader.count(filters))

    def page(
        self,
        start: Any,  # noqa: ANN401 (a UUID, or a part and the number of parts)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """One page of the matching records; see `Reader.page`."""
        filters = yield from self._condition(where, modality)
        return (yield from self._reader.page(start, filters, vectors=vectors))

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (a UUID, or a part and the number of parts)
        """One page of the ids of the matching records; see `Reader.page`."""
        filters = yield from self._condition(where, modality)
        return (yield from self._reader.page_of_ids(start, filters))

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""
        lost = {record.record_id: record for record in (yield from unfound_by_embedding(self, records))}
        if self._tiled:
            for record in records:
                if record.record_id not in lost and not (yield from self._reader.finds_tiles(record)):
                    lost[record.record_id] = record
        return list(lost.values())

    def _verify_doubtful(self) -> Flow[None]:
        doubtful = self._writer.take_doubtful()
        try:
            for start in range(0, len(doubtful), _VERIFIED):
                ids = [record_uuid(record_id) for record_id in doubtful[start : start + _VERIFIED]]
                lost = yield from self.unfound((yield from self._reader.records(ids, vectors=True)))
                if lost:
                    yield from write_again(self, lost)
                    _LOG.warning(
                        "%r: %d records were lost from the vector index, and are written again", self._name, len(lost)
                    )
        except ConnectorError:
            self._writer.put_back_doubtful(doubtful)
            raise

    def _condition(self, where: Filter | None, modality: Modality | None) -> Flow[FilterReturn | None]:
        parsed = parse(where)
        check_modality(modality)
        yield from self._definition.know(set() if isinstance(parsed, NativeFilter) else compared_fields(parsed))
        return condition(parsed, modality, properties=self._definition.properties)
