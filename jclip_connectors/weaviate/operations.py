"""The operations of the port on a Weaviate collection, as flows for the blocking and the asyncio client."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from weaviate.classes.config import Property
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter as Condition
from weaviate.collections.classes.filters import FilterReturn

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, EmbedInputError, StoreRequestError
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
from jclip_connectors.weaviate.errors import AllRefusedError, translate
from jclip_connectors.weaviate.filters import condition, every_record, parse
from jclip_connectors.weaviate.reading import Hybrid, Reader
from jclip_connectors.weaviate.schema import number_names, number_properties, size_bytes, to_object

_LOG = logging.getLogger(__package__)
ATTEMPTS = 3
_BATCH, _BATCH_BYTES = 200, 16 * 2**20  # `insert_many` sends all its objects in one message
_MESSAGE_BYTES = 100_000_000  # the server's default is 104,858,000
_DELETE_BATCH = 1000


class WeaviateFlows:
    """The operations of one collection; see `StoreFlows`."""

    attempts = ATTEMPTS

    def __init__(
        self,
        name: str,
        fingerprint: Fingerprint,
        *,
        dimensions: int,
        max_tiles: int | None,
        properties: Collection[str],
    ) -> None:
        """Use an existing collection, with the names of its properties."""
        self._name = name
        self._fingerprint = fingerprint
        self._dimensions = dimensions
        self._tiled = max_tiles is not None
        self._properties = set(properties)
        self._reader = Reader(name, max_tiles=max_tiles)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of weaviate-client."""
        return translate(error)

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """Write records in batches; if some are refused, the other records are written."""
        checked = check_records(records, dimensions=self._dimensions, tiled=self._tiled)
        objects = [to_object(record, tiled=self._tiled) for record in checked]
        for record, thing in zip(checked, objects, strict=True):
            if size_bytes(thing) > _MESSAGE_BYTES:
                raise EmbedInputError(
                    f"the record {record.record_id!r} has {size_bytes(thing)} bytes; "
                    f"Weaviate accepts messages of {_MESSAGE_BYTES}: use fewer tiles, or less text or metadata"
                )
        yield from self._add_properties({field for record in checked for field in numbers(record.metadata)})
        failed: dict[str, ConnectorError] = {}
        batches = list(split(objects, size_bytes=size_bytes, most_items=_BATCH, most_bytes=_BATCH_BYTES))
        _LOG.debug("%r: %d records in %d batches", self._name, len(checked), len(batches))
        end = 0
        for batch in batches:
            start, end = end, end + len(batch)
            names = [record.record_id for record in checked[start:end]]
            try:
                refused = yield from self._insert(batch)
                failed |= {names[i]: StoreRequestError(f"Weaviate refused it: {why}") for i, why in refused.items()}
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
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        wanted = check_ids(ids)
        unique = [record_uuid(record_id) for record_id in dict.fromkeys(wanted)]
        found = {record.record_id: record for record in (yield from self._reader.records(unique, vectors=vectors))}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """Delete records by ids or by filter."""
        check_delete(ids, where)
        if ids is None:
            filters = yield from self._condition(where, None)
            while (yield from self._delete(every_record() if filters is None else filters)):
                pass  # one call deletes at most 10,000
            return
        doomed = [record_uuid(record_id) for record_id in dict.fromkeys(check_ids(ids))]
        for start in range(0, len(doomed), _DELETE_BATCH):
            yield from self._delete(Condition.by_id().contains_any(doomed[start : start + _DELETE_BATCH]))

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

    def _condition(self, where: Filter | None, modality: Modality | None) -> Flow[FilterReturn | None]:
        parsed = parse(where)
        check_modality(modality)
        compared = set() if isinstance(parsed, NativeFilter) else compared_fields(parsed)
        if not self._has(compared):
            yield from self._reload()  # another process may have added the properties
        return condition(parsed, modality, properties=self._properties)

    def _insert(self, objects: list[DataObject[Any, None]]) -> Flow[dict[int, str]]:
        """Write objects; returns the reason for each refused object, by position."""
        answer = yield lambda client: self._in(client).data.insert_many(objects)
        return {position: error.message for position, error in answer.errors.items()}

    def _delete(self, filters: FilterReturn) -> Flow[bool]:
        """Delete matching records, up to the limit of one call; returns whether any was deleted."""
        answer = yield lambda client: self._in(client).data.delete_many(where=filters)
        if answer.failed:
            raise StoreRequestError(f"Weaviate could not delete {answer.failed} of {answer.matches} records: try again")
        return bool(answer.successful)

    def _add_properties(self, fields: set[str]) -> Flow[None]:
        """Add the properties for the numbers of these fields; existing properties are kept."""
        if self._has(fields):
            return
        yield from self._reload()
        for field in sorted(fields):
            for wanted in number_properties(field):
                if wanted.name in self._properties:
                    continue
                try:
                    yield from self._add_property(wanted)
                except StoreRequestError:
                    yield from self._reload()  # another process may have made it in the meantime
                    if wanted.name not in self._properties:
                        raise
                self._properties.add(wanted.name)
                _LOG.debug("%r: made the property %s and its index", self._name, wanted.name)

    def _add_property(self, wanted: Property) -> Flow[None]:
        yield lambda client: self._in(client).config.add_property(wanted)

    def _has(self, fields: Collection[str]) -> bool:
        return all(self._properties.issuperset(number_names(field)) for field in fields)

    def _reload(self) -> Flow[None]:
        definition = yield lambda client: self._in(client).config.get(simple=True)
        self._properties.update(known.name for known in definition.properties)

    def _in(self, client: Any) -> Any:  # noqa: ANN401 (blocking or asyncio)
        return client.collections.use(self._name)
