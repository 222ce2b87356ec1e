"""Choosing results that are near to the query and unlike one another."""

import numpy as np

from jclip_connectors.port import FloatArray


def choose_diverse(relevance: FloatArray, rows: FloatArray, *, limit: int, threshold: float) -> list[int]:
    """Choose by maximal marginal relevance.

    Args:
        relevance: (N,) how near each result is to the query.
        rows: (N, E) float32, rows of unit L2 norm.
        limit: how many to choose at most.
        threshold: 0..1: 1 looks at relevance only, 0 at difference only.

    Returns:
        Positions in the order of choice; the most relevant is the first.

    Source: Carbonell and Goldstein 1998.
    """
    if not len(rows):
        return []
    chosen = [int(relevance.argmax())]
    overlap = rows @ rows[chosen[0]]  # (N,) with the most similar of the chosen
    while len(chosen) < min(limit, len(rows)):
        value = threshold * relevance - (1 - threshold) * overlap
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        overlap = np.maximum(overlap, rows @ rows[chosen[-1]])
    return chosen
