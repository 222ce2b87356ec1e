"""Choosing diverse results: near to the query, and different from each other."""

import numpy as np

from jclip_connectors.port import FloatArray


def choose_diverse(relevance: FloatArray, rows: FloatArray, *, limit: int, threshold: float) -> list[int]:
    """Choose by maximal marginal relevance.

    Args:
        relevance: (N,) the similarity of each result to the query.
        rows: (N, E) float32, rows of unit L2 norm.
        limit: the largest number of results to choose.
        threshold: 0..1: 1 uses only relevance, 0 only diversity.

    Returns:
        Positions in the order of choice; the most relevant is the first.

    Source: Carbonell and Goldstein 1998.
    """
    if not len(rows):
        return []
    chosen = [int(relevance.argmax())]
    overlap = rows @ rows[chosen[0]]  # (N,) similarity to the most similar chosen result
    while len(chosen) < min(limit, len(rows)):
        value = threshold * relevance - (1 - threshold) * overlap
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        overlap = np.maximum(overlap, rows @ rows[chosen[-1]])
    return chosen
