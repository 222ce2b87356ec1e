"""The exact ranking of stored vectors: what a store finds is measured against it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jclip_connectors.errors import EvaluationError
from jclip_connectors.port import FloatArray, Modality, Record

TIE = 1e-6  # cosines that are nearer than this are equal: so much two orders of one float32 sum can differ
_BLOCK_ROWS, _BLOCK_SCORES = 1024, 2**23  # of the vectors that are compared at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """What a store is asked.

    Attributes:
        rows: (Q, E) float32, queries of unit length.
        k: how many records are wanted for each.
        modality: only records of this modality are compared.
        tiles: compare the nearest tile of each record; a record without tiles is compared by its embedding.
        own_ids: where the queries are vectors of records: the Q records, each left out of its own ranking; else empty.
    """

    rows: FloatArray
    k: int
    modality: Modality
    tiles: bool = False
    own_ids: tuple[str, ...] = ()

    @property
    def limit(self) -> int:
        """How many results are asked for: one more where a record is left out."""
        return self.k + 1 if self.own_ids else self.k


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactRanking:
    """The k nearest records of each query.

    Attributes:
        ids: (Q, k) str, nearest first.
        scores: (Q, k) float32, their cosines; k is smaller here than in the question if there are fewer records.
        records: how many records were compared.
    """

    ids: NDArray[np.object_]
    scores: FloatArray
    records: int


def exact_ranking(records: Iterable[Record], question: Question) -> ExactRanking:
    """Compare each query with each record in float32; about a thousand vectors are in memory at a time.

    Args:
        records: as `VectorStore.scroll` gives them, with vectors.
        question: the queries.

    Raises:
        EvaluationError: there is nothing to compare.
    """
    queries, k = question.rows, question.k
    asking = {record_id: position for position, record_id in enumerate(question.own_ids)}
    best = np.empty((len(queries), 0), dtype=np.float32)
    ids = np.empty((len(queries), 0), dtype=object)
    compared = 0
    for block in _blocks(records, most_rows=max(1, min(_BLOCK_ROWS, _BLOCK_SCORES // max(1, len(queries))))):
        scores = cosines(queries, block, tiles=question.tiles)  # (Q, B)
        for column, record in enumerate(block):
            if record.record_id in asking:
                scores[asking[record.record_id], column] = -np.inf
        names = np.array([record.record_id for record in block], dtype=object)
        best, ids = _merge(best, ids, scores, np.broadcast_to(names, scores.shape), k=k)
        compared += len(block)
    kept = min(k, compared - bool(asking))
    if kept < 1 or not len(queries):
        raise EvaluationError(
            f"there are {compared} records of the modality {question.modality!r} and {len(queries)} queries: nothing "
            "can be compared"
        )
    return ExactRanking(ids=ids[:, :kept], scores=best[:, :kept], records=compared)


def cosines(queries: FloatArray, records: Sequence[Record], *, tiles: bool) -> FloatArray:
    """The cosine of each query (Q, E) with each record, or with its nearest tile (MaxSim): (Q, B)."""
    if not tiles:
        return np.asarray(queries @ np.stack([record.embedding for record in records]).T)
    groups = [
        record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings for record in records
    ]
    starts = np.cumsum([0, *map(len, groups)])[:-1]
    return np.asarray(np.maximum.reduceat(queries @ np.concatenate(groups).T, starts, axis=1))


def _blocks(records: Iterable[Record], *, most_rows: int) -> Iterator[list[Record]]:
    block: list[Record] = []
    rows = 0
    for record in records:
        block.append(record)
        rows += 1 if record.tile_embeddings is None else len(record.tile_embeddings)
        if rows >= most_rows:
            yield block
            block, rows = [], 0
    if block:
        yield block


def _merge(
    best: FloatArray, ids: NDArray[np.object_], scores: FloatArray, names: NDArray[Any], *, k: int
) -> tuple[FloatArray, NDArray[np.object_]]:
    """The k largest of both, largest first."""
    if scores.shape[1] > k:
        few = np.argpartition(scores, -k, axis=1)[:, -k:]
        scores, names = np.take_along_axis(scores, few, axis=1), np.take_along_axis(names, few, axis=1)
    scores, names = np.concatenate([best, scores], axis=1), np.concatenate([ids, names], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(names, order, axis=1)
