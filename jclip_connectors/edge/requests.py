"""Requests to the embedded engine in its own types, filters and the stages of a search; and its answers as ours."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import qdrant_edge as qdrant

from jclip_connectors.filters import And, AnyOf, Compare, Exists, Node, Not, Or, exists_term, term
from jclip_connectors.port import FloatArray, Modality, Record, SearchHit
from jclip_connectors.store_kit.payload import nearest_box, number_path, to_hit, to_record, without_vectors

_POINT_BYTES = 500  # of a point, besides its texts and vectors


def to_condition(tree: And, modality: Modality | None) -> qdrant.Filter:
    """Translate a portable filter and a modality for the engine."""
    conditions: list[Any] = [_translate(node) for node in tree.nodes]
    if modality is not None:
        conditions.append(qdrant.FieldCondition(key="modality", match=qdrant.MatchValue(modality)))
    return qdrant.Filter(must=conditions)


def nearest(query: Any, *, tiles: bool) -> qdrant.Query:  # noqa: ANN401 (an array; the engine's stubs know lists only)
    """The query for the records nearest to a vector (E,), by their embedding or by their nearest tile."""
    return qdrant.Query.Nearest(query[None], using="tiles") if tiles else qdrant.Query.Nearest(query, using="full")


def stages(
    query: FloatArray, condition: qdrant.Filter, *, coarse: int, tiles: bool, candidates: int
) -> list[qdrant.Prefetch]:
    """The stages before the last one: by the prefix of `coarse` values, and before tiles by the full vector."""
    prefix: Any = query[:coarse]
    prefix_query = qdrant.Query.Nearest(prefix, using="coarse")
    stage = qdrant.Prefetch(query=prefix_query, filter=condition, limit=candidates)
    if tiles:
        stage = qdrant.Prefetch(query=nearest(query, tiles=False), prefetches=[stage], limit=candidates)
    return [stage]


def point_bytes(point: qdrant.Point) -> int:
    """About the size of a point in the engine's files."""
    payload: Any = point.payload
    vectors = cast("dict[str, Any]", point.vector)
    texts = [payload["metadata"], payload["content"] or "", payload["uri"] or "", *payload["terms"]]
    return _POINT_BYTES + sum(map(len, texts)) + sum(4 * int(np.size(vector)) for vector in vectors.values())


def reader(*, vectors: bool) -> Callable[[qdrant.Record], Record]:
    """The function that makes a record of a point, with its vectors or without."""
    return _read_record if vectors else lambda point: without_vectors(point.payload or {})


def _read_record(point: qdrant.Record) -> Record:
    vectors = cast("dict[str, Any]", point.vector)
    return to_record(point.payload or {}, embedding=vectors["full"], tile_embeddings=vectors.get("tiles"))


def read_hit(point: qdrant.ScoredPoint, query: FloatArray, *, tiles: bool) -> SearchHit:
    """The result of a point that `query` has found."""
    payload, vectors = point.payload or {}, cast("dict[str, Any]", point.vector)
    box = nearest_box(payload, tile_embeddings=vectors["tiles"], query=query) if tiles else None
    return to_hit(payload, score=point.score, box=box)


def _translate(node: Node) -> qdrant.FieldCondition | qdrant.Filter:
    match node:
        case AnyOf():
            values = qdrant.MatchAny([term(node.field, value) for value in node.values])
            return qdrant.FieldCondition(key="terms", match=values)
        case Exists():
            return qdrant.FieldCondition(key="terms", match=qdrant.MatchValue(exists_term(node.field)))
        case Compare():
            # There is no index of numbers: it would take megabytes and a pass over the collection for each field. The
            # index of terms finds the records that have the field, and their payloads are read.
            has_field = qdrant.FieldCondition(key="terms", match=qdrant.MatchValue(exists_term(node.field)))
            compared = qdrant.FieldCondition(
                key=number_path(node.field), range=qdrant.RangeFloat(**{node.op: node.bound})
            )
            return qdrant.Filter(must=[has_field, compared])
        case Not():
            return qdrant.Filter(must_not=[_translate(node.node)])
        case Or():
            return qdrant.Filter(should=[_translate(child) for child in node.nodes])
        case _:
            return qdrant.Filter(must=[_translate(child) for child in node.nodes])
