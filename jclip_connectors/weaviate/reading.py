"""Reading a collection: searches, and objects by id or page by page, in messages that the server can send."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from weaviate.classes.query import Filter as Condition
from weaviate.collections.classes.filters import FilterReturn

from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import FloatArray, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.flows import Flow, Page
from jclip_connectors.store_kit.payload import nearest_box, to_hit, to_record, without_vectors
from jclip_connectors.weaviate.errors import MessageTooLargeError
from jclip_connectors.weaviate.filters import every_record
from jclip_connectors.weaviate.schema import STORED, to_payload_of

MOST_RESULTS = 10_000  # per query: the server's default QUERY_MAXIMUM_RESULTS
_PAGE = 64  # records with their vectors; a few MB with tiles
_PAGE_BRIEF = 512  # records without vectors
_PART = 1000  # limit for a part with about a page of expected records: chance cannot exceed it
_MOST_PARTS = 2**48  # as many as there are positions
_FIRST = UUID(int=0)
_OWN_LIMITS = (10, 1000)  # of a search for a record by its own tiles; the second one if many others equal it
_TOLERANCE = 1e-3  # of a cosine


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """Hybrid search: by keywords and by the vector.

    Attributes:
        text: the keywords, searched with BM25 in the texts of the collection.
        alpha: the weight of the vector in the score, 0..1; the rest is the weight of the keywords.

    Raises:
        EmbedInputError: `text` is empty, or `alpha` is outside 0..1.
    """

    text: str
    alpha: float = 0.5

    def __post_init__(self) -> None:
        """Check the fields."""
        text: object = self.text  # checked here: the annotation is not enforced at run time
        alpha: object = self.alpha
        if not isinstance(text, str) or not text.strip():
            raise EmbedInputError(f"`text` of Hybrid is {text!r}; give the keywords to search for")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
            raise EmbedInputError(f"`alpha` of Hybrid is {alpha!r}; use a number from 0 (keywords) to 1 (vector)")


class Reader:
    """Reads one collection."""

    def __init__(self, name: str, *, max_tiles: int | None) -> None:
        """Name the collection, and the most tiles of a record, `None` without tiles."""
        self._name = name
        self._max_tiles = max_tiles
        self._vectors = ["full"] if max_tiles is None else ["full", "tiles"]

    def search(
        self, query: FloatArray, *, limit: int, filters: FilterReturn | None, tiles: bool, hybrid: Hybrid | None
    ) -> Flow[list[SearchHit]]:
        """Find the nearest records: in one request, or ids first and then the records where those would be too large.

        Args:
            query: (E,) float32.
            limit: the largest number of results.
            filters: the condition, or `None`.
            tiles: compare the nearest tile of each record.
            hybrid: also search by keywords.
        """
        if limit > MOST_RESULTS:
            limit = yield from self._all_of(limit, filters)
        if tiles:
            compared = every_record() if filters is None else filters  # see `_nearest_by_tiles`
            if hybrid is None:
                ranked = yield from self._nearest_by_tiles(query, limit, compared)
            else:
                ranked = yield from self._ask(query, limit, compared, "tiles", hybrid)
        else:
            try:
                found = yield from self._ask(query, limit, filters, "full", hybrid, properties=STORED)
                return _ordered([_hit(each, each.metadata, query, fused=hybrid is not None) for each in found])
            except MessageTooLargeError:
                pass
            ranked = yield from self._ask(query, limit, filters, "full", hybrid)
        scores = {each.uuid: each.metadata for each in ranked}
        objects = yield from self.objects(list(scores), vectors=["tiles"] if tiles else [])
        return _ordered([_hit(each, scores[each.uuid], query, fused=hybrid is not None) for each in objects])

    def finds_tiles(self, record: Record) -> Flow[bool]:
        """Whether a search for all tiles of a stored record finds the record, and each of its tiles.

        The search is without a filter: with one, the server also finds records that its graph lacks.
        """
        rows = record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings
        nearest = (_TOLERANCE - 1.0) * len(rows)  # the distance is minus the sum of the cosines
        identity = record_uuid(record.record_id)
        for limit in _OWN_LIMITS:
            for found in (yield from self._ask(rows, limit, None, "tiles", None)):
                if found.uuid == identity:
                    return bool(found.metadata.distance <= nearest)
        return False

    def count(self, filters: FilterReturn | None) -> Flow[int]:
        """Count the matching records."""
        answer = yield lambda client: self._in(client).aggregate.over_all(filters=filters, total_count=True)
        total: int = answer.total_count
        return total

    def records(self, identities: Sequence[UUID], *, vectors: bool) -> Flow[list[Record]]:
        """Records by the ids of their objects, in any order; unknown ids are left out."""
        objects = yield from self.objects(identities, vectors=self._vectors if vectors else [])
        return [_record(found) for found in objects]

    def objects(self, identities: Sequence[UUID], *, vectors: Sequence[str]) -> Flow[list[Any]]:
        """Objects by id, in any order; unknown ids are left out. A message that is too large is halved."""
        found: list[Any] = []
        size, start = _PAGE if vectors else MOST_RESULTS, 0
        while start < len(identities):
            some = list(identities[start : start + size])
            try:
                chosen = Condition.by_id().contains_any(some)
                found += yield from self._fetch(vectors=vectors, properties=STORED, filters=chosen, limit=len(some))
            except MessageTooLargeError:
                if len(some) == 1:
                    raise
                size = len(some) // 2
            else:
                start += size
        return found

    def page(self, start: Any, filters: FilterReturn | None, *, vectors: bool) -> Flow[Page[Record]]:  # noqa: ANN401 (where a page begins)
        """The page of matching records that begins at `start`; see `_page`."""
        wanted = {"vectors": self._vectors if vectors else [], "properties": STORED}
        found, following = yield from self._page(start, filters, size=_PAGE if vectors else _PAGE_BRIEF, **wanted)
        return [_record(each) for each in found], following

    def page_of_ids(self, start: Any, filters: FilterReturn | None) -> Flow[Page[str]]:  # noqa: ANN401 (where a page begins)
        """The page of the ids of matching records that begins at `start`; see `_page`."""
        wanted: dict[str, Sequence[str]] = {"vectors": [], "properties": ["record_id"]}
        found, following = yield from self._page(start, filters, size=_PAGE_BRIEF, **wanted)
        return [each.properties["record_id"] for each in found], following

    def _page(
        self,
        start: Any,  # noqa: ANN401 (where a page begins)
        filters: FilterReturn | None,
        *,
        size: int,
        **wanted: Sequence[str],
    ) -> Flow[Page[Any]]:
        """The page of matching objects that begins at `start`, which is `None` for the first one.

        The server has no cursor for filtered records, so they are read in parts: each part has the records whose
        `position` is in one range. Concurrent writes and deletes do not move a record to another part. A page that is
        too large for a message is halved, and so are the pages after it.
        """
        if filters is None:
            after, size = (_FIRST, size) if start is None else start
            return (yield from self._page_after(after, size, **wanted))
        if start is None:
            total = yield from self.count(filters)
            start = 0, max(1, -(-total // size))
        part, parts = start
        return (yield from self._part(part, parts, filters, **wanted))

    def _page_after(self, identity: UUID, size: int, **wanted: Sequence[str]) -> Flow[Page[Any]]:
        while True:
            try:
                found = yield from self._fetch(after=identity, limit=size, **wanted)
            except MessageTooLargeError:
                if size == 1:
                    raise
                size //= 2
            else:
                return found, (found[-1].uuid, size) if found else None

    def _part(self, part: int, parts: int, filters: FilterReturn, **wanted: Sequence[str]) -> Flow[Page[Any]]:
        position = Condition.by_property("position")
        while True:
            here = [position.greater_or_equal(part / parts), position.less_than((part + 1) / parts)]
            try:
                found = yield from self._fetch(filters=Condition.all_of([filters, *here]), limit=_PART, **wanted)
            except MessageTooLargeError:
                if parts > _MOST_PARTS:
                    raise
                part, parts = 2 * part, 2 * parts
                continue
            if len(found) == _PART:
                raise StoreRequestError(f"{self._name!r} has grown too fast while it was read: read it again")
            return found, (part + 1, parts) if part + 1 < parts else None

    def _nearest_by_tiles(self, query: FloatArray, limit: int, filters: FilterReturn) -> Flow[list[Any]]:
        """The `limit` records whose nearest tiles are nearest, without their properties.

        With a filter that fewer than 40,000 records meet, the server compares all of these records. Otherwise it looks
        for the nearest tiles, as many as the limit, and returns the records that have them: fewer than the limit where
        a record has several near tiles. The first n records are right, however many they are; so while some are
        missing, ask for more tiles.
        """
        asked, total = min(limit, MOST_RESULTS), None
        while True:
            ranked = yield from self._ask(query, asked, filters, "tiles", None)
            if len(ranked) >= limit or asked == MOST_RESULTS:
                return ranked[:limit]
            if total is None:
                total = yield from self.count(filters)
            if len(ranked) >= total:
                return ranked
            more = limit * (1 + (self._max_tiles or 0)) if asked == limit else 4 * asked  # 1 for the overview
            asked = min(more, MOST_RESULTS)

    def _ask(
        self,
        query: FloatArray,
        limit: int,
        filters: FilterReturn | None,
        target: str,
        hybrid: Hybrid | None,
        *,
        properties: Sequence[str] = (),
    ) -> Flow[list[Any]]:
        """One search, best results first; without `properties` the results have ids and scores alone."""
        vector: Any = (np.atleast_2d(query) if target == "tiles" else query).tolist()
        arguments: dict[str, Any] = {
            "limit": limit,
            "filters": filters,
            "target_vector": target,
            "return_properties": list(properties),
            "return_metadata": ["distance", "score"],
        }
        if hybrid is None:
            answer = yield lambda client: self._in(client).query.near_vector(near_vector=vector, **arguments)
        else:
            answer = yield lambda client: self._in(client).query.hybrid(
                query=hybrid.text, alpha=float(hybrid.alpha), query_properties=["content"], vector=vector, **arguments
            )
        found: list[Any] = answer.objects
        return found

    def _all_of(self, limit: int, filters: FilterReturn | None) -> Flow[int]:
        """Replace a limit above the server's maximum by the number of matching records."""
        total = yield from self.count(filters)
        if total > MOST_RESULTS:
            raise EmbedInputError(f"`limit` is {limit!r}: Weaviate returns at most {MOST_RESULTS} results")
        return max(1, total)

    def _fetch(self, *, vectors: Sequence[str], properties: Sequence[str], **what: Any) -> Flow[list[Any]]:  # noqa: ANN401 (arguments of the SDK)
        answer = yield lambda client: self._in(client).query.fetch_objects(
            include_vector=list(vectors), return_properties=list(properties), **what
        )
        found: list[Any] = answer.objects
        return found

    def _in(self, client: Any) -> Any:  # noqa: ANN401 (blocking or asyncio)
        return client.collections.use(self._name)


def _record(found: Any) -> Record:  # noqa: ANN401 (one of several SDK classes)
    payload = to_payload_of(found.properties)
    if "full" not in found.vector:
        return without_vectors(payload)
    return to_record(payload, embedding=found.vector["full"], tile_embeddings=found.vector.get("tiles"))


def _hit(found: Any, ranked: Any, query: FloatArray, *, fused: bool) -> SearchHit:  # noqa: ANN401 (one of several SDK classes)
    payload = to_payload_of(found.properties)
    if "tiles" not in found.vector:
        return to_hit(payload, score=ranked.score if fused else 1.0 - ranked.distance, box=None)
    vectors = np.asarray(found.vector["tiles"], dtype=np.float32)  # (T, E)
    score = ranked.score if fused else float((vectors @ query).max())
    return to_hit(payload, score=score, box=nearest_box(payload, tile_embeddings=vectors, query=query))


def _ordered(hits: list[SearchHit]) -> list[SearchHit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))
