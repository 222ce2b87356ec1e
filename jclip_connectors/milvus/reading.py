"""Searches, and reading rows by their keys.

A search of Milvus returns the nearest rows, in no order among equal ones, and at most 16,384 of them. Tiles are rows of
their own: a search for tiles asks for more of them than records are wanted, and again without the records that it has
found, until there are enough.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.milvus.clients import Calls
from jclip_connectors.milvus.errors import is_not_loaded
from jclip_connectors.milvus.filters import EVERYTHING, one_of
from jclip_connectors.milvus.requests import Row, box_of, payload_of
from jclip_connectors.milvus.schema import MOST_RESULTS, name_of_tiles
from jclip_connectors.port import FloatArray, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.payload import to_hit

OF_HITS = ("record_id", "modality", "payload", "lineage")
_ROWS_READ = 256  # whole rows in an answer: some MB
_FEW = 1000  # results, for which the records are not counted first
_BESIDE = 8  # rows more than wanted, among which equal ones end
_GROWTH = 4
_TILES_EACH = 8
_MORE_ROUNDS = 2  # after the last one, for records that were replaced meanwhile


@dataclass(frozen=True, kw_only=True)
class Place:
    """A collection in Milvus.

    Attributes:
        given: the name of the collection of records, or an alias that stood for it when it was opened.
        name: the name itself.
        dimensions: E.
        tiled: whether there is a collection of tiles.
        calls: makes calls of the client.
        search_params: for the index.
    """

    given: str
    name: str
    dimensions: int
    tiled: bool
    calls: Calls
    search_params: Mapping[str, Any]

    @property
    def tiles(self) -> str:
        """The name of the collection of tiles."""
        return name_of_tiles(self.name)


def ask(place: Place, method: str, collection: str, **arguments: Any) -> Flow[Any]:  # noqa: ANN401 (an SDK result)
    """Make a call that reads; a collection that has been put out of memory is loaded first."""
    try:
        return (yield place.calls(method, collection, **arguments))
    except StoreRequestError as error:
        if not is_not_loaded(error):
            raise
    yield place.calls("load_collection", collection)
    return (yield place.calls(method, collection, **arguments))


def fetch(place: Place, collection: str, keys: Sequence[str], fields: Sequence[str]) -> Flow[dict[str, Row]]:
    """Read rows by key, in parts; keys without a row are left out."""
    found: dict[str, Row] = {}
    for start in range(0, len(keys), _ROWS_READ):
        some = list(keys[start : start + _ROWS_READ])
        rows = yield from ask(place, "query", collection, filter=one_of("pk", some), output_fields=list(fields))
        found |= {row["pk"]: row for row in rows}
    return found


def count(place: Place, expression: str) -> Flow[int]:
    """Count the matching records."""
    where = "" if expression == EVERYTHING else expression
    rows = yield from ask(place, "query", place.name, filter=where, output_fields=["count(*)"])
    return int(rows[0]["count(*)"])


def wanted_results(place: Place, expression: str, limit: int) -> Flow[int]:
    """How many results a search for `limit` records can have.

    Raises:
        StoreRequestError: there are more than Milvus can return.
    """
    if limit <= _FEW:
        return limit
    matching = yield from count(place, expression)
    if min(limit, matching) > MOST_RESULTS:
        raise StoreRequestError(
            f"`limit` is {limit} and {matching} records match, but a search of Milvus returns at most {MOST_RESULTS}: "
            "narrow it with `where`"
        )
    return min(limit, max(matching, 1))


def nearest(place: Place, queries: Sequence[FloatArray], expression: str, wanted: int) -> Flow[list[list[SearchHit]]]:
    """The nearest records for each query, in one request if no results are equal where they are cut."""
    most = min(wanted + _BESIDE, MOST_RESULTS)
    answers = yield from _search(place, place.name, queries, expression, most, fields=_fields(most))
    found: list[list[SearchHit]] = []
    for query, answer in zip(queries, answers, strict=True):
        matches, asked = answer, most
        while _is_cut(matches, wanted, asked):
            asked = min(asked * _GROWTH, MOST_RESULTS)
            (matches,) = yield from _search(place, place.name, [query], expression, asked, fields=_fields(asked))
        best = {match["pk"]: match for match in reversed(matches)}
        rows = {key: match["entity"] for key, match in best.items()}
        if not _fields(asked):
            rows = yield from fetch(place, place.name, list(best), OF_HITS)
        hits = [to_hit(payload_of(row), score=float(best[key]["distance"]), box=None) for key, row in rows.items()]
        found.append(_first(hits, wanted))
    return found


def nearest_by_tiles(place: Place, query: FloatArray, expression: str, wanted: int) -> Flow[list[SearchHit]]:
    """The records whose nearest tiles are nearest.

    The first match of a lineage is its nearest tile. A lineage that is no record's is left out: it belongs to a version
    that was replaced, or is being written.
    """
    seen: dict[str, Any] = {}  # the best match of each lineage
    by_owner: dict[str, SearchHit] = {}  # a record that was written in between has two lineages: the later one counts
    asked = min(max(_TILES_EACH * wanted, 64), MOST_RESULTS)
    more = _MORE_ROUNDS
    while True:
        rest = f"{expression} and {one_of('lineage', list(seen), negate=True)}" if seen else expression
        (matches,) = yield from _search(place, place.tiles, [query], rest, asked, fields=("owner", "lineage"))
        found: dict[str, Any] = {}
        for match in matches:
            found.setdefault(match["entity"]["lineage"], match)
        seen |= found
        owners = list(dict.fromkeys(match["entity"]["owner"] for match in found.values()))
        rows = yield from fetch(place, place.name, owners, OF_HITS)
        by_owner |= {key: _tile_hit(found[row["lineage"]], row) for key, row in rows.items() if row["lineage"] in found}
        hits = list(by_owner.values())
        replaced = any(row["lineage"] not in seen for row in rows.values())  # written since the tiles were searched
        complete = len(matches) < asked or _is_complete(hits, wanted, float(matches[-1]["distance"]))
        if complete and not (replaced and more):
            return _first(hits, wanted)
        more -= complete
        asked = min(asked * _GROWTH, MOST_RESULTS)


def _first(hits: Sequence[SearchHit], wanted: int) -> list[SearchHit]:
    """The nearest results, equal scores in the order of ids."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))[:wanted]


def _search(
    place: Place, collection: str, queries: Sequence[FloatArray], expression: str, most: int, fields: Sequence[str] = ()
) -> Flow[list[list[Any]]]:
    answers: list[list[Any]] = yield from ask(
        place,
        "search",
        collection,
        data=[query.tolist() for query in queries],
        anns_field="embedding",
        filter="" if expression == EVERYTHING else expression,
        limit=most,
        output_fields=list(fields),
        search_params={"metric_type": "COSINE", "params": {**place.search_params, **_breadth(place, most)}},
    )
    return answers


def _fields(most: int) -> Sequence[str]:
    """The fields that a search returns: none if there are so many results that they are read in parts."""
    return OF_HITS if most <= _ROWS_READ else ()


def _breadth(place: Place, most: int) -> dict[str, int]:
    """How many rows a search in an HNSW index keeps in view: a server refuses fewer than the results."""
    return {"ef": max(int(place.search_params["ef"]), most)} if "ef" in place.search_params else {}


def _is_cut(matches: Sequence[Any], wanted: int, asked: int) -> bool:
    """Whether rows that equal the last wanted one may be missing."""
    if len(matches) < asked or asked == MOST_RESULTS:
        return False
    return bool(matches[-1]["distance"] == matches[wanted - 1]["distance"])


def _is_complete(hits: Sequence[SearchHit], wanted: int, last: float) -> bool:
    """Whether no tile beyond the last match can belong to one of the wanted records."""
    scores = sorted((hit.score for hit in hits), reverse=True)
    return len(scores) >= wanted and scores[wanted - 1] > last


def _tile_hit(match: Any, row: Row) -> SearchHit:  # noqa: ANN401 (an SDK result)
    payload = payload_of(row)
    return to_hit(payload, score=float(match["distance"]), box=box_of(match["pk"], payload))
