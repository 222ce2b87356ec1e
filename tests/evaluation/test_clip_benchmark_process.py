"""What clip-benchmark's process does before it loads the harness."""

import io

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation import clip_benchmark_process
from jclip_connectors.evaluation.clip_benchmark_synthetic import write_synthetic
from jclip_connectors.evaluation.job import Events, Job, ModelChoice
from tests.evaluation.test_clip_benchmark_folders import requests


def run(tmp_path, **fields):
    job = Job(
        model=ModelChoice(source="there is no such model"),
        dimensions=None,
        variants=("float32",),
        data=tmp_path / "data",
        out=tmp_path / "out",
        limit=None,
        **{"tasks": tuple(requests("flickr30k", "xtd10")), "synthetic": False, "download": False, **fields},
    )
    clip_benchmark_process.run(job, Events(io.StringIO()))


def test_data_that_are_missing_for_the_last_task_are_named_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_benchmark_process, "forbid_network", lambda: None)  # it would last
    with pytest.raises(EvaluationError, match="flickr30k"):
        run(tmp_path)
    write_synthetic(tmp_path / "data", requests("flickr30k"), pictures=4)
    with pytest.raises(EvaluationError, match="xtd10-de"):
        run(tmp_path)
