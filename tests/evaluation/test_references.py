"""Our figures beside published ones: what is compared with what, and what is judged."""

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.references import judge, main_rows, published_name, reference, rows_beside
from jclip_connectors.evaluation.tables import find_table
from tests.evaluation.test_means import figure, results

TEXT, IMAGE = "text_retrieval_recall@5", "image_retrieval_recall@5"


def of_languages(table, value, *, without=(), **fields):
    languages = [one for one in find_table(table).tasks[0].languages if one not in without]
    return [figure(table, language=language, value=value, **fields) for language in languages]


def test_a_figure_stands_beside_the_release_notes():
    (one,) = main_rows(results(figure(value=0.979)))
    assert one.published is not None
    assert (one.published.value, one.published.source) == (0.98, "release notes of jina-clip-v2")
    assert one.difference == pytest.approx(-0.001)


@pytest.mark.parametrize(
    "fields", [{"dimensions": 512}, {"metric": "text_retrieval_recall@1"}, {"split": "val"}, {"language": "de"}]
)
def test_another_length_metric_split_or_language_has_no_published_figure(fields):
    assert not [one for one in rows_beside(results(figure(**fields))) if one.published is not None]


def test_a_mean_is_judged_only_over_the_published_languages():
    rows = main_rows(results(*of_languages("xm3600", 0.83)))
    assert [(one.row.spoken, one.published is not None, one.bar) for one in rows] == [
        ("26 languages", True, 0.003),
        ("all 36 languages", False, None),
    ]


def test_xtd10_is_shown_and_never_judged():
    found = results(*of_languages("xtd10", 0.85))
    assert {(one.published.value, one.published.standing, one.bar) for one in main_rows(found) if one.published} == {
        (0.8598, "unknown", None)
    }
    with pytest.raises(EvaluationError, match="can be judged"):
        judge(found)


def test_the_mean_of_an_assumed_list_is_shown_and_never_judged():
    tasks = find_table("mteb-sts-en").tasks
    figures = [
        figure("mteb-sts-en", task.name, language, metric="cosine_spearman", value=0.8)
        for task in tasks
        for language in task.languages or ("default",)
    ]
    (one,) = main_rows(results(*figures))
    assert one.published is not None
    assert (one.published.value, one.published.standing, one.bar) == (0.8129, "assumed", None)
    assert one.difference == pytest.approx(0.8 - 0.8129)


def test_a_mean_that_only_figures_of_languages_give_is_computed_from_them():
    model = {"name": "nllb-clip-large-siglip,v1"}
    figures = of_languages("xm3600", 0.77, dimensions=1152)
    published, whole = main_rows(results(*figures, model=model))
    assert published.published is not None
    assert published.published.value == 0.8016
    assert whole.published is not None
    assert round(whole.published.value, 4) == 0.7691
    assert "open_clip" in whole.published.source
    assert whole.bar is None


@pytest.mark.parametrize(
    ("value", "failed"), [(0.98, False), (0.975, False), (0.985, False), (0.9749, True), (0.9851, True)]
)
def test_the_bar_of_flickr30k_is_half_a_point(value, failed):
    (one,) = judge(results(figure(value=value)))
    assert (one.bar, one.failed) == (0.005, failed)


@pytest.mark.parametrize(("value", "failed"), [(0.8323, False), (0.8293, False), (0.8292, True), (0.8354, True)])
def test_the_bar_of_a_mean_over_languages_is_three_thousandths(value, failed):
    (one,) = judge(results(*of_languages("xm3600", value)))
    assert one.failed == failed


def test_synthetic_and_limited_data_have_no_difference_and_cannot_be_judged():
    for fields, word in (({"data": "synthetic"}, "--data"), ({"limit": 100}, "--limit")):
        found = results(figure(value=0.98), **fields)
        (one,) = main_rows(found)
        assert (one.difference, one.bar) == (None, None)
        with pytest.raises(EvaluationError, match=word):
            judge(found)


def test_nano_cannot_be_judged():
    with pytest.raises(EvaluationError, match="nano"):
        judge(results(figure(), model={"name": "nano"}))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("jinaai/jina-clip-v2", "jina-clip-v2"),
        ("ViT-B-16-quickgelu,openai", "clip-vit-b16"),
        ("openai/clip-vit-base-patch16", "clip-vit-b16"),
        ("nllb-clip-large-siglip,v1", "nllb-clip-large-siglip"),
        ("nllb-clip-large-siglip,mrl", "nllb-clip-large-siglip,mrl"),
        ("jinaai/jina-embeddings-v3", "jina-embeddings-v3"),
    ],
)
def test_models_have_the_names_of_the_published_figures(name, short):
    assert published_name(results(figure(), model={"name": name})) == short


def test_other_models_have_figures_of_their_own_length():
    (one,) = main_rows(results(figure()))
    v1 = reference(one.row, "jina-clip-v1", 768)
    assert v1 is not None
    assert v1.value == 0.964
    assert reference(one.row, "jina-embeddings-v3", 1024) is None
