"""Comparing two evaluations: what is found, and what is refused."""

import dataclasses

import numpy as np
import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.comparison import compare_runs
from jclip_connectors.evaluation.comparison_report import comparison_report, write_comparison
from jclip_connectors.evaluation.figures import read_results, write_results
from jclip_connectors.evaluation.paired_runs import left_out
from jclip_connectors.evaluation.tables import find_table
from tests.evaluation.written import Part, write_evaluation

RNG = np.random.default_rng(11)
PICTURES = 60
CAPTIONS = [f"p{at}" for at in range(PICTURES) for _ in range(5)]


def answers(share, count=5 * PICTURES, seed=0):
    return (np.random.default_rng(seed).random(count) < share).astype(float)


def retrieval(values, **fields):
    return Part(values=values, metric="image_retrieval_recall@5", clusters=CAPTIONS, **fields)


def compared(tmp_path, parts_a, parts_b, **options):
    a, b = write_evaluation(tmp_path / "a", parts_a), write_evaluation(tmp_path / "b", parts_b)
    return compare_runs(a, b, **options)


def test_an_evaluation_equals_itself(tmp_path):
    parts = [
        retrieval(answers(0.7)),
        Part(values=answers(0.5, 40), golds=answers(0.5, 40, 1), metric="cosine_spearman"),
    ]
    found = compared(tmp_path, parts, parts)
    assert [(row.difference, row.low, row.high, row.p, row.p_holm) for row in found] == [(0, 0, 0, 1, 1)] * 2
    assert all(row.verdict.endswith("A and B are equal.") for row in found)


def test_a_better_retrieval_is_shown(tmp_path):
    worse = answers(0.6)
    better = np.maximum(worse, answers(0.5, seed=1))
    (found,) = compared(tmp_path, [retrieval(worse)], [retrieval(better)])
    assert (found.a, found.b) == (worse.mean(), better.mean())
    assert found.low < found.difference < found.high
    assert found.p_holm < 0.01
    assert "B is better by" in found.verdict
    (part,) = found.parts
    assert (part.queries, part.clusters) == (300, 60)


def test_a_worse_classification_is_shown(tmp_path):
    fields = {"table": "classification", "task": "wds/mnist", "metric": "acc1"}
    right = answers(0.9, 500)
    found = compared(tmp_path, [Part(values=right, **fields)], [Part(values=right * answers(0.9, 500, 1), **fields)])
    assert [(row.table, row.metric) for row in found] == [("classification", "acc1")]
    assert "A is better by" in found[0].verdict


def test_a_small_difference_is_not_shown(tmp_path):
    values = answers(0.6)
    (found,) = compared(tmp_path, [retrieval(values)], [retrieval(np.roll(values, 150))])
    assert found.p_holm > 0.05
    assert "no difference is shown" in found.verdict


def test_the_order_of_queries_does_not_matter(tmp_path):
    values = answers(0.6)
    names = [f"q{at}" for at in range(len(values))]
    part = retrieval(values)
    turned = dataclasses.replace(part, values=values[::-1], query_ids=names[::-1], clusters=CAPTIONS[::-1])
    (found,) = compared(tmp_path, [part], [turned])
    assert found.p == 1
    assert found.difference == 0


def test_tables_are_corrected_for_their_number(tmp_path):
    worse = answers(0.5, seed=2)
    better = worse.copy()
    better[np.flatnonzero(worse == 0)[:7]] = 1
    tables = ["flickr30k", "coco", "xtd10"]
    found = compared(
        tmp_path,
        [retrieval(worse, table=table, task=table) for table in tables],
        [retrieval(better if table == "coco" else worse, table=table, task=table) for table in tables],
    )
    by_table = {row.table: row for row in found}
    assert 0 < by_table["coco"].p < 0.05
    assert by_table["coco"].p_holm == pytest.approx(3 * by_table["coco"].p)
    assert by_table["flickr30k"].p_holm == 1


def test_a_tables_value_is_the_mean_of_its_tasks_and_of_each_the_mean_of_its_languages(tmp_path):
    def parts(gain):
        table = {"table": "mteb-sts-multi", "harness": "mteb", "metric": "accuracy"}
        return [
            Part(values=[0.2 + gain] * 9, task="one", language="de", **table),
            Part(values=[0.4 + gain] * 9, task="one", language="fr", **table),
            Part(values=[0.9] * 9, task="two", **table),
        ]

    (found,) = compared(tmp_path, parts(0.0), parts(0.1))
    assert found.a == pytest.approx((0.3 + 0.9) / 2)
    assert found.difference == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    assert [(part.task, part.language) for part in found.parts] == [("one", "de"), ("one", "fr"), ("two", "en")]


def test_lengths_that_both_have_are_compared_and_the_full_ones(tmp_path):
    def at(*lengths):
        return [retrieval(answers(0.6, seed=length), dimensions=length) for length in lengths]

    found = compared(tmp_path, at(1024, 64), at(768, 64))
    assert [(row.dimensions_a, row.dimensions_b) for row in found] == [(1024, 768), (64, 64)]


def test_variants_are_compared_with_themselves(tmp_path):
    parts = [retrieval(answers(0.6), variant=variant) for variant in ("float32", "int8")]
    found = compared(tmp_path, parts, parts[:1])
    assert [row.variant for row in found] == ["float32"]


def test_one_metric_can_be_chosen(tmp_path):
    ndcg = Part(values=answers(0.6, 9), harness="mteb", metric="ndcg_at_10")
    parts = [ndcg, retrieval(answers(0.6), task="other")]
    assert [row.metric for row in compared(tmp_path, parts, parts, metric="ndcg@10")] == ["ndcg_at_10"]
    with pytest.raises(EvaluationError, match=r"'map'.*flickr30k \(ndcg_at_10\)"):
        compared(tmp_path, parts, parts, metric="map")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data_revision": "bbbb2222"}, "'aaaa1111' of A and 'bbbb2222' of B"),
        ({"query_ids": [f"r{at}" for at in range(300)]}, "the queries differ: 300 only in A, such as 'q0'"),
        ({"clusters": ["p0"] * 300}, "the clusters of queries differ"),
        ({"golds": answers(0.5, seed=3)}, "people gave differ"),
        ({"metric": "ndcg_at_10"}, r"A has flickr30k \(image_retrieval_recall@5\); B has flickr30k \(ndcg_at_10\)"),
        ({"table": "coco"}, r"B has coco"),
        ({"variant": "int8"}, "no values of queries in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, change, said):
    part = retrieval(answers(0.6))
    with pytest.raises(EvaluationError, match=said):
        compared(tmp_path, [part], [dataclasses.replace(part, **change)])


def test_fewer_queries_are_refused(tmp_path):
    part = retrieval(answers(0.6))
    short = dataclasses.replace(part, values=part.values[:-1], clusters=CAPTIONS[:-1])
    with pytest.raises(EvaluationError, match="1 only in A, such as 'q299'"):
        compared(tmp_path, [part], [short])


def test_other_limits_are_refused(tmp_path):
    parts = [retrieval(answers(0.6))]
    a, b = write_evaluation(tmp_path / "a", parts), write_evaluation(tmp_path / "b", parts, limit=100)
    with pytest.raises(EvaluationError, match="limits, None and 100"):
        compare_runs(a, b)


def test_a_file_of_values_that_lacks_a_metric_is_named(tmp_path):
    a = write_evaluation(tmp_path / "a", [retrieval(answers(0.6))])
    b = write_evaluation(tmp_path / "b", [retrieval(answers(0.6))])
    (run,) = (b / "runs").iterdir()
    run.write_text(run.read_text().replace("image_retrieval_recall@5", "other"))
    with pytest.raises(EvaluationError, match=f"{run.name}.* has 0 lists of values"):
        compare_runs(a, b)


def test_what_only_one_evaluation_has_is_said(tmp_path):
    shared = retrieval(answers(0.6))
    a = write_evaluation(tmp_path / "a", [shared, retrieval(answers(0.6), table="coco", task="mscoco_captions")])
    b = write_evaluation(tmp_path / "b", [shared, dataclasses.replace(shared, language="de")])
    assert left_out(a, b) == ["coco: mscoco_captions (en), only in A", "flickr30k: flickr30k (de), only in B"]


def test_a_task_without_values_of_its_queries_is_named(tmp_path):
    for name in "ab":
        write_evaluation(tmp_path / name, [retrieval(answers(0.5))])
        results = read_results(tmp_path / name)
        aggregate = dataclasses.replace(results.figures[0], task="CQADupstackRetrieval", run=None)
        write_results(tmp_path / name, dataclasses.replace(results, figures=[*results.figures, aggregate]))
    [told] = left_out(tmp_path / "a", tmp_path / "b")
    assert told.endswith("CQADupstackRetrieval (en), without values of its queries")


def test_a_mean_over_languages_is_over_those_of_the_release_notes(tmp_path):
    table = find_table("multilingual-coco")
    for name, right in (("a", 0.0), ("b", 1.0)):
        parts = [
            Part(
                table=table.name,
                task="multilingual_mscoco_captions",
                language=language,
                values=[right if language == "jp" else 0.5] * 50,
            )
            for language in table.tasks[0].languages
        ]
        write_evaluation(tmp_path / name, parts)
    [row] = compare_runs(tmp_path / "a", tmp_path / "b")
    assert (row.a, row.b, row.languages) == (0.5, 0.5, "10 languages, without jp")
    assert len(row.parts) == 11
    assert "10 languages" in row.verdict


def test_equal_comparisons_give_equal_files(tmp_path):
    parts = [retrieval(answers(0.6)), retrieval(answers(0.6, seed=4), language="de")]
    others = [retrieval(answers(0.7, seed=5)), retrieval(answers(0.7, seed=6), language="de")]
    for name in ("one", "two"):
        write_comparison(tmp_path / name, compared(tmp_path / f"{name}-runs", parts, others), notes=["A is nano"])
    for file in ("comparison.json", "comparison.md"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_report_has_a_verdict_a_row_and_the_parts(tmp_path):
    worse = [retrieval(answers(0.5, seed=at), language=at_language) for at, at_language in enumerate(("de", "fr"))]
    better = [dataclasses.replace(part, values=np.maximum(part.values, answers(0.5, seed=9))) for part in worse]
    found = compared(tmp_path, worse, better)
    report = comparison_report(found, notes=["A is nano"]).splitlines()
    assert report[2] == "- A is nano"
    assert f"- {found[0].verdict}" in report
    rows = [line for line in report if line.startswith("| flickr30k | image_retrieval_recall@5 | 128 | float32 | 0.")]
    assert len(rows) == 1
    assert rows[0].endswith("| < 0.0002 | < 0.0002 |")
    assert sum(line.startswith("| flickr30k | test |") for line in report) == 2
