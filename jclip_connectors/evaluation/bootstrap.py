"""The paired bootstrap: how far a difference of two runs may be chance, by drawing their queries again and again.

Queries that are not independent, such as the five captions of one picture, are a cluster, and clusters are drawn.
Both runs get the same draw, so what makes a query hard for both cancels out.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapters 13 (percentile intervals) and 15 (tests).
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES, SEED = 10_000, 0
CONFIDENCE = 0.95

_BLOCK_NUMBERS = 2_000_000  # numbers in one array of a block: 16 MB in float64
_CLUSTERS_PER_KIND = 16  # from here up, drawing kinds is faster
_DECIMALS = 12  # below that, a sum of values that cancel out is 0

Numbers = NDArray[np.float64]
Values = Sequence[float] | Numbers


@dataclass(frozen=True, kw_only=True)
class PairedValues:
    """The values of two runs for the same queries.

    Attributes:
        clusters: (Q,) names; queries of one name are drawn together.
        first: (Q,) of one run: the metric of each query, or the similarity of each pair.
        second: (Q,) of the other run.
        golds: (Q,) similarities that people gave, for Spearman's correlation; `None` for a mean.
    """

    clusters: Sequence[str]
    first: Values
    second: Values
    golds: Values | None = None

    @property
    def figures(self) -> tuple[float, float]:
        """The mean, or the correlation, of each run."""
        if self.golds is None:
            return float(np.mean(self.first)), float(np.mean(self.second))
        once = np.ones((1, len(self.golds)))
        return spearman(once, self.first, self.golds)[0], spearman(once, self.second, self.golds)[0]


def resampled_differences(
    parts: Sequence[PairedValues], *, key: str, resamples: int = RESAMPLES, seed: int = SEED
) -> Numbers:
    """(P, R) differences, second - first, of each part in each draw.

    Args:
        parts: of one task: languages or metrics. Parts that have clusters in common get the same draws, so the mean of
            their differences has the spread that it would have with other pictures.
        key: names the task; tasks with different keys are drawn independently.
        resamples: R.
        seed: equal seeds give equal numbers.
    """
    found = np.empty((len(parts), resamples))
    for members in _connected([set(part.clusters) for part in parts]):
        seeds = [seed, zlib.crc32(key.encode()), members[0]]
        names = sorted({name for at in members for name in parts[at].clusters})
        place = {name: at for at, name in enumerate(names)}
        means = [at for at in members if parts[at].golds is None]
        if means:
            found[means] = _differences_of_means(
                [parts[at] for at in means], place, np.random.default_rng(seeds), resamples
            )
        for at in members:
            golds = parts[at].golds
            if golds is not None:
                found[at] = _differences_of_correlations(
                    parts[at], golds, place, np.random.default_rng(seeds), resamples
                )
    return np.round(found, _DECIMALS)


def interval(differences: Numbers) -> tuple[float, float]:
    """The percentile interval that holds the difference with a confidence of 95 %."""
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (outside, 1 - outside))
    return float(low), float(high)


def p_value(differences: Numbers) -> float:
    """Two-sided: how often a draw lies on the other side of 0, twice; 1 for runs that are equal."""
    return min(1.0, 2 * min(float(np.mean(differences <= 0)), float(np.mean(differences >= 0))))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for their number.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def spearman(counts: Numbers, values: Values, golds: Values) -> Numbers:
    """(R,) rank correlations of values (Q,) with golds (Q,), where pair i occurs counts[r, i] times; ties share a rank.

    The correlation with something constant is 0 here.
    """
    of_values, spread_values = _ranks(counts, values)
    of_golds, spread_golds = _ranks(counts, golds)
    total = counts.sum(axis=1)  # (R,)
    common = np.einsum("rq,rq,rq->r", counts, of_values, of_golds) - total * ((total + 1) / 2) ** 2
    scale = np.sqrt(spread_values * spread_golds)
    found: Numbers = np.divide(common, scale, out=np.zeros_like(common), where=scale > 0)
    return found


def _differences_of_means(
    parts: Sequence[PairedValues], place: Mapping[str, int], rng: np.random.Generator, resamples: int
) -> Numbers:
    """(P, R): of the means over all queries that were drawn."""
    totals = np.empty((len(place), 2 * len(parts)))  # of each cluster: sums of differences, then numbers of queries
    for at, part in enumerate(parts):
        cluster = [place[name] for name in part.clusters]
        delta = np.asarray(part.second, dtype=np.float64) - np.asarray(part.first, dtype=np.float64)
        totals[:, at] = np.bincount(cluster, delta, len(place))
        totals[:, len(parts) + at] = np.bincount(cluster, minlength=len(place))
    whole = totals.sum(axis=0)
    found = np.empty((resamples, len(parts)))
    kinds, occurring = np.unique(totals, axis=0, return_counts=True)
    few = len(kinds) * _CLUSTERS_PER_KIND <= len(place)
    rows = kinds if few else totals
    for block in _blocks(resamples, len(rows)):
        size = block.stop - block.start
        if few:  # clusters of one kind are alike: how many of each kind are drawn is enough to know
            counts = rng.multinomial(len(place), occurring / len(place), size=size).astype(np.float64)
        else:
            counts = _draw(rng, size, len(place))
        drawn = counts @ rows  # (B, 2P)
        sums, sizes = drawn[:, : len(parts)], drawn[:, len(parts) :]
        # A draw without a query of a part says nothing about it: its difference stays as it is.
        found[block] = whole[: len(parts)] / whole[len(parts) :]
        np.divide(sums, sizes, out=found[block], where=sizes > 0)
    return found.T


def _differences_of_correlations(
    part: PairedValues, golds: Values, place: Mapping[str, int], rng: np.random.Generator, resamples: int
) -> Numbers:
    """(R,): of the correlations over all pairs that were drawn."""
    cluster = [place[name] for name in part.clusters]
    found = np.empty(resamples)
    for block in _blocks(resamples, max(len(place), len(cluster))):
        counts = _draw(rng, block.stop - block.start, len(place))[:, cluster]  # (B, Q)
        found[block] = spearman(counts, part.second, golds) - spearman(counts, part.first, golds)
    return found


def _blocks(resamples: int, width: int) -> Iterator[slice]:
    """Parts of the draws whose arrays, with `width` numbers a draw, take little memory."""
    rows = max(1, _BLOCK_NUMBERS // width)
    for start in range(0, resamples, rows):
        yield slice(start, min(start + rows, resamples))


def _draw(rng: np.random.Generator, size: int, clusters: int) -> Numbers:
    """(B, C): how often each cluster is drawn when C of them are drawn with replacement."""
    drawn = rng.integers(0, clusters, size=(size, clusters))
    drawn += np.arange(size)[:, None] * clusters
    return np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def _ranks(counts: Numbers, values: Values) -> tuple[Numbers, Numbers]:
    """(R, Q) mid-ranks of values (Q,) that occur counts (R, Q) times, and (R,) their summed squared deviations."""
    _, group = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)  # (Q,): equal values, in order
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, G)
    ranks = np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2
    total = sizes.sum(axis=1)
    spread = np.einsum("rg,rg,rg->r", sizes, ranks, ranks) - total * ((total + 1) / 2) ** 2
    return ranks[:, group], spread


def _connected(names: Sequence[set[str]]) -> list[list[int]]:
    """The sets, by position, in groups that have no name in common with one another."""
    found: list[tuple[set[str], list[int]]] = []
    for at, own in enumerate(names):
        joined, members = set(own), [at]
        for group in [group for group in found if not group[0].isdisjoint(own)]:
            found.remove(group)
            joined |= group[0]
            members = group[1] + members
        found.append((joined, members))
    return [members for _, members in found]
