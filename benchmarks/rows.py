"""A row of a benchmark's table: figures of every round, their median with an interval, and whether a bar is met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_RESAMPLES = 4000


def interval_of_median(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the lower and upper end of its 95 % bootstrap interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: percentiles of the medians of
    samples drawn with replacement.
    """
    found = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).choice(found, (_RESAMPLES, len(found)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(found)), float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        what: its name.
        values: what every round gave; for a ratio, baseline over ours. Empty where this machine cannot measure it.
        unit: "x" for a ratio, else what the figure counts.
        bar: what it must reach, or `None`.
        hope: what would be better still, or `None`.
        at_most: whether the figure shall be small, not large.
        judged: whether bar and hope are judged: not in a quick run.
        details: what else the JSON holds.
    """

    what: str
    values: list[float]
    unit: str
    bar: float | None
    hope: float | None
    at_most: bool = False
    judged: bool
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """Median and interval, as a table shows them."""
        if not self.values:
            return "not measured"
        median, low, high = interval_of_median(self.values)
        text = f"{number(median)} {self.unit}".strip()
        return text if len(self.values) == 1 else f"{text} ({number(low)} - {number(high)})"

    def verdict(self, wanted: float | None) -> str:
        """`wanted`, and whether the worse end of the interval reaches it."""
        if wanted is None:
            return ""
        limit = f"{'<=' if self.at_most else '>='} {number(wanted)} {self.unit}".strip()
        if not self.values:
            return limit
        _, low, high = interval_of_median(self.values)
        met = high <= wanted if self.at_most else low >= wanted
        words = ("met" if met else "MISSED") if self.judged else "not judged"
        return f"{limit} ({words})"


def number(value: float) -> str:
    """Three digits that count; thousands as they are."""
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"
