"""The rows of tables: which figures each mean is of."""

import pytest

from jclip_connectors.evaluation.figures import Figure, Results
from jclip_connectors.evaluation.means import is_main, lengths, table_rows
from jclip_connectors.evaluation.tables import find_table


def figure(table="flickr30k", task=None, language="en", value=0.5, **fields):
    found = find_table(table)
    task = found.tasks[0].name if task is None else task
    return Figure(
        **{
            "table": table,
            "harness": found.harness,
            "task": task,
            "split": next(one.split for one in found.tasks if one.name == task),
            "metric": "text_retrieval_recall@5",
            "language": language,
            "dimensions": 1024,
            "value": value,
            "queries": 10,
            "data_revision": "aaaa",
            **fields,
        }
    )


def results(*figures, **fields):
    return Results(
        **{
            "model": {"name": "jinaai/jina-clip-v2", "revision": "e10d47f5"},
            "tables": list(dict.fromkeys(one.table for one in figures)),
            "data": "local",
            "limit": None,
            "options": {},
            "unfinished": [],
            "seconds": {},
            "figures": figures,
            **fields,
        }
    )


def test_a_table_of_one_language_has_the_figure_itself():
    (row,) = table_rows(results(figure(value=0.25)), dimensions=1024)
    assert (row.value, row.tasks, row.languages, row.spoken, row.of_tasks) == (
        0.25,
        ("flickr30k",),
        ("en",),
        "en",
        False,
    )


def test_each_language_set_has_a_mean_of_its_own():
    languages = find_table("xm3600").tasks[0].languages
    published, whole = find_table("xm3600").language_sets
    figures = [figure("xm3600", language=one, value=1.0 if one in published.languages else 0.0) for one in languages]
    rows = table_rows(results(*figures), dimensions=1024)
    assert [(row.spoken, row.value) for row in rows] == [("26 languages", 1.0), ("all 36 languages", 26 / 36)]
    assert [row.language_set for row in rows] == [published, whole]


def test_a_set_without_one_of_its_languages_has_no_mean():
    languages = [one for one in find_table("xm3600").tasks[0].languages if one != "quz"]
    rows = table_rows(results(*(figure("xm3600", language=one) for one in languages)), dimensions=1024)
    assert [row.spoken for row in rows] == ["26 languages"]


def test_the_mean_of_tasks_comes_first_and_each_task_counts_once():
    tasks = [task.name for task in find_table("classification").tasks]
    figures = [figure("classification", task, metric="acc1", value=at / 100) for at, task in enumerate(tasks)]
    first, *others = table_rows(results(*figures), dimensions=1024)
    assert (first.of_tasks, first.spoken) == (True, "mean of 37 tasks")
    assert first.value == pytest.approx(0.18)
    assert [row.tasks for row in others] == [(task,) for task in tasks]


def test_a_task_of_many_languages_weighs_as_much_as_any_other():
    table = find_table("mteb-sts-multi")
    figures = [
        figure("mteb-sts-multi", task.name, language, metric="cosine_spearman", value=1.0 if at == 0 else 0.0)
        for at, task in enumerate(table.tasks)
        for language in task.languages or ("default",)
    ]
    rows = table_rows(results(*figures), dimensions=1024)
    assert rows[0].of_tasks
    assert rows[0].value == pytest.approx(1 / len(table.tasks))


def test_an_unfinished_table_has_no_mean_of_tasks():
    tasks = [task.name for task in find_table("classification").tasks][:-1]
    rows = table_rows(results(*(figure("classification", task, metric="acc1") for task in tasks)), dimensions=1024)
    assert not any(row.of_tasks for row in rows)
    assert len(rows) == 36


def test_of_drawn_data_a_task_has_the_mean_of_the_languages_that_are_drawn():
    tasks = find_table("mteb-sts-multi").tasks
    figures = [
        figure("mteb-sts-multi", task.name, (*task.languages, "default")[0], metric="cosine_spearman") for task in tasks
    ]
    assert table_rows(results(*figures, data="synthetic"), dimensions=1024)[0].of_tasks
    assert not any(row.of_tasks for row in table_rows(results(*figures), dimensions=1024))


def test_a_metric_that_is_not_defined_for_a_task_is_averaged_over_the_others():
    tasks = [task.name for task in find_table("classification").tasks]
    figures = [
        figure("classification", task, metric="acc5", value=None if task == "wds/vtab/pcam" else 0.5) for task in tasks
    ]
    row = table_rows(results(*figures), dimensions=1024)[0]
    assert (row.value, row.spoken) == (0.5, "mean of 36 tasks")
    assert "wds/vtab/pcam" not in row.tasks


def test_lengths_and_variants_are_not_mixed():
    found = results(
        figure(value=0.9), figure(value=0.7, dimensions=64), figure(value=0.6, dimensions=64, variant="binary")
    )
    assert lengths(found) == [1024, 64]
    assert [row.value for row in table_rows(found, dimensions=64)] == [0.7]
    assert [row.value for row in table_rows(found, dimensions=64, variant="binary")] == [0.6]


def test_main_metrics_are_those_of_the_release_notes():
    metrics = ("text_retrieval_recall@5", "image_retrieval_recall@10", "acc1", "mean_per_class_recall", "ndcg_at_10")
    assert [metric for metric in metrics if is_main(metric)] == ["text_retrieval_recall@5", "acc1", "ndcg_at_10"]
