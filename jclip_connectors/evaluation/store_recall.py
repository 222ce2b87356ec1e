"""What a store's search finds of the exact ranking, and how fast, for each setting of its search."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jclip_connectors.evaluation.exact_ranking import TIE, ExactRanking, Question, cosines
from jclip_connectors.port import Modality, VectorStore
from jclip_connectors.store_kit.coarse import CANDIDATES, count_candidates

OWN_QUERIES = 500  # records whose vectors are the queries where none are given
_FACTORS = (1, 2, 5, 20, 10)  # of the results of an index, which whole vectors compare; the last is the default
_WIDTHS = (32, 64, 128, 256, 512, 1024)  # of the search in an index
_WARM_UP = 5  # searches before those that are timed
_PAGE = 256


@dataclass(frozen=True, kw_only=True)
class RecallPoint:
    """One setting of a store's search, measured.

    Attributes:
        setting: the options of the store's `open`; an option that is not named has its default.
        recall_mean: the mean over the queries of the share of the k nearest records that are found, from 0 to 1.
        recall_p5: the share that 95 % of the queries reach.
        recall_min: the share of the worst query.
        p50_ms: milliseconds that half of the searches take at most.
        p95_ms: milliseconds that 95 % of the searches take at most.
        queries_per_second: of one thread that searches for one vector after the other.
        disk_bytes: what the collection takes on the disk; `None` if the store does not say.
    """

    setting: Mapping[str, float]
    recall_mean: float
    recall_p5: float
    recall_min: float
    p50_ms: float
    p95_ms: float
    queries_per_second: float
    disk_bytes: int | None


def own_queries(store: VectorStore, *, k: int, modality: Modality, tiles: bool) -> Question:
    """Ask for the neighbours of some of a collection's own records, by their embeddings.

    The records are the first 500 of `scroll`, whose order does not depend on vectors.
    """
    some = list(itertools.islice(store.scroll(modality=modality), OWN_QUERIES))
    rows = np.stack([record.embedding for record in some]) if some else np.empty((0, 0), np.float32)
    own_ids = tuple(record.record_id for record in some)
    return Question(rows=rows, k=k, modality=modality, tiles=tiles, own_ids=own_ids)


def settings_to_try(options: Sequence[str], *, records: int, limit: int) -> list[dict[str, float]]:
    """The settings of a sweep.

    Args:
        options: the options of the store's `open` that change a search.
        records: how many records the collection has: it is searched exactly if there are no more than candidates.
        limit: how many results are asked for; 20 times as many is the smallest number of candidates.

    Returns:
        For `candidates`: the smallest number, and twice as many each time while it is below `records` and below the
        default; then the default. For `hnsw_ef`, in a collection that is large enough for an index: some numbers, with
        the fewest candidates where there are such. For `refine_factor`, in such a collection: some numbers, and the
        default. Without an option that is varied: the one setting of the store itself.
    """
    if "refine_factor" in options:
        return [{"refine_factor": factor} for factor in (_FACTORS if records > CANDIDATES else _FACTORS[-1:])]
    if "candidates" not in options:
        widths = _WIDTHS if "hnsw_ef" in options and records > CANDIDATES else ()
        own: list[dict[str, float]] = [{}]
        return own + [{"hnsw_ef": width} for width in widths]
    fewest = count_candidates(1, limit=limit)
    default = max(CANDIDATES, fewest)
    sweep = [fewest]
    while 2 * sweep[-1] < default:
        sweep.append(2 * sweep[-1])
    settings: list[dict[str, float]] = [{"candidates": count} for count in sweep if count < min(records, default)]
    if "hnsw_ef" in options and records > default:
        settings += [{"candidates": fewest, "hnsw_ef": width} for width in _WIDTHS]
    return [*settings, {"candidates": default}]


def measure(
    store: VectorStore,
    question: Question,
    ranking: ExactRanking,
    *,
    setting: Mapping[str, float],
    disk_bytes: int | None = None,
) -> RecallPoint:
    """Search for each query once, one after the other, and compare the results with the exact ranking.

    A record counts as found if it is among the k nearest, or as near as the last of them. The collection must not
    change meanwhile.

    Args:
        store: opened with `setting`.
        question: what is asked.
        ranking: of the same question.
        setting: for the result.
        disk_bytes: for the result.
    """
    for row in question.rows[:_WARM_UP]:
        _search(store, row, question)
    found: list[list[str]] = []
    seconds = np.empty(len(question.rows))
    for position, row in enumerate(question.rows):
        started = time.perf_counter()
        ids = _search(store, row, question)
        seconds[position] = time.perf_counter() - started
        own = question.own_ids[position] if question.own_ids else None
        found.append([record_id for record_id in dict.fromkeys(ids) if record_id != own][: question.k])
    recalls = _recalls(store, question, ranking, found)
    return RecallPoint(
        setting=dict(setting),
        recall_mean=float(recalls.mean()),
        recall_p5=float(np.percentile(recalls, 5, method="lower")),
        recall_min=float(recalls.min()),
        p50_ms=float(np.percentile(seconds, 50) * 1000),
        p95_ms=float(np.percentile(seconds, 95) * 1000),
        queries_per_second=float(len(seconds) / seconds.sum()),
        disk_bytes=disk_bytes,
    )


def _search(store: VectorStore, row: NDArray[np.float32], question: Question) -> list[str]:
    hits = store.search(row, limit=question.limit, modality=question.modality, tiles=question.tiles)
    return [hit.record_id for hit in hits]


def _recalls(
    store: VectorStore, question: Question, ranking: ExactRanking, found: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """The share of the nearest records that were found for each query: (Q,)."""
    right = np.zeros(len(found), dtype=np.int64)
    others: dict[str, list[int]] = {}  # the queries for which a record was found that is not in the ranking
    for position, ids in enumerate(found):
        nearest = set(ranking.ids[position])
        for record_id in ids:
            if record_id in nearest:
                right[position] += 1
            else:
                others.setdefault(record_id, []).append(position)
    names = list(others)
    for start in range(0, len(names), _PAGE):
        for record in store.get(names[start : start + _PAGE]):  # its score by its stored vectors, not by the store
            positions = others[record.record_id]
            scores = cosines(question.rows[positions], [record], tiles=question.tiles)[:, 0]
            right[positions] += (scores >= ranking.scores[positions, -1] - TIE) & (record.modality == question.modality)
    return np.asarray(right / ranking.scores.shape[1])
