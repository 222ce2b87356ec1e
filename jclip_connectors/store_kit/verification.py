"""Whether a search finds the records that a store keeps, and writing again those that it does not find."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, VectorStore, Verification

if TYPE_CHECKING:
    from jclip_connectors.store_kit.flows import Flow, Page  # which imports this module

_LIMITS = (10, 1000)  # the second one for a record that many others equal
_TOLERANCE = 1e-3  # of a cosine: stores may round vectors
_ROUNDS = 3  # of deleting and writing: an index that is damaged can lose a record once more
_PAGE = 64
_NAMED = 10


class TilesMissingError(StoreUnavailableError):
    """Records cannot be read whole, as vectors of their tiles are missing.

    Attributes:
        record_ids: the ids of all such records of the call, or of some.
    """

    def __init__(self, record_ids: Sequence[str]) -> None:
        """Name the records."""
        names = ", ".join(map(repr, record_ids[:_NAMED]))
        more = f" and {len(record_ids) - _NAMED} more" if len(record_ids) > _NAMED else ""
        super().__init__(
            f"some tiles of these records are missing: {names}{more}; they are being written, or a write was lost: if "
            "this remains, add them again"
        )
        self.record_ids = tuple(record_ids)


class Verifiable(Protocol):
    """The part of `StoreFlows` that a verification needs."""

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> "Flow[list[SearchHit]]":
        """See `VectorStore.search`."""

    def get(self, ids: Sequence[str], *, vectors: bool) -> "Flow[list[Record]]":
        """See `VectorStore.get`."""

    def upsert(self, records: Sequence[Record]) -> "Flow[None]":
        """See `VectorStore.upsert`."""

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> "Flow[None]":
        """See `VectorStore.delete`."""

    def count(self, *, where: Filter | None, modality: Modality | None) -> "Flow[int]":
        """See `VectorStore.count`."""

    def page(
        self,
        start: Any,  # noqa: ANN401 (the type depends on the SDK)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> "Flow[Page[Record]]":
        """See `StoreFlows.page`."""

    def unfound(self, records: Sequence[Record]) -> "Flow[list[Record]]":
        """See `StoreFlows.unfound`."""


def verify(flows: Verifiable, *, repair: bool) -> "Flow[Verification]":
    """Search for each record by its own vectors; see `VectorStore.verify`."""
    counted = yield from flows.count(where=None, modality=None)
    found, missing, repaired, start = 0, list[str](), list[str](), None
    while True:
        records, torn, start = yield from _whole(flows, start)
        lost = yield from flows.unfound(records)
        found += len(records) - len(lost)
        missing += torn
        missing += [record.record_id for record in lost]
        if repair and lost:
            remaining = yield from write_again(flows, lost)
            repaired += [record.record_id for record in lost if record.record_id not in remaining]
        if start is None:
            return Verification(counted=counted, found=found, missing=tuple(missing), repaired=tuple(repaired))


def _whole(flows: Verifiable, start: Any) -> "Flow[tuple[list[Record], list[str], Any]]":  # noqa: ANN401 (the type depends on the SDK)
    """The records of one page, the ids of those that cannot be read whole, and the start of the next page."""
    try:
        records, following = yield from flows.page(start, where=None, modality=None, vectors=True)
    except TilesMissingError:
        records, following = yield from flows.page(start, where=None, modality=None, vectors=False)
    else:
        return records, [], following
    ids, torn = [record.record_id for record in records], list[str]()
    while True:
        try:
            return (yield from flows.get(ids, vectors=True)), torn, following
        except TilesMissingError as error:
            torn += error.record_ids
            ids = [record_id for record_id in ids if record_id not in error.record_ids]


def unfound(flows: Verifiable, records: Sequence[Record]) -> "Flow[list[Record]]":
    """The records that a search for their embedding, or for their first tile, does not find."""
    lost = yield from unfound_by_embedding(flows, records)
    for record in records:
        if record in lost or record.tile_embeddings is None:
            continue
        if not (yield from _finds(flows, record, record.tile_embeddings[0], tiles=True)):
            lost.append(record)
    return lost


def unfound_by_embedding(flows: Verifiable, records: Sequence[Record]) -> "Flow[list[Record]]":
    """The records that a search for their embedding does not find."""
    found = set()
    for record in records:
        if (yield from _finds(flows, record, record.embedding, tiles=False)):
            found.add(record.record_id)
    return [record for record in records if record.record_id not in found]


def write_again(flows: Verifiable, lost: Sequence[Record]) -> "Flow[set[str]]":
    """Delete records and write them; returns the ids of the records that a search does not find even then."""
    for _ in range(_ROUNDS):
        ids = [record.record_id for record in lost]
        yield from flows.delete(ids, where=None)
        try:
            yield from flows.upsert(lost)
        except ConnectorError as error:
            kind = StoreUnavailableError if isinstance(error, StoreUnavailableError) else StoreRequestError
            raise kind(f"the records {ids} were deleted and could not be written again: add them. {error}") from error
        lost = yield from flows.unfound(lost)
        if not lost:
            break
    return {record.record_id for record in lost}


def verify_in_process(store: VectorStore, *, repair: bool) -> Verification:
    """The verification of a store that has no flows."""
    flow, answer = verify(_Direct(), repair=repair), None
    while True:
        try:
            call = flow.send(answer)
        except StopIteration as done:
            result: Verification = done.value
            return result
        answer = call(store)


def _finds(flows: Verifiable, record: Record, vector: FloatArray, *, tiles: bool) -> "Flow[bool]":
    for limit in _LIMITS:
        hits = yield from flows.search(vector, limit=limit, where=None, modality=None, tiles=tiles)
        if any(hit.record_id == record.record_id for hit in hits):
            return True
        if len(hits) < limit or hits[-1].score < 1.0 - _TOLERANCE:
            return False
    return True  # so many others are equal to it that nobody can tell


class _Direct:
    """A store as the client of flows."""

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> "Flow[list[SearchHit]]":
        options: dict[str, Any] = {"limit": limit, "where": where, "modality": modality, "tiles": tiles}
        hits: list[SearchHit] = yield lambda store: store.search(embedding, **options)
        return hits

    def get(self, ids: Sequence[str], *, vectors: bool) -> "Flow[list[Record]]":
        records: list[Record] = yield lambda store: store.get(ids, vectors=vectors)
        return records

    def upsert(self, records: Sequence[Record]) -> "Flow[None]":
        yield lambda store: store.upsert(records)

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> "Flow[None]":
        yield lambda store: store.delete(ids, where=where)

    def count(self, *, where: Filter | None, modality: Modality | None) -> "Flow[int]":
        counted: int = yield lambda store: store.count(where=where, modality=modality)
        return counted

    def page(
        self,
        start: Any,  # noqa: ANN401 (the ids that are left)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> "Flow[Page[Record]]":
        ids = start
        if ids is None:
            ids = yield lambda store: list(store.ids(where=where, modality=modality))
        records = yield from self.get(ids[:_PAGE], vectors=vectors)
        return records, ids[_PAGE:] or None

    def unfound(self, records: Sequence[Record]) -> "Flow[list[Record]]":
        return (yield from unfound(self, records))
