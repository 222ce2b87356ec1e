"""An evaluation runs a process for each harness, and keeps what it finds whatever becomes of the process."""

import dataclasses
import json
import os
import signal
import sys
import threading

import pytest

from jclip_connectors.errors import EmbedInputError, EvaluationError, MissingDependencyError
from jclip_connectors.evaluation import running
from jclip_connectors.evaluation.figures import read_results
from jclip_connectors.evaluation.job import ModelChoice
from jclip_connectors.evaluation.running import Evaluation, evaluate

# In place of a harness: a figure for each task, of the value that the file `value` has, and then what `end` says.
HARNESS = """
import os, sys, time
from pathlib import Path
from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.figures import Figure
from jclip_connectors.evaluation.job import serve_job

def run(job, events):
    print("a line of the harness")
    events.model({"weights_sha256": job.model.source, "precision": os.environ.get("PRECISION", "fp32")})
    for task in job.tasks:
        events.progress(f"{task.task}: begins")
        events.figure(Figure(table=task.table, harness="mteb", task=task.task, split="test", metric=task.metrics[0],
            language="en", dimensions=128, value=float(os.environ.get("VALUE", "0.5")), queries=1, data_revision="d"))
        events.spent(task.table, 1.5)
    end = os.environ.get("END")
    if end == "refuse":
        raise EvaluationError("the folder 'queries' is missing")
    if end == "die":
        sys.exit("out of luck")
    if end == "wait":
        events.progress("waiting")
        try:
            time.sleep(60)
        finally:
            Path(job.out, "features-are-kept").touch()

sys.exit(serve_job(run))
"""


@pytest.fixture
def harness(tmp_path, monkeypatch):
    script = tmp_path / "harness.py"
    script.write_text(HARNESS)
    monkeypatch.setattr(running, "process_command", lambda _harness: [sys.executable, str(script)])
    monkeypatch.setattr(running, "find_spec", lambda _name: object())


def evaluation(tmp_path, *tables, **fields):
    known = {"model": ModelChoice(source="nano"), "out": tmp_path / "out", "data": "synthetic"}
    return Evaluation(**{**known, "tables": tables, **fields})


@pytest.mark.usefixtures("harness")
def test_results_have_the_figures_of_every_table_and_the_time_that_each_took(tmp_path):
    told: list[str] = []
    results = evaluate(evaluation(tmp_path, "flickr30k", "mteb-sts-en"), progress=told.append)
    assert read_results(tmp_path / "out") == results
    assert results.unfinished == []
    assert results.data == "synthetic"
    assert {figure.table for figure in results.figures} == set(results.tables) == {"flickr30k", "mteb-sts-en"}
    assert results.seconds == {"flickr30k": 1.5, "mteb-sts-en": 15.0}
    assert "flickr30k: begins" in told
    assert "a line of the harness" in (tmp_path / "out" / "mteb.log").read_text()
    assert json.loads((tmp_path / "out" / "environment.json").read_text())["options"]["tables"]


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize(
    ("end", "message"), [("refuse", "the folder 'queries' is missing"), ("die", r"exit code 1; .*out of luck")]
)
def test_what_was_found_before_a_harness_failed_is_kept_and_called_incomplete(tmp_path, monkeypatch, end, message):
    monkeypatch.setenv("END", end)
    with pytest.raises(EvaluationError, match=message):
        evaluate(evaluation(tmp_path, "flickr30k"))
    results = read_results(tmp_path / "out")
    assert len(results.figures) == 1
    assert results.unfinished == ["flickr30k"]


@pytest.fixture
def interruptible():
    """A program that a shell has started in the background ignores the signal."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("harness", "interruptible")
def test_an_interrupt_lets_the_process_keep_its_features(tmp_path, monkeypatch):
    monkeypatch.setenv("END", "wait")

    def interrupt(line):
        if line == "waiting":
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        evaluate(evaluation(tmp_path, "flickr30k"), progress=interrupt)
    assert (tmp_path / "out" / "features-are-kept").exists()
    assert read_results(tmp_path / "out").unfinished == ["flickr30k"]


@pytest.mark.usefixtures("harness")
def test_a_table_that_is_computed_again_replaces_its_own_figures_and_no_others(tmp_path, monkeypatch):
    evaluate(evaluation(tmp_path, "flickr30k", "coco"))
    monkeypatch.setenv("VALUE", "0.75")
    results = evaluate(evaluation(tmp_path, "coco", "mteb-sts-en"))
    values = {figure.table: figure.value for figure in results.figures}
    assert values == {"flickr30k": 0.5, "coco": 0.75, "mteb-sts-en": 0.75}
    assert results.tables == ["flickr30k", "coco", "mteb-sts-en"]


@pytest.mark.usefixtures("harness")
def test_a_run_that_fails_replaces_nothing_and_one_that_is_continued_is_finished(tmp_path, monkeypatch):
    before = evaluate(evaluation(tmp_path, "flickr30k", "coco"))
    monkeypatch.setenv("END", "refuse")
    monkeypatch.setenv("VALUE", "0.75")
    with pytest.raises(EvaluationError):
        evaluate(evaluation(tmp_path, "coco", "xtd10"))
    results = read_results(tmp_path / "out")
    assert {figure.table: figure.value for figure in results.figures} == {"flickr30k": 0.5, "coco": 0.5, "xtd10": 0.75}
    assert results.unfinished == ["xtd10"]
    assert [figure for figure in results.figures if figure.table != "xtd10"] == before.figures
    monkeypatch.delenv("END")
    assert evaluate(evaluation(tmp_path, "xtd10")).unfinished == []


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("other", [{"dimensions": (64,)}, {"variants": ("int8",)}, {"query_prefix": "never"}])
def test_other_options_are_for_all_tables_of_a_folder(tmp_path, other):
    evaluate(evaluation(tmp_path, "flickr30k"))
    with pytest.raises(EvaluationError, match=r"another set of lengths.*: choose another folder"):
        evaluate(evaluation(tmp_path, "coco", **other))
    assert evaluate(evaluation(tmp_path, "flickr30k", "coco", **other)).tables == ["flickr30k", "coco"]


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize("other", [{"limit": 5}, {"model": ModelChoice(source="another")}, {"data": "local"}])
def test_results_of_another_model_limit_or_data_do_not_go_into_one_folder(tmp_path, other):
    evaluate(evaluation(tmp_path, "flickr30k"))
    before = read_results(tmp_path / "out")
    changed = {"data": tmp_path} if other.get("data") == "local" else other
    with pytest.raises(EvaluationError, match="choose another folder"):
        evaluate(dataclasses.replace(evaluation(tmp_path, "coco"), **changed))
    assert read_results(tmp_path / "out") == before


@pytest.mark.usefixtures("harness")
def test_results_of_other_weights_under_the_same_name_are_refused_when_the_model_is_loaded(tmp_path, monkeypatch):
    evaluate(evaluation(tmp_path, "flickr30k"))
    before = read_results(tmp_path / "out")
    monkeypatch.setenv("PRECISION", "int8")
    with pytest.raises(EvaluationError, match=r"another `precision` of the model, 'fp32' \(now 'int8'\)"):
        evaluate(evaluation(tmp_path, "coco"))
    assert read_results(tmp_path / "out") == before


@pytest.mark.parametrize(("model", "table"), [("open_clip:ViT-B-16,openai", "mieb"), ("mteb:a/b", "coco")])
def test_a_table_whose_harness_does_not_load_the_model_is_refused_before_anything_is_made(tmp_path, model, table):
    with pytest.raises(EmbedInputError, match=f"{table}.*does not load the model {model}"):
        evaluate(evaluation(tmp_path, table, model=ModelChoice.parse(model)))
    assert not (tmp_path / "out").exists()


def test_a_harness_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"mteb is not installed.*\[eval\]"):
        evaluate(evaluation(tmp_path, "mteb-sts-en"))


@pytest.mark.usefixtures("harness")
def test_a_report_is_written_even_of_an_evaluation_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("END", "refuse")
    with pytest.raises(EvaluationError):
        evaluate(evaluation(tmp_path, "mteb-sts-en"))
    assert "Incomplete" in next(tmp_path.rglob("report.md")).read_text()
