"""Rows of an evaluation beside the published figures, and which differences may be judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.figures import Results
from jclip_connectors.evaluation.markdown import number
from jclip_connectors.evaluation.means import Row, is_headline, lengths, table_rows
from jclip_connectors.evaluation.published import MEAN, PublishedFigure, find_published, mean_over_languages

# What the published figures call the tables whose tasks they do not list.
_GROUPS = MappingProxyType(
    {
        "mteb-retrieval-en": "MTEB English retrieval",
        "mteb-sts-en": "MTEB English STS",
        "mteb-retrieval-multi": "MTEB multilingual retrieval",
        "mteb-sts-multi": "MTEB multilingual STS",
    }
)
# Names under which the harnesses load models that have published figures.
_ALIASES = MappingProxyType(
    {
        "ViT-B-16-quickgelu,openai": "clip-vit-b16",
        "clip-vit-base-patch16": "clip-vit-b16",
        "nllb-clip-large-siglip,v1": "nllb-clip-large-siglip",
    }
)
MODELS = ("jina-clip-v2", "jina-clip-v1", "nllb-clip-large-siglip", "jina-embeddings-v3", "clip-vit-b16")
"""The models that have published figures."""

_BAR_OF_TASK, _BAR_OF_LANGUAGES = 0.005, 0.003
_JUDGED_TASKS = ("flickr30k", "mscoco_captions")
_ROUNDING = 1e-9

Standing = Literal["same", "assumed", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A published value for a row.

    Attributes:
        value: 0..1.
        source: where it was published.
        standing: "same" if harness, task, split, metric, length and languages are those of the row; "assumed" if the
            source does not list its tasks; "unknown" if it does not name its languages. Only "same" may be judged.
        revision: the model's commit, where the source names it.
    """

    value: float
    source: str
    standing: Standing
    revision: str | None


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A row and its published value.

    Attributes:
        row: of the evaluation.
        published: `None` if there is none.
        difference: the row's value minus the published one; `None` where data are synthetic or limited.
        bar: the most that the difference may be, either way; `None` where it is not judged.
    """

    row: Row
    published: Reference | None
    difference: float | None
    bar: float | None

    @property
    def failed(self) -> bool:
        """Whether the difference is larger than its bar."""
        return self.bar is not None and self.difference is not None and abs(self.difference) > self.bar + _ROUNDING

    @property
    def verdict(self) -> str:
        """What was found, and what was published, in plain words."""
        found = "undefined" if self.row.value is None else number(self.row.value)
        told = f"{self.row.table.name}, {self.row.metric}, {self.row.spoken}: {found}"
        if self.published is not None:
            told += f", published {number(self.published.value)}"
        if self.difference is not None and self.bar is not None:
            told += f": {number(abs(self.difference))} apart, allowed {self.bar}"
        return told


def model_name(results: Results) -> str:
    """The name of the model, or what was asked for if none was loaded."""
    return str(results.model.get("name") or results.model.get("asked", {}).get("source"))


def published_name(results: Results) -> str:
    """The short name by which published figures know the model."""
    last = model_name(results).rsplit("/", 1)[-1]
    return _ALIASES.get(last, last)


def is_comparable(results: Results) -> bool:
    """Whether the data are those of the published figures: neither synthetic nor limited."""
    return results.data != "synthetic" and results.limit is None


def main_rows(results: Results) -> list[Beside]:
    """What the release notes show, at the longest vectors: for a table of several tasks, their mean."""
    return [one for one in rows_beside(results) if is_headline(one.row)]


def rows_beside(results: Results) -> list[Beside]:
    """All rows at the longest vectors, beside the published values of the same model."""
    if not results.figures:
        return []
    model = published_name(results)
    return [_beside(results, row, model) for row in table_rows(results, dimensions=lengths(results)[0])]


def refuse_incomparable(data: Path | str, limit: int | None) -> None:
    """Refuse to judge figures of data that are not those of the published ones.

    Raises:
        EvaluationError: the data are "synthetic", or limited.
    """
    if data == "synthetic":
        raise EvaluationError("synthetic data cannot be judged by published figures: give the real ones with --data")
    if limit is not None:
        raise EvaluationError(f"data with a limit of {limit} cannot be judged by published figures: leave out --limit")


def judge(results: Results) -> list[Beside]:
    """The rows that can be judged by published values; `failed` tells which are too far from them.

    Raises:
        EvaluationError: no row of a table can be judged; the message says why.
    """
    refuse_incomparable(results.data, results.limit)
    judged = [one for one in rows_beside(results) if one.bar is not None]
    without = [name for name in results.tables if name not in {one.row.table.name for one in judged}]
    if without:
        raise EvaluationError(
            f"no figure of {published_name(results)!r} in {', '.join(without)} can be judged: published ones of "
            "flickr30k, coco, xm3600 and multilingual-coco are, at the model's full length and for all languages"
        )
    return judged


def reference(row: Row, model: str, dimensions: int) -> Reference | None:
    """The published value of a model for what a row is about, or `None`."""
    if row.of_tasks:
        group = _GROUPS.get(row.table.name)
        found = [] if group is None else _published(row, model, dimensions, group)
        return _first(found, "assumed")
    found = _published(row, model, dimensions, row.tasks[0])
    languages = frozenset(row.languages)
    same = [figure for figure in found if (figure.languages or frozenset([figure.language])) == languages]
    if same:
        return _first(same, "same")
    for source in dict.fromkeys(figure.source for figure in found):
        single = [figure for figure in found if figure.source == source and figure.language in languages]
        if {figure.language for figure in single} == languages:
            mean = mean_over_languages(single, languages)
            return Reference(value=mean, source=source, standing="same", revision=single[0].revision)
    return _first([figure for figure in found if figure.language == MEAN and figure.languages is None], "unknown")


def full_length(model: str) -> int:
    """The length of the vectors that a model's published figures are of."""
    return max(figure.dimensions for figure in find_published(model=model))


def _published(row: Row, model: str, dimensions: int, task: str) -> list[PublishedFigure]:
    return find_published(
        task=task,
        split=None if row.of_tasks else row.split,
        metric=row.metric,
        dimensions=dimensions,
        model=model,
        harness=row.table.harness,
    )


def _first(figures: Sequence[PublishedFigure], standing: Standing) -> Reference | None:
    if not figures:
        return None
    figure = figures[0]
    return Reference(value=figure.value, source=figure.source, standing=standing, revision=figure.revision)


def _beside(results: Results, row: Row, model: str) -> Beside:
    published = reference(row, model, row.dimensions)
    if published is None or row.value is None or not is_comparable(results):
        return Beside(row=row, published=published, difference=None, bar=None)
    bar = _bar(row) if published.standing == "same" else None
    return Beside(row=row, published=published, difference=row.value - published.value, bar=bar)


def _bar(row: Row) -> float | None:
    if row.language_set is not None:
        return _BAR_OF_LANGUAGES if row.language_set.published else None
    return _BAR_OF_TASK if row.tasks[0] in _JUDGED_TASKS and row.metric.endswith("_recall@5") else None
