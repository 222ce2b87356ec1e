"""Two evaluations beside each other: which is better in each table, and whether that may be chance."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.bootstrap import (
    CONFIDENCE,
    Numbers,
    PairedValues,
    holm,
    interval,
    p_value,
    resampled_differences,
)
from jclip_connectors.evaluation.figures import Figure, Variant, read_results
from jclip_connectors.evaluation.markdown import number, signed
from jclip_connectors.evaluation.paired_runs import FigurePair, RunReader, Setting, paired_values, shared_figures
from jclip_connectors.evaluation.tables import LanguageSet, find_table

LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class PartDifference:
    """The difference in one task and language; as in `Comparison`, but without a test."""

    task: str
    split: str
    language: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    queries: int
    clusters: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The difference of two evaluations in one table: B minus A.

    Attributes:
        table: the table.
        metric: by the harness' own name.
        dimensions_a: length of A's vectors.
        dimensions_b: length of B's vectors.
        variant: how the vectors were kept.
        languages: the set of languages that the values are over, as the table's first row of the report; `None` for
            all that both evaluations have.
        a: A's value: the mean over tasks, of each the mean over languages.
        b: B's value.
        difference: b - a.
        low: lower end of the interval that holds the difference with a confidence of 95 %.
        high: its upper end.
        p: two-sided.
        p_holm: `p`, corrected for the number of tables and metrics at these lengths and in this variant.
        parts: each task and language.
    """

    table: str
    metric: str
    dimensions_a: int
    dimensions_b: int
    variant: Variant
    languages: str | None
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    parts: tuple[PartDifference, ...]

    @property
    def verdict(self) -> str:
        """The result in plain words."""
        lengths = {self.dimensions_a, self.dimensions_b}
        what = f"{self.table}, {self.metric}, {' and '.join(map(str, sorted(lengths)))} values"
        if self.languages is not None:
            what += f", {self.languages}"
        if self.variant != "float32":
            what += f", {self.variant}"
        span = f"95 % interval {signed(self.low)} to {signed(self.high)}"
        if self.low == self.high == self.difference == 0:
            return f"{what}: A and B are equal."
        if self.p_holm <= LEVEL:
            better = "B" if self.difference > 0 else "A"
            return f"{what}: {better} is better by {number(abs(self.difference))} ({span})."
        if self.p <= LEVEL:
            return f"{what}: no difference is shown, as one of so many tables may differ this much by chance ({span})."
        return f"{what}: no difference is shown ({span})."


def compare_runs(folder_a: Path, folder_b: Path, *, metric: str | None = None) -> list[Comparison]:
    """Compare two evaluations, query by query, by a paired bootstrap.

    Both are compared at every length of vectors that both have, and at the full length of each if these differ. Tasks
    that only one of them has are left out: `left_out` names them.

    Args:
        folder_a: the folder of an evaluation.
        folder_b: that of another, of the same queries.
        metric: only this one, such as "ndcg_at_10"; "@" may stand for "_at_".

    Raises:
        EvaluationError: the evaluations have nothing in common, or differ in their limit, their data, their queries or
            what people said about them; the message names what differs.
    """
    a, b = read_results(folder_a), read_results(folder_b)
    if a.limit != b.limit:
        raise EvaluationError(
            f"the evaluations have different limits, {a.limit} and {b.limit}: only runs over equal data can be compared"
        )
    readers = RunReader(folder_a), RunReader(folder_b)
    shared = shared_figures(a, b, metric)
    found: list[Comparison] = []
    for one, tables in shared.items():
        rows = [
            comparison for table, pairs in tables.items() for comparison in _compare_table(table, pairs, readers, one)
        ]
        corrected = holm([row.p for row in rows])
        found += [dataclasses.replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    return found


def _compare_table(
    table: str, pairs: Sequence[FigurePair], readers: tuple[RunReader, RunReader], one: Setting
) -> list[Comparison]:
    """A comparison for each metric of a table."""
    tasks: dict[tuple[str, str], list[FigurePair]] = {}
    for figure, other in pairs:
        tasks.setdefault((figure.task, figure.split), []).append((figure, other))
    counted = _counted_languages(table, pairs)
    # For each metric and task: the parts, and the differences of their mean in every draw.
    found: dict[str, list[tuple[list[PartDifference], Numbers]]] = {}
    for (task, split), of_task in tasks.items():
        paired = [paired_values(pair, readers) for pair in of_task]
        drawn = resampled_differences(paired, key=f"{task} {split}")
        for metric in dict.fromkeys(figure.metric for figure, _ in of_task):
            rows = [at for at, (figure, _) in enumerate(of_task) if figure.metric == metric]
            parts = [_part(of_task[at][0], paired[at], drawn[at]) for at in rows]
            in_mean = [at for at in rows if counted is None or of_task[at][0].language in counted.languages]
            found.setdefault(metric, []).append((parts, drawn[in_mean].mean(axis=0)))
    return [_of_tasks(table, metric, of_metric, one, counted) for metric, of_metric in found.items()]


def _counted_languages(table: str, pairs: Sequence[FigurePair]) -> LanguageSet | None:
    """The languages of the table's first mean, if both evaluations have all of them."""
    sets = find_table(table).language_sets
    return sets[0] if sets and set(sets[0].languages) <= {figure.language for figure, _ in pairs} else None


def _of_tasks(
    table: str,
    metric: str,
    tasks: Sequence[tuple[Sequence[PartDifference], Numbers]],
    one: Setting,
    counted: LanguageSet | None,
) -> Comparison:
    drawn = np.mean([differences for _, differences in tasks], axis=0)  # (R,)
    in_mean = [[part for part in parts if counted is None or part.language in counted.languages] for parts, _ in tasks]
    a, b = (float(np.mean([np.mean([getattr(part, side) for part in parts]) for parts in in_mean])) for side in "ab")
    low, high = interval(drawn)
    p = p_value(drawn)
    return Comparison(
        table=table,
        metric=metric,
        **dataclasses.asdict(one),
        languages=None if counted is None else counted.name,
        a=a,
        b=b,
        difference=b - a,
        low=low,
        high=high,
        p=p,
        p_holm=p,
        parts=tuple(part for parts, _ in tasks for part in parts),
    )


def _part(figure: Figure, paired: PairedValues, drawn: Numbers) -> PartDifference:
    a, b = paired.figures
    low, high = interval(drawn)
    return PartDifference(
        task=figure.task,
        split=figure.split,
        language=figure.language,
        a=a,
        b=b,
        difference=b - a,
        low=low,
        high=high,
        queries=len(paired.clusters),
        clusters=len(set(paired.clusters)),
    )
