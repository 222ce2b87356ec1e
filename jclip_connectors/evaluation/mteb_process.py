"""The process that computes tables with mteb: `python -m jclip_connectors.evaluation.mteb_process JOB.json`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jclip_connectors.errors import MissingDependencyError
from jclip_connectors.evaluation.encoder_loading import load_encoder
from jclip_connectors.evaluation.features import CachedEncoder
from jclip_connectors.evaluation.job import Events, Job, serve_job
from jclip_connectors.evaluation.network_guard import forbid_network

if TYPE_CHECKING:  # mteb takes long to load, and reads the environment when it does
    from jclip_connectors.evaluation.mteb_evaluation import Subject


def run(job: Job, events: Events) -> None:
    """Compute every figure of a job.

    Raises:
        EmbedInputError: mteb does not know a task or a model.
        EvaluationError: data are missing or cannot be read, or mteb cannot load a baseline.
        MissingDependencyError: mteb is not installed.
        JinaClipError: the model cannot be loaded.
    """
    _keep_caches_in(job.out / "caches")
    if job.model.kind == "mteb":
        _evaluate(job, events, _baseline)
        return
    with CachedEncoder(load_encoder(job.model), job.features) as encoder:  # the model itself may come from the hub

        def ours(job: Job) -> "Subject":
            from jclip_connectors.evaluation.mteb_sweep import OurModel

            return OurModel(job, encoder)

        _evaluate(job, events, ours)


def _evaluate(job: Job, events: Events, subject_of: "Callable[[Job], Subject]") -> None:
    if not job.download:
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    try:
        from jclip_connectors.evaluation.mteb_evaluation import TaskEvaluation

        subject = subject_of(job)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="eval") from error
    events.model(subject.facts)
    if not job.download:
        forbid_network()
    TaskEvaluation(job, subject, events).run()


def _baseline(job: Job) -> "Subject":
    from jclip_connectors.evaluation.mteb_baseline import Baseline

    return Baseline(job)


def _keep_caches_in(folder: Path) -> None:
    """Let what libraries keep be in a folder of the evaluation, but for models: those are in the user's own cache.

    Source: huggingface_hub.constants and datasets.config, for the names of variables and their defaults.
    """
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    models = os.environ.get("HUGGINGFACE_HUB_CACHE", str((home / "hub").expanduser()))
    os.environ.setdefault("HF_HUB_CACHE", models)
    os.environ.setdefault("HF_TOKEN_PATH", str((home / "token").expanduser()))
    os.environ["HF_HOME"] = str(folder / "huggingface")
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    os.environ["HF_MODULES_CACHE"] = str(folder / "modules")
    os.environ["MTEB_CACHE"] = str(folder / "mteb")
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"


if __name__ == "__main__":
    sys.exit(serve_job(run))
