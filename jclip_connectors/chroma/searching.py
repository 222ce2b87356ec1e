"""The search in a collection in Chroma.

Chroma's index is approximate, and gives ids and distances: more of them than are asked for. The vectors of the best are
then read, and their cosines computed here, so that scores are exact and equal vectors have equal scores.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from core_encoder.tiling import Box
from jclip_connectors.chroma.clients import Collections
from jclip_connectors.chroma.fetching import Item, read_ids, read_items, read_tiles, read_vectors
from jclip_connectors.chroma.filters import Where
from jclip_connectors.chroma.items import payload_of, split_tile_id, tile_ids
from jclip_connectors.chroma.schema import VERSION
from jclip_connectors.port import FloatArray, SearchHit
from jclip_connectors.store_kit.batches import parts
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.payload import to_hit

_LOG = logging.getLogger(__package__)
_TIE = 4e-6  # distances that differ by less may be in another order than the exact cosines
_SPARE = 2  # times the results, so that the last of them has others behind it
_MORE = 4  # times the candidates, where so many were too few
_MOST_FOR_TIES = 16_384  # candidates; among more equal ones, the index chooses
_COMPARED = 4096  # vectors that are in memory together
_AT_ONCE = 64  # records whose tiles are read together
_MOST_RESULTS = 2**31

Ranked = list[tuple[str, float]]  # ids and distances, nearest first


def nearest(queries: FloatArray, where: Where | None, *, limit: int, candidates: int) -> Flow[list[list[SearchHit]]]:
    """The nearest records of each query."""
    wanted = max(_SPARE * limit, candidates)
    lists = yield from _query("records", queries, where, results=wanted)
    chosen = []
    for query, ranked in zip(queries, lists, strict=True):
        results = wanted
        while len(ranked) == results and _is_tie(ranked, limit) and results < _MOST_FOR_TIES:
            results *= _MORE
            (ranked,) = yield from _query("records", query[None], where, results=results)
        chosen.append(_best(ranked, limit))
    ids = list(dict.fromkeys(record_id for some in chosen for record_id in some))
    items = yield from read_items(ids, vectors=True)
    return [
        _ordered([_hit(items[record_id], query) for record_id in some if record_id in items], limit)
        for query, some in zip(queries, chosen, strict=True)
    ]


def nearest_by_tiles(query: FloatArray, where: Where | None, *, limit: int, candidates: int) -> Flow[list[SearchHit]]:
    """The records with the nearest tiles.

    The index finds tiles; a record is as near as its nearest one. More tiles are asked for until there are enough
    records, and tiles of other versions than their record's are passed over.
    """
    results = max(_SPARE * limit, candidates)
    while True:
        (ranked,) = yield from _query("tiles", query[None], where, results=results)
        records: dict[tuple[str, str], float] = {}  # by version and record id
        for tile_id, distance in ranked:
            records.setdefault(split_tile_id(tile_id), distance)
        hits, enough = yield from _current(records, query, limit)
        is_all = len(ranked) < results
        if is_all or (enough and (not _is_tie(list(records.items()), limit) or results >= _MOST_FOR_TIES)):
            return _ordered(hits, limit)
        results *= _MORE


def _current(
    records: Mapping[tuple[str, str], float], query: FloatArray, limit: int
) -> Flow[tuple[list[SearchHit], bool]]:
    """The results of the nearest records of which these are the versions, and whether they are enough."""
    hits: list[SearchHit] = []
    last = np.inf  # the distance of the last record that belongs to the results
    for some in parts(list(records.items()), _AT_ONCE):
        near = [key for key, distance in some if distance <= last + _TIE]
        items = yield from read_items(list({record_id: None for _, record_id in near}), vectors=False)
        kept = [items[name] for version, name in near if name in items and items[name].fields[VERSION] == version]
        tiles = yield from read_tiles([tile_id for item in kept for tile_id in tile_ids(item.fields)])
        found = (_hit_of_tiles(item, query, tiles) for item in kept)
        hits += [hit for hit in found if hit is not None]
        if len(hits) >= limit:
            last = 1.0 - sorted((hit.score for hit in hits), reverse=True)[limit - 1]
            if some[-1][1] > last + _TIE:
                return hits, True
    return hits, len(hits) >= limit


def _query(
    kind: Literal["records", "tiles"], queries: FloatArray, where: Where | None, *, results: int
) -> Flow[list[Ranked]]:
    """What the index gives for each query, or all that match, where it gives fewer than these and than asked for.

    Chroma's graph can lose records, or all of them, once many have been deleted (seen on 1.5.9).
    """
    options: dict[str, Any] = {"n_results": min(results, _MOST_RESULTS), "where": where, "include": ["distances"]}
    answer = yield functools.partial(_ask, kind=kind, query_embeddings=queries, **options)
    fewest = min(map(len, answer["ids"]))
    if fewest < results:
        matching = yield from read_ids(kind, where=where)
        if len(matching) > fewest:
            _LOG.debug("the index gives %d of %d %s: all are compared", fewest, len(matching), kind)
            return (yield from _compare_all(kind, queries, matching))
    return [
        sorted(zip(ids, distances, strict=True), key=lambda found: (found[1], found[0]))
        for ids, distances in zip(answer["ids"], answer["distances"], strict=True)
    ]


def _compare_all(kind: Literal["records", "tiles"], queries: FloatArray, ids: Sequence[str]) -> Flow[list[Ranked]]:
    """All that have these ids, by their distances from each query; the vectors are read some at a time."""
    lists: list[Ranked] = [[] for _ in queries]
    for some in parts(ids, _COMPARED):
        vectors = yield from read_vectors(kind, some)
        for query, ranked in zip(queries, lists, strict=True):
            ranked += [(name, 1.0 - float(_cosines(row[None], query)[0])) for name, row in vectors.items()]
    return [sorted(ranked, key=lambda found: (found[1], found[0])) for ranked in lists]


def _ask(client: Collections, *, kind: str, **options: Any) -> Any:  # noqa: ANN401 (chromadb's)
    return getattr(client, kind).query(**options)


def _is_tie(ranked: Sequence[tuple[object, float]], limit: int) -> bool:
    """Whether the last candidate may be as near as the last result."""
    return len(ranked) < limit or ranked[-1][1] <= ranked[limit - 1][1] + _TIE


def _best(ranked: Ranked, limit: int) -> list[str]:
    """The ids of the results, and of those that may be as near as the last one."""
    if len(ranked) <= limit:
        return [record_id for record_id, _ in ranked]
    last = ranked[limit - 1][1] + _TIE
    return [record_id for record_id, distance in ranked if distance <= last]


def _ordered(hits: list[SearchHit], limit: int) -> list[SearchHit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))[:limit]


def _hit(item: Item, query: FloatArray) -> SearchHit:
    (score,) = _cosines(item.embedding[None], query)
    return to_hit(payload_of(item.fields), score=float(score), box=None)


def _hit_of_tiles(item: Item, query: FloatArray, tiles: Mapping[str, FloatArray]) -> SearchHit | None:
    """The result of a record; `None` if its tiles are being replaced."""
    wanted = tile_ids(item.fields)
    if any(tile_id not in tiles for tile_id in wanted):
        return None
    payload = payload_of(item.fields)
    scores = _cosines(np.stack([tiles[tile_id] for tile_id in wanted]), query)
    best = int(scores.argmax())
    box = None if payload["tile_boxes"] is None else Box(*payload["tile_boxes"][best])
    return to_hit(payload, score=float(scores[best]), box=box)


def _cosines(vectors: FloatArray, query: FloatArray) -> FloatArray:
    """(T,) float32, rounded from float64: equal rows have equal cosines, wherever they stand."""
    products = vectors.astype(np.float64) * query.astype(np.float64)  # (T, E)
    cosines: FloatArray = products.sum(axis=1).astype(np.float32)
    return cosines
