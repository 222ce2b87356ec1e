"""Figures of an evaluation, and the values of its queries: what `results.json` and the files of `runs/` hold."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jclip_connectors.errors import EvaluationError
from jclip_connectors.store_kit.files import replace_file

Harness = Literal["clip_benchmark", "mteb"]
"""A program of others that computes the metrics."""

Variant = Literal["float32", "int8", "binary", "binary_rescored"]
"""How vectors are kept: in full; rounded to 8 bits; one bit a value; or one bit a value to find candidates, which the
full vectors then rank."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)
RESULTS_FILE, RUNS_FOLDER = "results.json", "runs"
_FORMAT = 1  # of both kinds of files
_OF_QUERIES = ("query_ids", "clusters")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value of a metric.

    Attributes:
        table: the name of the table that it belongs to.
        harness: what computed it.
        task: the data set or task, by the harness' own name.
        split: of the data.
        metric: by the harness' own name, such as "text_retrieval_recall@5".
        language: the harness' own name for the language or subset, such as "en".
        dimensions: length of the vectors.
        variant: how the vectors were kept.
        value: `None` where the metric is not defined.
        queries: how many values it is the mean of; for a correlation, the number of pairs.
        data_revision: a hash of the data that was used, and of the limit on their number.
        run: the file in `runs/` with the values of the queries, or `None`.
    """

    table: str
    harness: Harness
    task: str
    split: str
    metric: str
    language: str
    dimensions: int
    variant: Variant = "float32"
    value: float | None
    queries: int
    data_revision: str
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class QueryScores:
    """The values of one metric for every query of a task, which a comparison of two runs needs.

    Attributes:
        harness: what computed them; as in `Figure`, with `task`, `split`, `metric`, `language`, `dimensions`,
            `variant` and `data_revision`.
        query_ids: (Q,) names of the queries, unique.
        clusters: (Q,) queries of the same name here are not independent: the captions of one picture.
        values: (Q,) the metric of each query. For a correlation: the similarity of each pair.
        golds: (Q,) for a correlation, the similarity that people gave; else `None`.
    """

    harness: Harness
    task: str
    split: str
    metric: str
    language: str
    dimensions: int
    variant: Variant = "float32"
    data_revision: str
    query_ids: Sequence[str]
    clusters: Sequence[str]
    values: Sequence[float]
    golds: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """What `jclip eval` has found.

    Attributes:
        model: the model as it was asked for, with its revision, precision, runtime and weights' hash where known.
        tables: names of the tables that were asked for.
        data: "synthetic" if this program wrote the data, else "local" or "download".
        limit: the most pictures or queries of a task, or `None`.
        options: lengths, variants and the prefix for queries, as they were asked for.
        unfinished: names of the tables that were stopped or have failed.
        seconds: for each table, how long its tasks took.
        figures: all of them, in the order of the tables.
    """

    model: Mapping[str, Any]
    tables: Sequence[str]
    data: Literal["synthetic", "local", "download"]
    limit: int | None
    options: Mapping[str, Any]
    unfinished: Sequence[str]
    seconds: Mapping[str, float]
    figures: Sequence[Figure]


def write_run(out: Path, scores: Iterable[QueryScores]) -> str:
    """Write the values of one task, language, length and variant; returns the path of the file below `out`.

    Args:
        out: the folder of the evaluation.
        scores: one for each metric.
    """
    rows = list(scores)
    first = rows[0]
    place = f"{first.harness}-{first.task}-{first.split}-{first.language}-{first.dimensions}-{first.variant}"
    # Names of tasks may differ only in what a file name cannot hold.
    digest = hashlib.sha256(place.encode()).hexdigest()[:8]
    name = f"{RUNS_FOLDER}/{re.sub(r'[^A-Za-z0-9_.-]', '_', place)}-{digest}.json"
    (out / RUNS_FOLDER).mkdir(parents=True, exist_ok=True)
    queries: list[dict[str, Sequence[str]]] = []  # metrics of one direction have the same ones: each once
    written: list[dict[str, Any]] = []
    for row in rows:
        fields = dataclasses.asdict(row)
        own = {name: fields.pop(name) for name in _OF_QUERIES}
        if own not in queries:
            queries.append(own)
        written.append({**fields, "queries": queries.index(own)})
    _write(out / name, {"format": _FORMAT, "queries": queries, "scores": written})
    return name


def read_run(out: Path, name: str) -> list[QueryScores]:
    """Read a file of `runs/`; `name` is the `run` of a figure.

    Raises:
        EvaluationError: the file is not one that `write_run` wrote.
    """
    content = _read(out / name)
    try:
        return [QueryScores(**content["queries"][row.pop("queries")], **row) for row in content["scores"]]
    except (KeyError, TypeError, IndexError) as error:
        raise EvaluationError(f"{str(out / name)!r} is not a file of an evaluation's runs") from error


def write_results(out: Path, results: Results) -> None:
    """Write `results.json`."""
    _write(out / RESULTS_FILE, {"format": _FORMAT, **dataclasses.asdict(results)}, indent=1)


def read_results(out: Path) -> Results:
    """Read the `results.json` of the folder `out`.

    Raises:
        EvaluationError: there is no such file, or it is not one that `write_results` wrote.
    """
    content = _read(out / RESULTS_FILE)
    try:
        fields = {name: value for name, value in content.items() if name != "format"}
        return Results(**{**fields, "figures": [Figure(**figure) for figure in fields["figures"]]})
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"{str(out / RESULTS_FILE)!r} is not the result of an evaluation") from error


def defined(value: float) -> float | None:
    """The value of a figure: `None` for NaN, which JSON cannot hold."""
    return None if math.isnan(value) else float(value)


def _write(path: Path, content: Mapping[str, Any], *, indent: int | None = None) -> None:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)
    replace_file(path, (text + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise EvaluationError(f"there is no file {str(path)!r}: name the folder of an evaluation") from error
    except ValueError as error:
        raise EvaluationError(f"{str(path)!r} is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise EvaluationError(f"{str(path)!r} has the format {found!r}; this version reads {_FORMAT}")
    return content
