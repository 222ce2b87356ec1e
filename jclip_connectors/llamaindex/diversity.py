"""Choosing results that are near to the query and unlike one another."""

from collections.abc import Mapping, Sequence

import numpy as np

from jclip_connectors.port import FloatArray, SearchHit


def diverse(hits: Sequence[SearchHit], vectors: Mapping[str, FloatArray], *, limit: int, threshold: float) -> list[int]:
    """Choose hits by maximal marginal relevance, in the order of choice.

    Source: Carbonell and Goldstein 1998.
    """
    if not hits:
        return []
    relevance = np.array([hit.score for hit in hits])  # (N,)
    rows = np.stack([vectors[hit.record_id] for hit in hits])  # (N, E)
    chosen = [0]  # the nearest
    overlap = rows @ rows[0]  # (N,) with the most similar of the chosen
    while len(chosen) < min(limit, len(hits)):
        value = threshold * relevance - (1 - threshold) * overlap
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        overlap = np.maximum(overlap, rows @ rows[chosen[-1]])
    return chosen
