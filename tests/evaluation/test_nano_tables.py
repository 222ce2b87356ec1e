"""Every table with nano, by the command and without a network: the figures of its card hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jclip_connectors.evaluation.figures import read_results, read_run
from jclip_connectors.evaluation.tables import find_tables

pytest.importorskip("clip_benchmark", reason="the extra 'eval' is not installed")
pytest.importorskip("datasets", reason="the extra 'eval' is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CARD = Path(__file__).parents[2] / "core_encoder" / "nano" / "README.md"
LENGTHS = (128, 64, 32, 16)
# A rank among 64 pictures may change where another processor rounds otherwise.
TOLERANCE = 0.02

# Python imports it before anything else, in every process: each look-up of another machine is written down.
GUARD = """
import os, sys

def audit(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        unix = event == "socket.connect" and not isinstance(address, tuple)
        if unix or str(host) in ("127.0.0.1", "::1", "localhost"):
            return
        with open(os.environ["ASKED"], "a") as file:
            file.write(f"{event} {arguments}\\n")

sys.addaudithook(audit)
"""


def evaluated(folder):
    """The folder of `jclip eval all`, in which no process has looked up another machine."""
    (folder / "sitecustomize.py").write_text(GUARD)
    environ = {**os.environ, "PYTHONPATH": str(folder), "ASKED": str(folder / "asked.txt")}
    lengths = ",".join(map(str, LENGTHS))
    command = [sys.executable, "-m", "jclip_connectors.cli.main", "eval", "all", "--model", "nano", "--dims", lengths]
    done = subprocess.run(  # noqa: S603
        [*command, "--data", "synthetic", "--out", str(folder / "out")],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (folder / "asked.txt").exists(), (folder / "asked.txt").read_text()
    return folder / "out"


def card_rows():
    """The rows of the card's tables: (table, metric) and the figure at each length."""
    section = CARD.read_text(encoding="utf-8").split("## Its tables")[1].split("\n## ")[0]
    rows = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] in {table.name for table in find_tables(["all"])}:
            rows[cells[0], cells[1]] = [float(cell) for cell in cells[2:]]
    return rows


def means(results):
    """For each table and metric of the card: at each length the mean over the languages of a task, then over tasks."""
    found: dict[tuple[str, str], dict[int, dict[str, list[float]]]] = {}
    for figure in results.figures:
        if figure.value is not None:
            of_metric = found.setdefault((figure.table, figure.metric), {})
            of_metric.setdefault(figure.dimensions, {}).setdefault(figure.task, []).append(figure.value)
    return {
        key: [
            sum(sum(values) / len(values) for values in by_length[length].values()) / len(by_length[length])
            for length in LENGTHS
        ]
        for key, by_length in found.items()
    }


def check_card(results):
    found = means(results)
    rows = card_rows()
    assert {table for table, _ in rows} == {table.name for table in find_tables(["all"])}
    for key, expected in rows.items():
        assert found[key] == pytest.approx(expected, abs=TOLERANCE), key


def check_tasks(results):
    assert results.unfinished == []
    assert results.data == "synthetic"
    assert set(results.seconds) == {table.name for table in find_tables(["all"])}
    asked = {
        (table.name, task.name, metric, length)
        for table in find_tables(["all"])
        for task in table.tasks
        for metric in task.metrics
        for length in LENGTHS
    }
    found = {(figure.table, figure.task, figure.metric, figure.dimensions) for figure in results.figures}
    assert asked <= found


def check_values_of_queries(out, results):
    checked = 0
    for figure in results.figures:
        if figure.run is None or figure.dimensions != 32:
            continue
        [scores] = [one for one in read_run(out, figure.run) if one.metric == figure.metric]
        if scores.golds is None:
            assert sum(scores.values) / len(scores.values) == pytest.approx(figure.value, abs=2e-5), figure
            checked += 1
    assert checked > 200


def check_files(out):
    names = {path.name for path in out.iterdir()}
    assert {"results.json", "environment.json", "runs", "features", "data"} <= names
    assert json.loads((out / "environment.json").read_text())["packages"]["mteb"]


def test_every_table_runs_offline_with_nano_and_the_figures_of_its_card_hold(tmp_path):
    # One test, since the command takes minutes: a fixture would be made in each process of the tests.
    out = evaluated(tmp_path)
    results = read_results(out)
    check_tasks(results)
    check_card(results)
    check_values_of_queries(out, results)
    check_files(out)
