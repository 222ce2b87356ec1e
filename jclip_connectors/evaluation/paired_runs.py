"""The figures that two evaluations have in common, and the values of their queries, side by side."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.bootstrap import PairedValues
from jclip_connectors.evaluation.figures import Figure, QueryScores, Results, Variant, read_results, read_run

_NAMED = 3  # of things that differ, in an error

FigurePair = tuple[Figure, Figure]
"""A figure of A, and the same one of B."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Lengths of vectors, and how they are kept, for which two evaluations are compared."""

    dimensions_a: int
    dimensions_b: int
    variant: Variant


_Key = tuple[str, str, str, str]  # task, split, metric, language


def shared_figures(a: Results, b: Results, metric: str | None) -> dict[Setting, dict[str, list[FigurePair]]]:
    """The pairs of figures that can be compared, by setting and table.

    Raises:
        EvaluationError: there are none.
    """
    wanted = None if metric is None else metric.replace("@", "_at_")
    of_a, of_b = (
        {
            (figure.table, _key(figure), figure.dimensions, figure.variant): figure
            for figure in results.figures
            if figure.run is not None and wanted in {None, figure.metric.replace("@", "_at_")}
        }
        for results in (a, b)
    )
    found: dict[Setting, dict[str, list[FigurePair]]] = {}
    for one in _settings(of_a.values(), of_b.values()):
        for (table, key, dimensions, variant), figure in of_a.items():
            other = of_b.get((table, key, one.dimensions_b, variant))
            if (dimensions, variant) == (one.dimensions_a, one.variant) and other is not None:
                found.setdefault(one, {}).setdefault(table, []).append((figure, other))
    if not found:
        raise EvaluationError(
            f"the evaluations have no values of queries in common{'' if metric is None else f' for {metric!r}'}: "
            f"A has {_contents(a)}; B has {_contents(b)}"
        )
    return found


def _contents(results: Results) -> str:
    tables = dict.fromkeys((figure.table, figure.metric) for figure in results.figures if figure.run is not None)
    return ", ".join(f"{table} ({metric})" for table, metric in tables) or "none"


def _settings(of_a: Iterable[Figure], of_b: Iterable[Figure]) -> list[Setting]:
    places = [dict.fromkeys((figure.dimensions, figure.variant) for figure in figures) for figures in (of_a, of_b)]
    slices = [
        Setting(dimensions_a=dimensions, dimensions_b=dimensions, variant=variant)
        for dimensions, variant in places[0]
        if (dimensions, variant) in places[1]
    ]
    for variant in dict.fromkeys(variant for _, variant in places[0]):
        full = [[dimensions for dimensions, own in place if own == variant] for place in places]
        if all(full) and max(full[0]) != max(full[1]):
            slices.append(Setting(dimensions_a=max(full[0]), dimensions_b=max(full[1]), variant=variant))
    return sorted(slices, key=lambda one: (one.variant != "float32", one.variant, -one.dimensions_a, -one.dimensions_b))


def left_out(folder_a: Path, folder_b: Path) -> list[str]:
    """The tasks and languages that a comparison leaves out, for people: one evaluation lacks them, or their values."""
    figures = [read_results(folder).figures for folder in (folder_a, folder_b)]
    all_a, all_b = ({(one.table, one.task, one.language) for one in of_one} for of_one in figures)
    with_values = {(one.table, one.task, one.language) for of_one in figures for one in of_one if one.run is not None}
    reasons = (
        ("only in A", all_a - all_b),
        ("only in B", all_b - all_a),
        ("without values of its queries", (all_a & all_b) - with_values),
    )
    return [
        f"{table}: {task} ({language}), {reason}"
        for reason, places in reasons
        for table, task, language in sorted(places)
    ]


class RunReader:
    """Reads the values of queries of one evaluation; of files of `runs/`, it keeps the last."""

    def __init__(self, folder: Path) -> None:
        """Read from the folder of an evaluation."""
        self._folder = folder
        self._last: tuple[str | None, list[QueryScores]] = (None, [])

    def scores(self, figure: Figure) -> QueryScores:
        """The values that a figure is the mean or the correlation of.

        Raises:
            EvaluationError: the file is not there, is damaged, or does not have them.
        """
        name = str(figure.run)
        if self._last[0] != name:
            self._last = (name, read_run(self._folder, name))
        found = [one for one in self._last[1] if _key(one) == _key(figure)]
        if len(found) != 1:
            raise EvaluationError(
                f"{str(self._folder / name)!r} has {len(found)} lists of values for "
                f"{figure.task} {figure.language} {figure.metric}, not one"
            )
        return found[0]


def paired_values(pair: FigurePair, readers: tuple[RunReader, RunReader]) -> PairedValues:
    """The values of one figure's queries in both evaluations, in one order.

    Args:
        pair: the figure of A and of B.
        readers: of A and of B.

    Raises:
        EvaluationError: their queries are not the same.
    """
    figure, other = pair
    what = f"{figure.task} {figure.split} {figure.language} {figure.metric}"
    if figure.data_revision != other.data_revision:
        raise EvaluationError(
            f"{what}: the data differ, revision {figure.data_revision!r} of A and {other.data_revision!r} of B"
        )
    a, b = (reader.scores(one) for reader, one in zip(readers, pair, strict=True))
    _refuse_difference(f"{what}: the queries", set(a.query_ids), set(b.query_ids))
    at = {query: place for place, query in enumerate(b.query_ids)}
    order = [at[query] for query in a.query_ids]
    _refuse_difference(
        f"{what}: the clusters of queries",
        set(zip(a.query_ids, a.clusters, strict=True)),
        set(zip(b.query_ids, b.clusters, strict=True)),
    )
    golds = None if b.golds is None else [b.golds[place] for place in order]
    if a.golds != golds:
        raise EvaluationError(f"{what}: the similarities that people gave differ between A and B")
    return PairedValues(clusters=a.clusters, first=a.values, second=[b.values[place] for place in order], golds=a.golds)


def _refuse_difference(what: str, of_a: set[str] | set[tuple[str, str]], of_b: set[str] | set[tuple[str, str]]) -> None:
    if of_a == of_b:
        return
    named = [
        f"{len(own)} only in {name}, such as {', '.join(map(repr, sorted(own)[:_NAMED]))}"
        for name, own in (("A", of_a - of_b), ("B", of_b - of_a))
        if own
    ]
    raise EvaluationError(f"{what} differ: {'; '.join(named)}")


def _key(one: Figure | QueryScores) -> _Key:
    return one.task, one.split, one.metric, one.language
