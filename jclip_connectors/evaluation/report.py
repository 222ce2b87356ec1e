"""`report.md`: the tables of an evaluation for people, beside the published figures."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jclip_connectors.evaluation.environment import ENVIRONMENT_FILE
from jclip_connectors.evaluation.figures import VARIANTS, Results, Variant, read_results
from jclip_connectors.evaluation.markdown import markdown_table, number, signed
from jclip_connectors.evaluation.means import Row, headline_groups, is_headline, lengths, table_rows
from jclip_connectors.evaluation.plots import can_plot, plot_names
from jclip_connectors.evaluation.published import find_published, published_warnings
from jclip_connectors.evaluation.references import (
    MODELS,
    Beside,
    Reference,
    full_length,
    is_comparable,
    model_name,
    published_name,
    reference,
    rows_beside,
)
from jclip_connectors.evaluation.tables import find_table
from jclip_connectors.evaluation.variants import bytes_kept, bytes_searched
from jclip_connectors.store_kit.files import replace_file

REPORT_FILE = "report.md"
_NONE = "\N{EN DASH}"
_MARKS = MappingProxyType({"same": "", "assumed": " (a)", "unknown": " (b)"})
_SHOWN_REVISION = 12  # characters

# What is said of a metric, and of which rows.
_METRIC_NOTES: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    (
        "mteb's `recall_at_5` is not the recall@5 of the papers where a picture has several captions: it divides by "
        "all of them. The papers' is `hit_rate_at_5`, and clip-benchmark's `text_retrieval_recall@5`.",
        lambda row: row.metric == "recall_at_5",
    ),
    (
        "The mean of acc5 leaves out sets of fewer than five classes, for which it is not defined.",
        lambda row: row.metric == "acc5" and row.of_tasks,
    ),
)

# The release notes tell what is kept of a value at 64 values; they name these groups of tasks.
_KEPT_LENGTH = 64
_KEPT = MappingProxyType(
    {
        ("flickr30k", "text_retrieval_recall@5"): "retained text_retrieval",
        ("coco", "text_retrieval_recall@5"): "retained text_retrieval",
        ("flickr30k", "image_retrieval_recall@5"): "retained image_retrieval",
        ("coco", "image_retrieval_recall@5"): "retained image_retrieval",
        ("classification", "acc1"): "retained accuracy top-1",
        ("classification", "acc5"): "retained accuracy top-5",
        ("mteb-retrieval-en", "ndcg_at_10"): "retained ndcg_at_10",
        ("mteb-sts-en", "cosine_spearman"): "retained cosine_spearman",
    }
)


def write_report(out: Path) -> None:
    """Write `report.md` from the `results.json` and `environment.json` of the folder `out`.

    Raises:
        EvaluationError: there are no results.
    """
    results = read_results(out)
    environment = json.loads((out / ENVIRONMENT_FILE).read_bytes()) if (out / ENVIRONMENT_FILE).exists() else {}
    replace_file(out / REPORT_FILE, report(results, environment, plots=plot_names(out, results)).encode())


def report(results: Results, environment: dict[str, Any], *, plots: Sequence[str] = ()) -> str:
    """The report as Markdown.

    Args:
        results: of an evaluation.
        environment: what `environment.json` has.
        plots: names of pictures beside the report.
    """
    beside = rows_beside(results)
    parts = [
        _head(results),
        _notes(results, beside),
        _main_table(beside),
        _other_models(beside if is_comparable(results) else []),
        _sweep(results),
        _variants(results),
        _details(beside),
        _plots(results, plots),
        _environment(results, environment),
    ]
    return "\n".join(line for part in parts for line in part)


def main_table(beside: Sequence[Beside]) -> list[list[str]]:
    """Rows of text, the heading first: what a terminal or a page shows."""
    heading = ["table", "what", "metric", "languages", "values", "ours", "published", "difference", "source"]
    return [
        heading,
        *(
            [
                one.row.table.name,
                "all tasks" if one.row.of_tasks else one.row.tasks[0],
                one.row.metric,
                one.row.spoken,
                str(one.row.dimensions),
                _value(one.row.value),
                _published(one.published),
                _NONE if one.difference is None else signed(one.difference) + (" too far" if one.failed else ""),
                _NONE if one.published is None else one.published.source,
            ]
            for one in beside
        ),
    ]


def _head(results: Results) -> Iterator[str]:
    model = results.model
    yield f"# Evaluation of {model_name(results)}"
    yield ""
    if results.unfinished:
        yield f"**Incomplete: {', '.join(results.unfinished)} was stopped or has failed, and tasks may be missing.**"
        yield ""
    for name, title in (
        ("revision", "Revision"),
        ("weights_sha256", "Hash of the weights"),
        ("precision", "Precision"),
        ("runtime", "Runtime"),
        ("device", "Device"),
    ):
        if model.get(name) is not None:
            yield f"- {title}: {model[name]}"
    data = {"synthetic": "synthetic, drawn by this program", "local": "a local folder", "download": "may be downloaded"}
    yield f"- Data: {data[results.data]}" + (f", at most {results.limit} of each task" if results.limit else "")
    yield ""


def _notes(results: Results, beside: Sequence[Beside]) -> Iterator[str]:
    """What a reader must know before the numbers."""
    notes = []
    if results.data == "synthetic":
        notes.append(
            "The data are synthetic: the values show that everything runs, and say nothing about the published ones. "
            "No difference is shown."
        )
    if results.limit is not None:
        notes.append(
            "The data are limited: the values are not comparable with the published ones. No difference is shown."
        )
    standings = {one.published.standing for one in beside if one.published is not None}
    if "assumed" in standings:
        notes.append("(a): the source does not list the tasks of this mean; the list here is assumed.")
    if "unknown" in standings:
        notes.append("(b): the source does not name the languages of this mean.")
    tables = [find_table(name) for name in results.tables]
    notes += [f"{table.title}: {' '.join(table.note.split())}" for table in tables if table.note is not None]
    notes += [note for note, applies in _METRIC_NOTES if any(applies(one.row) for one in beside)]
    revisions = {
        one.published.revision for one in beside if one.published is not None and one.published.revision is not None
    }
    ours = results.model.get("revision")
    for revision in sorted(revisions - {ours}):
        notes.append(f"Some published figures are of the model's revision {revision}; this one is {ours}.")
    for task in dict.fromkeys(one.row.tasks[0] for one in beside if not one.row.of_tasks):
        for figure in published_warnings(model=published_name(results), task=task):
            notes.append(f"{task}: a user got {figure.metric} {number(figure.value)} ({figure.source}); {figure.note}.")
    if notes:
        yield "## What to know"
        yield ""
        yield from (f"- {note}" for note in notes)
        yield ""


def _main_table(beside: Sequence[Beside]) -> Iterator[str]:
    yield "## Main table"
    yield ""
    shown = [one for one in beside if is_headline(one.row)]
    if not shown:
        yield "No table is complete."
        yield ""
        return
    heading, *rows = main_table(shown)
    heading = [*heading, "harness", "data revision"]
    for row, one in zip(rows, shown, strict=True):
        revisions = one.row.data_revisions
        row += [
            one.row.table.harness,
            revisions[0][:_SHOWN_REVISION] if len(revisions) == 1 else f"{len(revisions)} revisions",
        ]
    yield from markdown_table(heading, rows, text_columns=4)
    yield ""


def _other_models(beside: Sequence[Beside]) -> Iterator[str]:
    """The published figures of the release notes' models."""
    rows = []
    for one in (one for one in beside if is_headline(one.row)):
        published = [reference(one.row, model, full_length(model)) for model in MODELS]
        if any(published):
            place = [one.row.table.name, one.row.metric, one.row.spoken]
            rows.append([*place, _value(one.row.value), *map(_published, published)])
    if rows:
        yield "## The models of the release notes"
        yield ""
        yield "Ours, and what is published of other models at their full length."
        yield ""
        yield from markdown_table(["table", "metric", "languages", "ours", *MODELS], rows, text_columns=3)
        yield ""


def _sweep(results: Results) -> Iterator[str]:
    """What shorter vectors keep."""
    found = lengths(results)
    if len(found) < 2:
        return
    at = {length: {_place(row): row for row in table_rows(results, dimensions=length)} for length in found}
    rows = []
    for place, longest in at[found[0]].items():
        if is_headline(longest):
            kept = _published_share(longest)
            rows.append(
                [
                    longest.table.name,
                    longest.metric,
                    longest.spoken,
                    *(_with_share(at[length].get(place), longest) for length in found),
                    _NONE if kept is None else _share(kept),
                ]
            )
    yield "## Shorter vectors"
    yield ""
    yield f"In brackets: the share that is kept of the value with {found[0]} values. The last column is what the"
    yield f"release notes of jina-clip-v2 tell about {_KEPT_LENGTH} of its 1024 values, over groups of data sets."
    yield ""
    heading = ["table", "metric", "languages", *(str(length) for length in found), f"published at {_KEPT_LENGTH}"]
    yield from markdown_table(heading, rows, text_columns=3)
    yield ""


def _variants(results: Results) -> Iterator[str]:
    """What rounding keeps."""
    used = [variant for variant in VARIANTS if any(figure.variant == variant for figure in results.figures)]
    if used == ["float32"] or not used:
        return
    yield "## Rounded vectors"
    yield ""
    yield 'Every search reads the bytes of the column "searched"; rescoring keeps the float32 values as well, if only'
    yield "on disk. In brackets: the share that is kept of the longest float32 vectors' value. int8 has one scale for"
    yield "all values (127 stands for 1.0): a database that scales to the range of the data may lose less."
    yield ""
    found = lengths(results)
    by_setting = {
        (length, variant): {_place(row): row for row in table_rows(results, dimensions=length, variant=variant)}
        for length in found
        for variant in used
    }
    full = by_setting.get((found[0], "float32"), {})
    for group in headline_groups(row for rows in by_setting.values() for row in rows.values()):
        yield f"### {group[0].title}"
        yield ""
        heading = ["values", "kept as", "bytes searched", "bytes kept", *(row.metric for row in group)]
        rows = [
            [
                str(length),
                variant_name(variant),
                str(bytes_searched(length, variant)),
                str(bytes_kept(length, variant)),
                *(_with_share(of_setting.get(_place(row)), full.get(_place(row))) for row in group),
            ]
            for (length, variant), of_setting in by_setting.items()
            if of_setting
        ]
        yield from markdown_table(heading, rows, text_columns=0)
        yield ""


def variant_name(variant: Variant) -> str:
    """The name of a variant for people."""
    return variant.replace("_", ", ")


def _details(beside: Sequence[Beside]) -> Iterator[str]:
    """Each task, and what the release notes do not show."""
    shown = [one for one in beside if not is_headline(one.row)]
    if shown:
        heading, *rows = main_table(shown)
        yield "## Tasks and other metrics"
        yield ""
        yield from markdown_table(heading, rows, text_columns=4)
        yield ""


def _plots(results: Results, names: Sequence[str]) -> Iterator[str]:
    settings = {(figure.dimensions, figure.variant) for figure in results.figures}
    if not names and (len(settings) < 2 or can_plot()):
        return
    yield "## Plots"
    yield ""
    if not names:
        yield "There are none: they need matplotlib, which the extra `eval` brings."
        yield ""
    for name in names:
        yield f"![{name.removesuffix('.svg').replace('-', ' ')}]({name})"
        yield ""


def _environment(results: Results, environment: dict[str, Any]) -> Iterator[str]:
    if results.seconds:
        yield "## Time"
        yield ""
        rows = [[find_table(name).title, f"{seconds:.1f}"] for name, seconds in results.seconds.items()]
        yield from markdown_table(["table", "seconds"], rows, text_columns=1)
        yield ""
    if environment:
        yield "## Environment"
        yield ""
        yield f"- Python {environment['python']}, {environment['platform']}, {environment['processors']} processors"
        packages = environment["packages"].items()
        yield f"- {', '.join(f'{name} {version}' for name, version in packages if version is not None)}"
        yield ""


def _place(row: Row) -> tuple[str, str, str]:
    return row.table.name, row.what, row.metric


def _published_share(row: Row) -> float | None:
    metric = _KEPT.get((row.table.name, row.metric))
    found = [] if metric is None else find_published(model=MODELS[0], dimensions=_KEPT_LENGTH, metric=metric)
    return found[0].value if found else None


def _value(value: float | None) -> str:
    return _NONE if value is None else number(value)


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _with_share(row: Row | None, full: Row | None) -> str:
    if row is None or row.value is None:
        return _NONE
    if full is None or not full.value:
        return number(row.value)
    return f"{number(row.value)} ({_share(row.value / full.value)})"


def _published(found: Reference | None) -> str:
    return _NONE if found is None else number(found.value) + _MARKS[found.standing]
