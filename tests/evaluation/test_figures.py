"""Results and runs are read as they were written."""

import dataclasses
import json

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.figures import (
    Figure,
    QueryScores,
    Results,
    defined,
    read_results,
    read_run,
    write_results,
    write_run,
)

SCORES = QueryScores(
    harness="mteb",
    task="vtab/a b",
    split="test",
    metric="ndcg_at_10",
    language="en",
    dimensions=64,
    data_revision="d",
    query_ids=["1", "é"],
    clusters=["x", "x"],
    values=[0.5, 1.0],
)


def figure(**fields):
    known = {"table": "coco", "harness": "mteb", "task": "t", "split": "test", "metric": "m", "language": "en"}
    return Figure(**{**known, "dimensions": 64, "value": 0.5, "queries": 2, "data_revision": "d", **fields})


def test_a_run_is_read_as_it_was_written(tmp_path):
    name = write_run(tmp_path, [SCORES, dataclasses.replace(SCORES, metric="hit", golds=[1.0, 2.0])])
    read = read_run(tmp_path, name)
    assert [one.metric for one in read] == ["ndcg_at_10", "hit"]
    assert read[0] == SCORES
    assert read[1].golds == [1.0, 2.0]


def test_a_run_has_the_names_of_queries_once_for_all_metrics(tmp_path):
    other = dataclasses.replace(SCORES, metric="text", query_ids=["3"], clusters=["y"], values=[0.0])
    rows = [SCORES, dataclasses.replace(SCORES, metric="hit"), other]
    name = write_run(tmp_path, rows)
    assert read_run(tmp_path, name) == rows
    assert len(json.loads((tmp_path / name).read_text())["queries"]) == 2


def test_tasks_whose_names_differ_by_a_sign_have_files_of_their_own(tmp_path):
    names = {write_run(tmp_path, [dataclasses.replace(SCORES, task=task)]) for task in ("a/b", "a b", "a_b")}
    assert len(names) == 3


def test_results_are_read_as_they_were_written(tmp_path):
    results = Results(
        model={"source": "nano"},
        tables=["coco"],
        data="local",
        limit=None,
        options={},
        unfinished=[],
        seconds={"coco": 1.5},
        figures=[figure(), figure(value=defined(float("nan")), variant="binary")],
    )
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert json.loads((tmp_path / "results.json").read_text())["figures"][1]["value"] is None


@pytest.mark.parametrize("content", ["[]", "{", '{"format": 99}', '{"format": 1, "figures": [{}]}'])
def test_a_file_of_something_else_is_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(EvaluationError, match=r"results\.json"):
        read_results(tmp_path)


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(EvaluationError, match=r"there is no file .*results\.json"):
        read_results(tmp_path)
