"""mteb with our models, in processes of their own: mteb takes long to load, and reads the environment when it does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jclip_connectors.evaluation.job import Job, ModelChoice, TaskRequest, write_job
from jclip_connectors.evaluation.tables import find_tables
from tests.checkpoints import GOLDEN

ROOT = Path(__file__).parents[2]
TABLES = [table for table in find_tables(["all"]) if table.harness == "mteb"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def private(folder):
    """An environment whose home is `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MTEB_", "XDG_"))}
    return {**kept, "HOME": str(folder)}


def test_the_checks_that_need_mteb_hold(tmp_path):
    caches = {name: str(tmp_path / name) for name in ("HF_HOME", "MTEB_CACHE")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/evaluation/mteb_checks.py",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run(  # noqa: S603 (our own code)
        [*command, "-W", "default", "--basetemp", str(tmp_path / "checks")],
        cwd=ROOT,
        env={**private(tmp_path), **caches, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def test_every_table_runs_offline_with_both_goldens_and_keeps_its_caches(tmp_path):
    home, out = tmp_path / "home", tmp_path / "out"  # one for all: data and caches are made once
    home.mkdir()
    tasks = tuple(
        TaskRequest(table=table.name, task=task.name, split=task.split, metrics=task.metrics, languages=task.languages)
        for table in TABLES
        for task in table.tasks
    )
    out.mkdir()
    for source, length in ((str(GOLDEN / "public-v1-tiny"), 96), (str(GOLDEN / "public-v2-tiny"), 64)):
        job = Job(
            model=ModelChoice(source=source, device="cpu"),
            dimensions=(length,),
            variants=("float32",),
            tasks=tasks,
            data=out / "data",
            synthetic=True,
            download=False,
            limit=None,
            out=out,
        )
        write_job(out / "job.json", job)
        done = subprocess.run(  # noqa: S603 (our own code)
            [sys.executable, "-m", "jclip_connectors.evaluation.mteb_process", str(out / "job.json")],
            env=private(home),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        events = [json.loads(line) for line in done.stdout.splitlines()]
        figures = [event["figure"] for event in events if "figure" in event]
        for table in TABLES:
            assert {one["task"] for one in figures if one["table"] == table.name} == {task.name for task in table.tasks}
        assert all(one["value"] is not None for one in figures if one["metric"] != "cosine_spearman")
    written = {path.relative_to(home).parts[:3] for path in home.rglob("*") if path.is_file()}
    assert {place for place in written if place[1] in {"mteb", "huggingface"}} == set()
