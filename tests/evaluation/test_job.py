"""A process of a harness reads its job from a file, and tells what it finds on what was its stdout."""

import json
import subprocess
import sys

import pytest

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.evaluation.job import Job, ModelChoice, TaskRequest, read_job, write_job


def job(tmp_path, **fields):
    task = TaskRequest(table="coco", task="mscoco_captions", split="test", metrics=("a", "b"), languages=("en",))
    known = {"model": ModelChoice(source="nano"), "dimensions": (64, 16), "variants": ("float32",), "tasks": (task,)}
    return Job(
        **{
            **known,
            "data": tmp_path,
            "synthetic": False,
            "download": False,
            "limit": None,
            "out": tmp_path / "out",
            **fields,
        }
    )


@pytest.mark.parametrize("dimensions", [None, (64, 16)])
def test_a_job_is_read_as_it_was_written(tmp_path, dimensions):
    written = job(tmp_path, dimensions=dimensions)
    write_job(tmp_path / "job.json", written)
    assert read_job(tmp_path / "job.json") == written


def test_a_model_is_ours_unless_a_harness_is_named_first():
    assert ModelChoice.parse("jinaai/jina-clip-v2", revision="a").kind == "jclip"
    assert ModelChoice.parse("C:/models/clip") == ModelChoice(source="C:/models/clip")
    assert ModelChoice.parse("open_clip:ViT-B-16,openai") == ModelChoice(kind="open_clip", source="ViT-B-16,openai")
    assert ModelChoice.parse("mteb:jinaai/jina-embeddings-v3").source == "jinaai/jina-embeddings-v3"


@pytest.mark.parametrize("text", ["mteb:", "open_clip:ViT-B-16"])
def test_a_model_of_a_harness_without_its_name_is_refused(text):
    with pytest.raises(EmbedInputError, match=text):
        ModelChoice.parse(text)


SERVING = """
import sys
from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.job import serve_job

def run(job, events):
    print("chatter of the harness")
    events.progress(job.model.source)
    {then}

sys.exit(serve_job(run))
"""


@pytest.mark.parametrize(
    ("then", "code", "last"),
    [("pass", 0, {"progress": "nano"}), ("raise EvaluationError('no data')", 2, {"error": "no data"})],
)
def test_what_a_harness_prints_does_not_disturb_the_events(tmp_path, then, code, last):
    write_job(tmp_path / "job.json", job(tmp_path))
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SERVING.format(then=then), str(tmp_path / "job.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == last
    assert "chatter" in done.stderr
    assert "chatter" not in done.stdout
