"""The evaluation of tasks with mteb: data are read once, and every length and variant of vectors is scored."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mteb
from mteb.abstasks import AbsTask, AbsTaskRetrieval
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.results import TaskResult

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation import mteb_tasks
from jclip_connectors.evaluation.figures import Figure, QueryScores, Variant, defined, write_run
from jclip_connectors.evaluation.job import Events, Job, TaskRequest
from jclip_connectors.evaluation.mteb_data import repository, revision_of
from jclip_connectors.evaluation.mteb_synthetic import synthetic_languages, write_synthetic

CACHES = "caches"  # in the folder of an evaluation
Setting = tuple[int, Variant]
"""A length of vectors, and how they are kept."""


class Subject(Protocol):
    """What is evaluated."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """About the model, for the results."""

    @property
    def settings(self) -> Sequence[Setting]:
        """The lengths and variants of its vectors."""

    def model(self, setting: Setting) -> Any:  # noqa: ANN401 (any model of mteb)
        """The model of mteb that gives such vectors."""

    def new_data(self) -> None:
        """The next data are other ones."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What mteb has found for one setting."""

    setting: Setting
    scores: Mapping[str, float]
    queries: int
    revision: str
    values: mteb_tasks.Values | None = None


class TaskEvaluation:
    """Evaluates one task after another."""

    def __init__(self, job: Job, subject: Subject, events: Events) -> None:
        """Evaluate `subject`; its figures go to `events` as they come."""
        self._job = job
        self._subject = subject
        self._events = events
        self._revisions: dict[str, str] = {}  # of the data in each folder

    def run(self) -> None:
        """Evaluate every task of the job, once the data of all are found.

        Raises:
            EmbedInputError: mteb has no such task, split or language, or it is of a kind that is not evaluated.
            EvaluationError: data are missing or cannot be read, or mteb has no such metric.
        """
        self._check_data()
        for request in self._job.tasks:
            started = time.monotonic()
            self._evaluate(request)
            self._events.spent(request.table, time.monotonic() - started)

    def _check_data(self) -> None:
        for request in self._job.tasks:
            for part in mteb_tasks.parts(mteb_tasks.find_task(request.task)):
                folder = self._folder(part)
                if not (self._job.synthetic or self._job.download or folder.is_dir()):
                    raise EvaluationError(
                        f"the data of {part.metadata.name} are missing: put a copy of "
                        f"{part.metadata.dataset['path']!r} of the hub, or data in one of the other forms, into "
                        f"{str(folder)!r}"
                    )

    def _evaluate(self, request: TaskRequest) -> None:
        task = mteb_tasks.find_task(request.task)
        languages = list(request.languages or task.metadata.hf_subsets)
        if self._job.synthetic:
            for part in mteb_tasks.parts(task):
                write_synthetic(self._folder(part), part, split=request.split)
            languages = synthetic_languages(task, languages)
        for language in languages:
            if isinstance(task, AbsTaskAggregate):
                self._evaluate_parts(request, task, language)
            else:
                self._evaluate_one(request, task, language)

    def _evaluate_one(self, request: TaskRequest, task: AbsTask, language: str) -> None:
        opened, revision = self._open(task, request.split, language)
        for setting in self._settings(opened):
            result = self._result(opened, setting)
            self._tell(
                request,
                language,
                _Scored(
                    setting=setting,
                    scores=_scores(result, request.split, language),
                    queries=mteb_tasks.count(opened),
                    revision=revision,
                    values=opened.values,
                ),
            )

    def _evaluate_parts(self, request: TaskRequest, task: AbsTaskAggregate, language: str) -> None:
        """An aggregate of mteb is the mean of its tasks, not of all their queries, whose values are not kept."""
        results: dict[Setting, list[TaskResult]] = {}
        queries = 0
        digest = hashlib.sha256()
        for part in mteb_tasks.parts(task):
            opened, revision = self._open(part, request.split, language)
            queries += mteb_tasks.count(opened)
            digest.update(revision.encode())
            for setting in self._settings(opened):
                results.setdefault(setting, []).append(self._result(opened, setting))
        for setting, found in results.items():
            scores = _scores(task.combine_task_results(found), request.split, language)
            self._tell(
                request,
                language,
                _Scored(setting=setting, scores=scores, queries=queries, revision=digest.hexdigest()[:16]),
            )

    def _open(self, task: AbsTask, split: str, language: str) -> tuple[mteb_tasks.Remembering, str]:
        """Load the data of a task; returns the task over them and their revision."""
        job, name = self._job, task.metadata.name
        hub, folder = task.metadata.dataset["path"], self._folder(task)
        self._events.progress(f"{name} {language}: reading")
        self._subject.new_data()
        if folder.is_dir():
            if name not in self._revisions:
                self._revisions[name] = revision_of(folder, job.limit)
            revision, where = self._revisions[name], str(folder)
            place = repository(folder, task, split=split, revision=revision, converted=job.out / "converted")
        else:  # `check_data` has seen that it may be downloaded
            revision, where, place = f"{task.metadata.revision}-{job.limit}", hub, None
        opened = mteb_tasks.task_over(task, place, revision=revision, split=split, language=language)
        mteb_tasks.load(opened, where=where, cache=job.out / CACHES / "datasets" / revision)
        if job.limit is not None:
            mteb_tasks.limit(opened, job.limit)
        return opened, revision

    def _folder(self, task: AbsTask) -> Path:
        """The folder of a task's data."""
        return self._job.data / task.metadata.name

    def _settings(self, task: AbsTask) -> list[Setting]:
        """The lengths and variants that a task has: only a search has two stages."""
        searches = isinstance(task, AbsTaskRetrieval)
        return [setting for setting in self._subject.settings if searches or setting[1] != "binary_rescored"]

    def _result(self, task: AbsTask, setting: Setting) -> TaskResult:
        result = mteb.evaluate(
            self._subject.model(setting),
            task,
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": self._job.batch_size, "show_progress_bar": False},
        )
        return result.task_results[0]

    def _tell(self, request: TaskRequest, language: str, scored: _Scored) -> None:
        """Write the values of queries, and pass the figures on."""
        if absent := [metric for metric in request.metrics if metric not in scored.scores]:
            raise EvaluationError(f"mteb gives no {absent[0]!r} for {request.task}: it has {', '.join(scored.scores)}")
        length, variant = scored.setting
        place: dict[str, Any] = {
            "harness": "mteb",
            "task": request.task,
            "split": request.split,
            "language": language,
            "dimensions": length,
            "variant": variant,
            "data_revision": scored.revision,
        }
        of_queries = {} if scored.values is None else scored.values.of(request.metrics)
        rows = [
            QueryScores(
                **place,
                metric=metric,
                query_ids=scored.values.query_ids,
                clusters=scored.values.clusters,
                values=values,
                golds=scored.values.golds,
            )
            for metric, values in of_queries.items()
            if scored.values is not None
        ]
        run = write_run(self._job.out, rows) if rows else None
        for metric in request.metrics:
            self._events.figure(
                Figure(
                    **place,
                    table=request.table,
                    metric=metric,
                    value=defined(scored.scores[metric]),
                    queries=scored.queries,
                    run=run if metric in of_queries else None,
                )
            )


def _scores(result: TaskResult, split: str, language: str) -> Mapping[str, float]:
    """All metrics of one language."""
    [found] = [scores for scores in result.scores[split] if scores["hf_subset"] == language]
    return found
