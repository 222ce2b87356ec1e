"""The process that computes tables with clip-benchmark: `python -m ... JOB.json`.

The harness' classes read the data once and its functions compute the metrics; in between, features are recorded, from
which every length and variant is cut.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jclip_connectors.errors import MissingDependencyError
from jclip_connectors.evaluation.clip_benchmark_folders import (
    WEBDATASET,
    DataFolder,
    folder_name,
    hub_address,
    limited,
)
from jclip_connectors.evaluation.clip_benchmark_synthetic import write_synthetic
from jclip_connectors.evaluation.figures import Figure, QueryScores, Variant, write_run
from jclip_connectors.evaluation.job import Events, Job, TaskRequest, serve_job
from jclip_connectors.evaluation.network_guard import forbid_network

if TYPE_CHECKING:  # the harness takes long to load, and prints
    from jclip_connectors.evaluation.clip_benchmark_reading import Reader
    from jclip_connectors.evaluation.clip_benchmark_scores import Score

    Compute = Callable[[int, Variant], list[Score]]


def run(job: Job, events: Events) -> None:
    """Compute every figure of a job.

    Raises:
        EvaluationError: data are missing or cannot be read, or the harness cannot load a baseline.
        MissingDependencyError: the harness is not installed.
        JinaClipError: the model cannot be loaded.
    """
    if job.synthetic:
        write_synthetic(job.data, job.tasks)
    if not job.download:  # before anything is loaded
        for task in job.tasks:
            for language in task.languages:
                _folder(job, task).check(language)
    try:
        from jclip_connectors.evaluation.clip_benchmark_features import open_features
        from jclip_connectors.evaluation.clip_benchmark_reading import Reader
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="eval") from error
    with open_features(job) as features:
        events.model(features.facts)
        if not job.download:  # the model itself may come from the hub
            forbid_network()
        reader = Reader(features, batch_size=job.batch_size, limit=job.limit, download=job.download)
        for task in job.tasks:
            started = time.monotonic()
            for language in task.languages:
                _evaluate(job, task, language, features.lengths, reader, events)
            events.spent(task.table, time.monotonic() - started)


def _folder(job: Job, task: TaskRequest) -> DataFolder:
    return DataFolder(task=task.task, split=task.split, root=job.data / folder_name(task.task))


def _evaluate(
    job: Job, task: TaskRequest, language: str, lengths: Sequence[int], reader: "Reader", events: Events
) -> None:
    """Read a data set in a language, and compute its figures."""
    folder = _folder(job, task)

    def progress(text: str) -> None:
        events.progress(f"{task.task} {language}: {text}")

    read = _read_classification if task.task.startswith(WEBDATASET) else _read_retrieval
    compute, revision = read(job, task, language, folder, reader, progress)
    for dimensions in lengths:
        for variant in job.variants:
            scores = compute(dimensions, variant)
            rows = [
                QueryScores(
                    harness="clip_benchmark",
                    task=task.task,
                    split=task.split,
                    metric=score.metric,
                    language=language,
                    dimensions=dimensions,
                    variant=variant,
                    data_revision=revision,
                    query_ids=score.query_ids,
                    clusters=score.clusters,
                    values=score.values.tolist(),
                )
                for score in scores
                if score.values is not None
            ]
            file = write_run(job.out, rows) if rows else None
            for score in scores:
                events.figure(
                    Figure(
                        table=task.table,
                        harness="clip_benchmark",
                        task=task.task,
                        split=task.split,
                        metric=score.metric,
                        language=language,
                        dimensions=dimensions,
                        variant=variant,
                        value=score.value,
                        queries=score.queries,
                        data_revision=revision,
                        run=None if score.values is None else file,
                    )
                )


def _read_retrieval(
    job: Job, task: TaskRequest, language: str, folder: DataFolder, reader: "Reader", progress: Callable[[str], None]
) -> tuple["Compute", str]:
    from jclip_connectors.evaluation.clip_benchmark_scores import retrieval_scores

    data = reader.retrieval(task.task, task.split, language, folder.root, progress)

    def compute(dimensions: int, variant: Variant) -> "list[Score]":
        return retrieval_scores(data, task.metrics, dimensions=dimensions, variant=variant, batch_size=job.batch_size)

    return compute, folder.revision(language, job.limit)


def _read_classification(
    job: Job, task: TaskRequest, language: str, folder: DataFolder, reader: "Reader", progress: Callable[[str], None]
) -> tuple["Compute", str]:
    from jclip_connectors.evaluation.clip_benchmark_scores import classification_scores

    streamed = job.download and not folder.root.exists()
    root = hub_address(task.task) if streamed else str(folder.root)
    data = reader.classification(task.task, task.split, language, root, progress)
    if streamed:  # there is no file to hash
        read = json.dumps([*data.classes, *data.templates, *data.labels.tolist()])
        revision = limited(hashlib.sha256(read.encode()).hexdigest(), job.limit)
    else:
        revision = folder.revision(language, job.limit)

    def compute(dimensions: int, variant: Variant) -> "list[Score]":
        return classification_scores(
            data, task.metrics, dimensions=dimensions, variant=variant, batch_size=job.batch_size
        )

    return compute, revision


if __name__ == "__main__":
    sys.exit(serve_job(run))
