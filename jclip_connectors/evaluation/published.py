"""Figures that others have published, each with its source: what our own are held against.

They are in `published.json`, beside this file. A figure may be judged by another only if harness, metric and languages
are the same: names of metrics repeat between the harnesses, and mean different things.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jclip_connectors.errors import EvaluationError

MEAN = "mean"
"""The `language` of a figure that is the mean over languages or tasks."""


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """A figure that somebody has published.

    Attributes:
        harness: the program that computed it: "clip_benchmark", "mteb", or "both" for a statement about everything.
        model: short name of the model, such as "jina-clip-v2".
        dimensions: length of the vectors.
        revision: the model's commit, where the source names it.
        harness_version: where the source names it.
        task: the data set or task, by the harness' own name; or what the source calls a group of them.
        split: of the data.
        metric: by the harness' own name; "retained ..." is the share of the value at full length.
        language: the harness' own name, or `MEAN`.
        languages: what a mean over languages is of; `None` for other figures, and where it is not known.
        data_revision: the data's commit, where the source names it.
        value: 0..1.
        source: where it was published.
        note: what a reader has to know about it.
        warning: it is known, and not understood: never a reference.
    """

    harness: str
    model: str
    dimensions: int
    revision: str | None
    harness_version: str | None
    task: str
    split: str
    metric: str
    language: str
    languages: frozenset[str] | None
    data_revision: str | None
    value: float
    source: str
    note: str | None
    warning: bool


def find_published(
    *,
    task: str | None = None,
    split: str | None = None,
    metric: str | None = None,
    language: str | None = None,
    dimensions: int | None = None,
    model: str | None = None,
    harness: str | None = None,
) -> list[PublishedFigure]:
    """The published figures that have all these properties; `None` stands for any.

    Where several sources have published one figure, the first is that of the model's own release notes. Warnings are
    left out: `published_warnings` has them.
    """
    wanted = {
        "task": task,
        "split": split,
        "metric": metric,
        "language": language,
        "dimensions": dimensions,
        "model": model,
        "harness": harness,
    }
    asked = {name: value for name, value in wanted.items() if value is not None}
    return [
        figure
        for figure in _all_figures()
        if not figure.warning and all(getattr(figure, name) == value for name, value in asked.items())
    ]


def published_warnings(*, model: str, task: str) -> list[PublishedFigure]:
    """Figures that a user got and nobody has explained; they are shown, and never a reference."""
    return [figure for figure in _all_figures() if figure.warning and (figure.model, figure.task) == (model, task)]


def mean_over_languages(figures: Iterable[PublishedFigure], languages: Iterable[str]) -> float:
    """The mean of the figures of these languages.

    Raises:
        EvaluationError: a language has no figure, or more than one.
    """
    by_language: dict[str, list[float]] = {}
    for figure in figures:
        by_language.setdefault(figure.language, []).append(figure.value)
    wanted = sorted(set(languages))
    unclear = [language for language in wanted if len(by_language.get(language, [])) != 1]
    if unclear or not wanted:
        raise EvaluationError(f"there is not exactly one published figure for the languages {unclear}")
    return sum(by_language[language][0] for language in wanted) / len(wanted)


@cache
def _all_figures() -> Sequence[PublishedFigure]:
    content = json.loads(files("jclip_connectors.evaluation").joinpath("published.json").read_bytes())
    columns: list[str] = content["columns"]
    return tuple(
        figure
        for row in content["rows"]
        for figure in _figures_of_row(dict(zip(columns, row, strict=True)), content["sources"], content["notes"])
    )


def _figures_of_row(row: dict[str, Any], sources: Sequence[str], notes: Sequence[str]) -> Iterable[PublishedFigure]:
    values: dict[str, float] = row.pop("values")
    languages = row.pop("languages")
    row["source"] = sources[row["source"]]
    row["note"] = None if row["note"] is None else notes[row["note"]]
    for language, value in values.items():
        yield PublishedFigure(
            **row, language=language, value=value, languages=None if languages is None else frozenset(languages)
        )
