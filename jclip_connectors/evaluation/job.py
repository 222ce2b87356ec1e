"""What the process of a harness is asked to do, and what it tells about it.

Each harness runs in a process of its own: importing one takes long, and both keep global state. The process reads a
`Job` from a file, and writes lines of JSON on what was its stdout; what the harness prints goes to stderr.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO

from core_encoder.errors import JinaClipError
from core_encoder.models import Precision, RuntimeChoice
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.evaluation.figures import Figure, Variant
from jclip_connectors.store_kit.files import replace_file

ModelKind = Literal["jclip", "open_clip", "mteb"]
_BASELINES: tuple[ModelKind, ...] = ("open_clip", "mteb")
NOT_DONE = 2  # the exit code of a process that could not do its job


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The model that is evaluated.

    Attributes:
        kind: "jclip" is ours; "open_clip" and "mteb" are models that the harness loads itself.
        source: a hub id, a folder or "nano"; "ARCHITECTURE,WEIGHTS" for open_clip; a name of mteb.
        revision: commit on the hub, or `None` for the pinned one.
        precision: of our model, as for `JinaClipEncoder.load`, like `runtime` and `device`.
    """

    kind: ModelKind = "jclip"
    source: str
    revision: str | None = None
    precision: Precision = "auto"
    runtime: RuntimeChoice = "auto"
    device: str | None = None

    @classmethod
    def parse(cls, text: str, **options: Any) -> "ModelChoice":  # noqa: ANN401 (the other fields)
        """Read `--model`: "nano", a folder or a hub id; "open_clip:ViT-B-16-quickgelu,openai"; "mteb:NAME".

        Raises:
            EmbedInputError: no name follows the prefix, or open_clip's has no weights.
        """
        kind, colon, name = text.partition(":")
        if not colon or kind not in _BASELINES:
            return cls(source=text, **options)
        if not name:
            raise EmbedInputError(f"the model {text!r} has no name behind {kind + ':'!r}")
        if kind == "open_clip" and "," not in name:
            raise EmbedInputError(f"the model {text!r} has no weights: write open_clip:ARCHITECTURE,WEIGHTS")
        return cls(kind=kind, source=name, **options)


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """A task of a table; `languages` are the harness' own names, and none stands for all that the task has."""

    table: str
    task: str
    split: str
    metrics: tuple[str, ...]
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process is asked to do.

    Attributes:
        model: the model.
        dimensions: lengths of vectors; `None` for the full length and all that the model was trained for.
        variants: how vectors are kept.
        tasks: in the order of the tables.
        data: a folder with one folder for each data set.
        synthetic: the process writes drawn pictures and their captions into `data` first, in the real formats.
        download: whether the harness may fetch data that are not in `data`.
        limit: the most pictures or queries of a task, or `None`.
        out: the folder for results.
        query_prefix: "auto" gives the model's query prefix to the queries of text retrieval; "never" to none.
        batch_size: pictures that are in memory together, and queries that a harness compares at once.
    """

    model: ModelChoice
    dimensions: tuple[int, ...] | None
    variants: tuple[Variant, ...]
    tasks: tuple[TaskRequest, ...]
    data: Path
    synthetic: bool
    download: bool
    limit: int | None
    out: Path
    query_prefix: Literal["auto", "never"] = "auto"
    batch_size: ClassVar[int] = 64

    @property
    def features(self) -> Path:
        """The folder for the features of texts and pictures, from which every length is cut."""
        return self.out / "features"


def write_job(path: Path, job: Job) -> None:
    """Write a job for the process that does it."""
    replace_file(path, json.dumps(dataclasses.asdict(job), default=str, indent=1).encode())


def read_job(path: Path) -> Job:
    """Read what `write_job` wrote."""
    fields: dict[str, Any] = json.loads(path.read_bytes())
    tasks = [
        TaskRequest(**{**task, "metrics": tuple(task["metrics"]), "languages": tuple(task["languages"])})
        for task in fields["tasks"]
    ]
    lengths = fields["dimensions"]
    return Job(
        **{
            **fields,
            "model": ModelChoice(**fields["model"]),
            "dimensions": None if lengths is None else tuple(lengths),
            "variants": tuple(fields["variants"]),
            "tasks": tuple(tasks),
            "data": Path(fields["data"]),
            "out": Path(fields["out"]),
        }
    )


class Events:
    """What a process tells the program that started it: one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def model(self, facts: Mapping[str, Any]) -> None:
        """What is known about the model once it is loaded: revision, precision, runtime, weights' hash."""
        self._tell("model", dict(facts))

    def figure(self, figure: Figure) -> None:
        """A figure is known."""
        self._tell("figure", dataclasses.asdict(figure))

    def progress(self, text: str) -> None:
        """What the process does now, such as "flickr30k en: pictures 64 of 1000"."""
        self._tell("progress", text)

    def spent(self, table: str, seconds: float) -> None:
        """A task of a table has taken so long."""
        self._tell("spent", [table, seconds])

    def error(self, message: str) -> None:
        """The job cannot be done."""
        self._tell("error", message)

    def _tell(self, kind: str, content: object) -> None:
        self._stream.write(json.dumps({kind: content}) + "\n")
        self._stream.flush()


def serve_job(run: Callable[[Job, Events], None]) -> int:
    """Do the job in the file that the first argument names; returns the exit code of the process.

    Errors of ours become a message for the program that started the process; any other is a traceback in its log.
    """
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # harnesses print
    events = Events(stream)
    try:
        run(read_job(Path(sys.argv[1])), events)
    except (JinaClipError, ConnectorError) as error:
        events.error(str(error))
        return NOT_DONE
    return 0
