"""`jclip eval`: what the command prints of an evaluation, `--expect`, and the comparison of two."""

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation import running
from jclip_connectors.evaluation.figures import write_results
from jclip_connectors.evaluation.report import write_report
from tests.cli.test_main import jclip, refusal
from tests.evaluation.test_means import figure, results
from tests.evaluation.written import Part, write_evaluation


@pytest.fixture
def evaluated(monkeypatch):
    """Let the command find these results, in place of a run of the harnesses."""

    def let_find(found, *, error=None):
        def evaluate(evaluation, *, progress):
            progress("flickr30k en: begins")
            write_results(evaluation.out, found)
            write_report(evaluation.out)
            if error is not None:
                raise error
            return found

        monkeypatch.setattr(running, "evaluate", evaluate)

    return let_find


def run_eval(tmp_path, *options, code=0):
    return jclip("eval", "flickr30k", "--model", "m", "--data", tmp_path, "--out", tmp_path, *options, code=code)


def test_the_main_table_and_the_place_of_the_report_are_told(tmp_path, evaluated):
    evaluated(results(figure(value=0.979)))
    out, messages = run_eval(tmp_path)
    (line,) = [line for line in out.splitlines() if "flickr30k" in line]
    for cell in ("0.9790", "0.9800", "\N{MINUS SIGN}0.0010", "release notes of jina-clip-v2"):
        assert cell in line
    assert str(tmp_path / "report.md") in messages


def test_a_model_without_published_figures_has_no_columns_for_them(tmp_path, evaluated):
    evaluated(results(figure(), model={"name": "nano"}))
    out, _ = run_eval(tmp_path)
    assert "ours" in out
    assert "published" not in out


def test_the_published_figures_are_found_or_the_command_fails_and_names_them(tmp_path, evaluated):
    evaluated(results(figure(value=0.978)))
    assert "1 of 1 figures that can be judged are as published" in run_eval(tmp_path, "--expect", "published")[1]
    evaluated(results(figure(value=0.97), figure(value=0.9, metric="image_retrieval_recall@5")))
    messages = run_eval(tmp_path, "--expect", "published", code=1)[1]
    assert (
        "not as published: flickr30k, text_retrieval_recall@5, en: 0.9700, published 0.9800: 0.0100 apart, "
        "allowed 0.005" in messages
    )
    assert "1 of 2 figures" in messages
    run_eval(tmp_path)  # unasked, nothing fails


def test_what_cannot_be_judged_is_refused_before_anything_is_computed(tmp_path):
    synthetic = ("eval", "flickr30k", "--model", "nano", "--data", "synthetic", "--expect", "published")
    assert "synthetic" in refusal(*synthetic, "--out", tmp_path)
    limited = ("eval", "flickr30k", "--model", "nano", "--data", tmp_path, "--expect", "published", "--limit", 9)
    assert "--limit" in refusal(*limited, "--out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_to_judge_is_not_a_success(tmp_path, evaluated):
    evaluated(results(figure(), model={"name": "nano"}))
    assert "can be judged" in run_eval(tmp_path, "--expect", "published", code=2)[1].splitlines()[-1]


def test_after_a_failure_the_report_of_what_is_done_is_named(tmp_path, evaluated):
    evaluated(results(figure(), unfinished=["flickr30k"]), error=EvaluationError("a harness stopped"))
    messages = run_eval(tmp_path, code=2)[1].splitlines()
    assert str(tmp_path / "report.md") in messages[-2]
    assert messages[-1] == "error: a harness stopped"


@pytest.fixture
def runs(tmp_path):
    a = write_evaluation(tmp_path / "a", [Part(values=[0.0] * 40)], model="first")
    b = write_evaluation(
        tmp_path / "b", [Part(values=[0.0, 1.0] * 20), Part(task="other", values=[1.0])], model="second"
    )
    return a, b


def test_two_evaluations_are_compared(runs):
    out, messages = jclip("eval", "compare", *runs)
    (line,) = [line for line in out.splitlines() if "flickr30k" in line]
    assert "+0.5000" in line
    for told in (
        "A is first",
        "B is second",
        "not compared: flickr30k: other (en), only in B",
        "B is better by 0.5000",
    ):
        assert told in messages


def test_a_comparison_is_written_where_it_is_asked_for(runs, tmp_path):
    jclip("eval", "compare", *runs, "--out", tmp_path / "c", "--metric", "text_retrieval_recall@5")
    assert "B is better" in (tmp_path / "c" / "comparison.md").read_text()
    assert (tmp_path / "c" / "comparison.json").exists()
    assert not (runs[0] / "comparison.md").exists()


def test_evaluations_that_cannot_be_compared_are_refused(runs, tmp_path):
    assert "nothing" in refusal("eval", "compare", runs[0], tmp_path / "nothing")
    assert "'acc1'" in refusal("eval", "compare", *runs, "--metric", "acc1")
