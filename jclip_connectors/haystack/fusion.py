"""One order for the results of both modalities, whose cosines are on different scales.

Source: reciprocal rank fusion, Cormack, Clarke and Buettcher (2009): the score of a result is 1 / (60 + its rank).
"""

from collections.abc import Sequence

from jclip_connectors.port import SearchHit

_CONSTANT = 60  # of the paper


def in_one_order(ranked: Sequence[Sequence[SearchHit]], *, limit: int) -> list[tuple[SearchHit, float]]:
    """Put the results of each modality into one order.

    Args:
        ranked: the results of each modality, nearest first.
        limit: the largest number of results.

    Returns:
        Results and their scores: cosines if only one modality has results, else those of the fusion.
    """
    lists = [hits for hits in ranked if hits]
    if len(lists) < 2:
        return [(hit, hit.score) for hits in lists for hit in hits][:limit]
    fused = [(hit, 1 / (_CONSTANT + rank)) for hits in lists for rank, hit in enumerate(hits, start=1)]
    return sorted(fused, key=lambda pair: -pair[1])[:limit]  # of one rank, in the order of the modalities
