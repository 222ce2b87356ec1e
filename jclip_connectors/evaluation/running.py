"""Running an evaluation: a process for each harness, and the files that come out of it."""

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from jclip_connectors.errors import EmbedInputError, EvaluationError, MissingDependencyError
from jclip_connectors.evaluation.environment import write_environment
from jclip_connectors.evaluation.figures import (
    RESULTS_FILE,
    Figure,
    Harness,
    Results,
    Variant,
    read_results,
    write_results,
)
from jclip_connectors.evaluation.job import Job, ModelChoice, TaskRequest, write_job
from jclip_connectors.evaluation.plots import write_plots
from jclip_connectors.evaluation.report import write_report
from jclip_connectors.evaluation.tables import Table, find_tables

_HARNESSES: tuple[Harness, ...] = ("clip_benchmark", "mteb")
_KNOWN_BY = MappingProxyType({"jclip": _HARNESSES, "open_clip": ("clip_benchmark",), "mteb": ("mteb",)})
_LAST_LINES = 5  # of a harness' log, in the error


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated.

    Attributes:
        model: the model.
        tables: names; "all" and "truncation" stand for several.
        out: the folder for results; it is made. Results of other tables that are there are kept; they must be of the
            same model, kind of data, limit and options.
        data: a folder with one folder for each data set, or "synthetic": drawn pictures and their captions in the real
            formats, below `out`.
        dimensions: lengths of vectors; `None` for the full length and all that the model was trained for.
        variants: how vectors are kept.
        download: whether a harness may fetch data that `data` lacks.
        limit: the most pictures or queries of a task, or `None`.
        query_prefix: "auto" gives the model's query prefix to the queries of text retrieval; "never" to none.
    """

    model: ModelChoice
    tables: Sequence[str]
    out: Path
    data: Path | Literal["synthetic"]
    dimensions: tuple[int, ...] | None = None
    variants: tuple[Variant, ...] = ("float32",)
    download: bool = False
    limit: int | None = None
    query_prefix: Literal["auto", "never"] = "auto"


def evaluate(evaluation: Evaluation, *, progress: Callable[[str], None] | None = None) -> Results:
    """Compute tables, and write results and a report of them into the folder of the evaluation.

    Each harness runs in a process of its own, one after the other. An evaluation that was stopped continues from the
    features that it has kept.

    Args:
        evaluation: what is evaluated.
        progress: gets a line about what is done now, many times.

    Returns:
        The results, with those of other tables that were in the folder.

    Raises:
        EmbedInputError: an unknown table, or a table of a harness that does not know the model.
        EvaluationError: data are missing, a harness failed, or the folder has results that do not belong together with
            the new ones. What was found until then is in `results.json`, with its table in `unfinished`.
        MissingDependencyError: a harness is not installed.
    """
    tables = find_tables(evaluation.tables)
    harnesses = [harness for harness in _HARNESSES if any(table.harness == harness for table in tables)]
    for table in tables:
        if table.harness not in _KNOWN_BY[evaluation.model.kind]:
            raise EmbedInputError(
                f"the table {table.name!r} is computed by {table.harness}, which does not load the model "
                f"{evaluation.model.kind}:{evaluation.model.source}"
            )
    for harness in harnesses:
        if find_spec(harness) is None:
            raise MissingDependencyError(harness, extra="eval")
    evaluation.out.mkdir(parents=True, exist_ok=True)
    before = _results_before(evaluation, tables)
    write_environment(evaluation.out, dataclasses.asdict(evaluation))
    found = _Found(progress, before)
    try:
        for harness in harnesses:
            _run_process(harness, _job(evaluation, [table for table in tables if table.harness == harness]), found)
    finally:
        results = _together(evaluation, tables, found, before)
        if found.figures:
            write_results(evaluation.out, results)
            write_plots(evaluation.out)
            write_report(evaluation.out)
    return results


class _Found:
    """What the processes have told so far."""

    def __init__(self, progress: Callable[[str], None] | None, before: Results | None) -> None:
        self.figures: list[Figure] = []
        self.model: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.finished: list[Harness] = []
        self.error: str | None = None
        self._progress = progress
        self._before = {} if before is None else before.model

    def hear(self, line: str) -> None:
        [(kind, content)] = json.loads(line).items()
        if kind == "figure":
            self.figures.append(Figure(**content))
        elif kind == "model":
            differing = [name for name in content if self._before.get(name, content[name]) != content[name]]
            if differing:
                raise EvaluationError(
                    f"the folder has results with another `{differing[0]}` of the model, "
                    f"{self._before[differing[0]]!r} (now {content[differing[0]]!r}): choose another folder"
                )
            self.model.update(content)
        elif kind == "spent":
            table, seconds = content
            self.seconds[table] = self.seconds.get(table, 0.0) + seconds
        elif kind == "error":
            self.error = content
        elif self._progress is not None:
            self._progress(content)


def _job(evaluation: Evaluation, tables: Sequence[Table]) -> Job:
    synthetic = evaluation.data == "synthetic"
    return Job(
        model=evaluation.model,
        dimensions=evaluation.dimensions,
        variants=evaluation.variants,
        tasks=tuple(
            TaskRequest(
                table=table.name, task=task.name, split=task.split, metrics=task.metrics, languages=task.languages
            )
            for table in tables
            for task in table.tasks
        ),
        data=(evaluation.out / "data" if synthetic else Path(evaluation.data)).resolve(),
        synthetic=synthetic,
        download=evaluation.download,
        limit=evaluation.limit,
        out=evaluation.out.resolve(),
        query_prefix=evaluation.query_prefix,
    )


def process_command(harness: Harness) -> list[str]:
    """The command of the process of a harness; the path of its job follows."""
    return [sys.executable, "-m", f"jclip_connectors.evaluation.{harness}_process"]


def _run_process(harness: Harness, job: Job, found: _Found) -> None:
    path, log = job.out / f"job-{harness}.json", job.out / f"{harness}.log"
    write_job(path, job)
    found.error = None
    with (
        log.open("wb") as chatter,
        subprocess.Popen(  # noqa: S603 (our own module)
            [*process_command(harness), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=chatter,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # an interrupt reaches it once, below
        ) as process,
    ):
        try:
            for line in process.stdout if process.stdout is not None else ():
                found.hear(line)
        except BaseException:
            process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            process.wait()  # it keeps its features first
            raise
    if found.error is not None:
        raise EvaluationError(found.error)
    if process.returncode != 0:
        lines = log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
        raise EvaluationError(
            f"{harness} stopped with exit code {process.returncode}; the end of {str(log)!r}: {' | '.join(lines)}"
        )
    found.finished.append(harness)


def _results_before(evaluation: Evaluation, tables: Sequence[Table]) -> Results | None:
    """The results that are in the folder, if the new ones belong beside them.

    Raises:
        EvaluationError: they do not; the message names what differs.
    """
    if not (evaluation.out / RESULTS_FILE).exists():
        return None
    before = read_results(evaluation.out)
    pairs: dict[str, tuple[object, object]] = {
        "model": (before.model.get("asked"), dataclasses.asdict(evaluation.model)),
        "kind of data": (before.data, _kind_of_data(evaluation)),
        "limit": (before.limit, evaluation.limit),
    }
    if set(before.tables) - {table.name for table in tables}:  # else all that is there is computed anew
        pairs["set of lengths, variants or query prefix"] = (before.options, _options(evaluation))
    differing = [name for name, (old, new) in pairs.items() if old != new]
    if differing:
        raise EvaluationError(f"{str(evaluation.out)!r} has results of another {differing[0]}: choose another folder")
    return before


def _options(evaluation: Evaluation) -> dict[str, Any]:
    lengths = evaluation.dimensions
    return {
        "dimensions": None if lengths is None else list(lengths),
        "variants": list(evaluation.variants),
        "query_prefix": evaluation.query_prefix,
    }


def _kind_of_data(evaluation: Evaluation) -> Literal["synthetic", "local", "download"]:
    if evaluation.data == "synthetic":
        return "synthetic"
    return "download" if evaluation.download else "local"


def _together(evaluation: Evaluation, tables: Sequence[Table], found: _Found, before: Results | None) -> Results:
    """The new results, with those of the folder that they do not replace."""
    finished = {table.name for table in tables if table.harness in found.finished}
    results = Results(
        model={**found.model, "asked": dataclasses.asdict(evaluation.model)},
        tables=[table.name for table in tables],
        data=_kind_of_data(evaluation),
        limit=evaluation.limit,
        options=_options(evaluation),
        unfinished=[table.name for table in tables if table.name not in finished],
        seconds=found.seconds,
        figures=found.figures,
    )
    if before is None:
        return results
    # What a run has not finished does not replace what an earlier one has.
    same = before.options == results.options
    kept = [
        name
        for name in before.tables
        if name not in results.tables or (same and name in results.unfinished and name not in before.unfinished)
    ]
    names = [*kept, *(name for name in results.tables if name not in kept)]
    return dataclasses.replace(
        results,
        tables=names,
        unfinished=[name for name in names if name in (before.unfinished if name in kept else results.unfinished)],
        seconds={name: (before if name in kept else results).seconds.get(name, 0.0) for name in names},
        figures=[
            *(figure for figure in before.figures if figure.table in kept),
            *(figure for figure in results.figures if figure.table not in kept),
        ],
    )
