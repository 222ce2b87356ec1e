"""The published figures: their sources, and which languages the published means are of."""

from importlib.resources import files

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.published import MEAN, find_published, mean_over_languages, published_warnings
from jclip_connectors.evaluation.tables import find_tables

NLLB = "nllb-clip-large-siglip"
CROSSMODAL_26 = set(
    "ar,bn,da,de,el,en,es,fi,fr,hi,id,it,ja,ko,nl,no,pl,pt,ro,ru,sv,th,tr,uk,vi,zh".split(",")  # noqa: SIM905 (legible)
)
COCO_10 = {"de", "en", "es", "fr", "it", "ko", "pl", "ru", "tr", "zh"}
IMAGE, TEXT = "image_retrieval_recall@5", "text_retrieval_recall@5"


def per_language(task, metric):
    found = find_published(model=NLLB, harness="clip_benchmark", task=task, metric=metric)
    return [figure for figure in found if figure.language != MEAN]


@pytest.mark.parametrize(
    ("task", "languages", "image", "text"),
    [("crossmodal3600", CROSSMODAL_26, 0.8207, 0.8016), ("multilingual_mscoco_captions", COCO_10, 0.8760, 0.8537)],
)
def test_the_languages_of_a_published_mean_give_it_again(task, languages, image, text):
    for metric, mean in ((IMAGE, image), (TEXT, text)):
        (published,) = find_published(model=NLLB, task=task, metric=metric, language=MEAN)
        assert published.value == mean
        assert published.languages == languages
        assert round(mean_over_languages(per_language(task, metric), languages), 4) == mean


def test_the_mean_of_all_languages_is_another_figure():
    for metric, mean in ((IMAGE, 0.7913), (TEXT, 0.7691)):
        figures = per_language("crossmodal3600", metric)
        assert len(figures) == 36
        assert round(mean_over_languages(figures, [figure.language for figure in figures]), 4) == mean


def test_it_is_not_known_which_languages_xtd10s_mean_is_of():
    (published,) = find_published(model="jina-clip-v2", task="xtd10", metric=TEXT)
    assert published.language == MEAN
    assert published.languages is None


def test_a_mean_needs_exactly_one_figure_a_language():
    figures = per_language("crossmodal3600", IMAGE)
    with pytest.raises(EvaluationError, match="'xx'"):
        mean_over_languages(figures, ["de", "xx"])
    with pytest.raises(EvaluationError, match="'de'"):
        mean_over_languages([*figures, *figures], ["de"])
    with pytest.raises(EvaluationError):
        mean_over_languages(figures, [])


def test_the_release_notes_come_first():
    found = find_published(model="jina-clip-v1", task="flickr30k", metric=TEXT, dimensions=768)
    assert [(figure.value, figure.source) for figure in found] == [
        (0.964, "release notes of jina-clip-v2"),
        (0.965, "model card of jinaai/jina-clip-v1 (huggingface.co)"),
    ]


def test_recall_of_mteb_is_not_the_recall_of_clip_benchmark():
    by_harness = {
        (figure.harness, figure.metric): figure.value
        for figure in find_published(model="jina-clip-v1")
        if figure.task in {"flickr30k", "Flickr30kI2TRetrieval"}
    }
    assert by_harness["mteb", "recall_at_5"] == pytest.approx(0.6344)
    assert by_harness["mteb", "hit_rate_at_5"] == pytest.approx(0.961)
    assert by_harness["clip_benchmark", TEXT] == pytest.approx(0.965)


def test_a_users_unexplained_run_is_a_warning_and_no_reference():
    assert not find_published(model="jina-clip-v2", task="MSCOCOT2IRetrieval")
    warnings = published_warnings(model="jina-clip-v2", task="MSCOCOT2IRetrieval")
    assert {(figure.metric, figure.value) for figure in warnings} == {("recall_at_5", 0.52305), ("ndcg_at_10", 0.44363)}
    assert not published_warnings(model="jina-clip-v1", task="MSCOCOT2IRetrieval")


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("retained text_retrieval", 0.93),
        ("retained image_retrieval", 0.90),
        ("retained cosine_spearman", 0.979),
        ("retained ndcg_at_10", 0.825),
        ("retained accuracy top-1", 0.875),
        ("retained accuracy top-5", 0.92),
    ],
)
def test_the_shares_kept_with_64_values_are_known(metric, value):
    (published,) = find_published(model="jina-clip-v2", dimensions=64, metric=metric)
    assert published.value == value


def test_every_figure_has_a_source_and_a_harness_and_is_a_share():
    figures = find_published()
    assert {figure.harness for figure in figures} == {"clip_benchmark", "mteb", "both"}
    assert all(figure.source for figure in figures)
    assert all(-1 <= figure.value <= 1 for figure in figures)
    assert {figure.model for figure in figures} == {
        "jina-clip-v1",
        "jina-clip-v2",
        "jina-embeddings-v3",
        NLLB,
        "clip-vit-b16",
    }


def test_the_file_is_small():
    assert len(files("jclip_connectors.evaluation").joinpath("published.json").read_bytes()) <= 300_000


def test_every_figure_of_a_task_belongs_to_a_table():
    tables = find_tables(["all"])
    tasks = {(table.harness, task.name) for table in tables for task in table.tasks}
    groups = {figure.task for figure in find_published() if (figure.harness, figure.task) not in tasks}
    assert groups == {
        *("MTEB English retrieval", "MTEB English STS", "MTEB multilingual retrieval", "MTEB multilingual STS"),
        *("37 image classification sets", "cross-modal retrieval", "all tasks"),
    }
