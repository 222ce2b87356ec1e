"""The rows of a table: its figures, and their means over languages and tasks."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jclip_connectors.evaluation.figures import Figure, Results, Variant
from jclip_connectors.evaluation.tables import LanguageSet, Table, TableTask, find_table

# What the release notes do not show; it has a place in the report of its own.
_SECONDARY = ("recall@1", "recall@10", "mean_per_class_recall")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A value of a table at one length of vectors.

    Attributes:
        table: the table.
        what: the task, or which mean it is.
        tasks: the tasks that it is the mean of, by the harness' own names: those that the metric is defined for.
        split: of the data; of the first task, for a mean over tasks.
        metric: by the harness' own name.
        languages: the languages that it is the mean of, by the harness' own names; none for a mean over tasks.
        language_set: the set of the table that these are, or `None`.
        dimensions: length of the vectors.
        variant: how the vectors were kept.
        value: `None` where a figure is not defined.
        data_revisions: of the data, each once.
    """

    table: Table
    what: str
    tasks: tuple[str, ...]
    split: str
    metric: str
    languages: tuple[str, ...] = ()
    language_set: LanguageSet | None = None
    dimensions: int
    variant: Variant
    value: float | None
    data_revisions: tuple[str, ...]

    @property
    def of_tasks(self) -> bool:
        """Whether it is the mean over the tasks of its table."""
        return not self.languages

    @property
    def spoken(self) -> str:
        """The languages, for people."""
        if self.language_set is not None:
            return self.language_set.name
        if self.of_tasks:
            return f"mean of {len(self.tasks)} tasks"
        return self.languages[0] if len(self.languages) == 1 else f"{len(self.languages)} languages"

    @property
    def title(self) -> str:
        """The table and the languages, for a heading above several metrics."""
        return self.table.title if self.of_tasks else f"{self.table.title}, {self.spoken}"


def is_main(metric: str) -> bool:
    """Whether a metric is one of those that the release notes show."""
    return not metric.endswith(_SECONDARY)


def is_headline(row: Row) -> bool:
    """Whether a row is one that the release notes would show: for a table of several tasks, their mean."""
    return is_main(row.metric) and (row.of_tasks or not row.table.mean_of_tasks)


def headline_groups(rows: Iterable[Row]) -> list[list[Row]]:
    """For each table its headline rows of different metrics; with several language sets, those of the first."""
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        group = groups.setdefault(row.table.name, {}) if is_headline(row) else {}
        if not group or next(iter(group.values())).what == row.what:
            group.setdefault(row.metric, row)
    return [list(group.values()) for group in groups.values()]


def lengths(results: Results) -> list[int]:
    """The lengths of vectors that there are figures of, the longest first."""
    return sorted({figure.dimensions for figure in results.figures}, reverse=True)


def table_rows(results: Results, *, dimensions: int, variant: Variant = "float32") -> list[Row]:
    """The rows of all tables at one length of vectors.

    A table of several languages has one row for each of its language sets. A table of several tasks has the mean over
    all tasks that the metric is defined for, and then each task: the mean over its languages. A mean that lacks
    one of its figures has no row; only of synthetic data, which are not drawn in every language of a task, it is taken
    over what there is.

    Args:
        results: of an evaluation.
        dimensions: length of the vectors.
        variant: how they are kept.
    """
    figures: dict[tuple[str, str, str, str], dict[str, Figure]] = {}
    for figure in results.figures:
        if (figure.dimensions, figure.variant) == (dimensions, variant):
            place = figure.table, figure.task, figure.split, figure.metric
            figures.setdefault(place, {})[figure.language] = figure
    rows: list[Row] = []
    for table in map(find_table, results.tables):
        for metric in dict.fromkeys(metric for task in table.tasks for metric in task.metrics):
            tasks = [task for task in table.tasks if metric in task.metrics]
            of_tasks = [
                (task, found)
                for task in tasks
                if (found := figures.get((table.name, task.name, task.split, metric))) is not None
            ]
            if results.data == "synthetic":
                of_tasks = [(dataclasses.replace(task, languages=()), found) for task, found in of_tasks]
            rows += _rows(table, metric, len(tasks), of_tasks)
    return sorted(rows, key=lambda row: (results.tables.index(row.table.name), not row.of_tasks))


def _rows(table: Table, metric: str, count: int, tasks: Sequence[tuple[TableTask, dict[str, Figure]]]) -> Iterable[Row]:
    """The rows of one metric; `count` is how many tasks have it."""
    if table.language_sets:
        for task, found in tasks:
            for one in table.language_sets:
                if set(one.languages) <= set(found):
                    of_set = [found[language] for language in one.languages]
                    yield _row(table, metric, one.name, task, of_set, language_set=one)
        return
    rows = [
        _row(table, metric, task.name, task, [found[language] for language in task.languages or found])
        for task, found in tasks
        if set(task.languages) <= set(found)
    ]
    if table.mean_of_tasks and rows and len(rows) == count:
        # A metric such as acc5 is not defined for a set of two classes.
        having = [row for row in rows if row.value is not None]
        yield Row(
            table=table,
            what="all tasks",
            tasks=tuple(row.what for row in having),
            split=rows[0].split,
            metric=metric,
            dimensions=rows[0].dimensions,
            variant=rows[0].variant,
            value=_mean([row.value for row in having]),
            data_revisions=_each_once(revision for row in having for revision in row.data_revisions),
        )
    yield from rows


def _row(
    table: Table,
    metric: str,
    what: str,
    task: TableTask,
    figures: Sequence[Figure],
    *,
    language_set: LanguageSet | None = None,
) -> Row:
    return Row(
        table=table,
        what=what,
        tasks=(task.name,),
        split=task.split,
        metric=metric,
        languages=tuple(figure.language for figure in figures),
        language_set=language_set,
        dimensions=figures[0].dimensions,
        variant=figures[0].variant,
        value=_mean([figure.value for figure in figures]),
        data_revisions=_each_once(figure.data_revision for figure in figures),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined and len(defined) == len(values) else None


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
