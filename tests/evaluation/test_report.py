"""The report of an evaluation."""

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.environment import write_environment
from jclip_connectors.evaluation.figures import write_results
from jclip_connectors.evaluation.report import REPORT_FILE, report, write_report
from jclip_connectors.evaluation.tables import find_table
from tests.evaluation.test_means import figure, results


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_main_table_has_our_value_the_published_one_and_the_difference():
    text = report(results(figure(value=0.979), seconds={"flickr30k": 12.34}), {})
    (line,) = [line for line in section(text, "Main table").splitlines() if "flickr30k" in line]
    for cell in ("0.9790", "0.9800", "\N{MINUS SIGN}0.0010", "release notes of jina-clip-v2", "clip_benchmark", "aaaa"):
        assert f" {cell} " in line
    assert "| Flickr30k, Karpathy's test split | 12.3 |" in section(text, "Time")


def test_a_difference_beyond_its_bar_is_marked():
    assert "too far" in report(results(figure(value=0.9)), {})
    assert "too far" not in report(results(figure(value=0.98)), {})


def test_other_models_stand_beside_ours():
    text = section(report(results(figure(value=0.979)), {}), "The models of the release notes")
    assert "| 0.9790 | 0.9800 | 0.9640 | 0.9710 | – | 0.9660 |" in text


def test_synthetic_data_are_shown_without_a_difference_or_other_models():
    text = report(results(figure(value=0.979), data="synthetic"), {})
    assert "The data are synthetic" in text
    assert "0.0010" not in text
    assert "models of the release notes" not in text


def test_an_unfinished_evaluation_says_so():
    assert "Incomplete" in report(results(figure(), unfinished=["coco"]), {})
    assert "Incomplete" not in report(results(figure()), {})


def test_shorter_vectors_show_what_they_keep_beside_the_published_share():
    text = report(results(figure(value=0.8), figure(value=0.72, dimensions=64)), {})
    assert "| 0.8000 (100.0 %) | 0.7200 (90.0 %) | 93.0 % |" in section(text, "Shorter vectors")


def test_rounded_vectors_show_their_bytes():
    text = report(results(figure(value=0.8), figure(value=0.4, variant="binary_rescored")), {})
    lines = section(text, "Rounded vectors").splitlines()
    assert "| 1024 | float32 | 4096 | 4096 | 0.8000 (100.0 %) |" in lines
    assert "| 1024 | binary, rescored | 128 | 4224 | 0.4000 (50.0 %) |" in lines
    assert "Rounded vectors" not in report(results(figure()), {})


def test_recall_of_mteb_is_explained_and_a_users_unexplained_run_is_told():
    tasks = [task for task in find_table("mieb").tasks if task.name == "MSCOCOT2IRetrieval"]
    figures = [figure("mieb", task.name, "default", metric=metric) for task in tasks for metric in task.metrics]
    text = report(results(*figures), {})
    assert "`hit_rate_at_5`" in text
    assert "a user got recall_at_5 0.5231" in text
    assert "`hit_rate_at_5`" not in report(results(figure()), {})


def test_the_report_is_written_beside_the_results(tmp_path):
    write_results(tmp_path, results(figure()))
    write_environment(tmp_path, {})
    write_report(tmp_path)
    text = (tmp_path / REPORT_FILE).read_text()
    assert text.startswith("# Evaluation of jinaai/jina-clip-v2\n")
    assert "clip-benchmark" in section(text, "Environment")


def test_there_is_no_report_without_results(tmp_path):
    with pytest.raises(EvaluationError, match=r"results\.json"):
        write_report(tmp_path)
