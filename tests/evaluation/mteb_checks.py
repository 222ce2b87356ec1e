"""What is tried with mteb itself; `test_mteb.py` runs this file in a process of its own, with caches of its own.

mteb takes many seconds to load, and reads the environment when it does.
"""

import io
import json
import shutil
import sys
from typing import Any, ClassVar

import datasets
import mteb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mteb.abstasks import AbsTaskRetrieval
from mteb.types import PromptType
from PIL import Image
from torch.utils.data import DataLoader

from core_encoder import JinaClipEncoder
from core_encoder.models import KNOWN_MODELS
from jclip_connectors.errors import EmbedInputError, EvaluationError
from jclip_connectors.evaluation import mteb_model, mteb_tasks
from jclip_connectors.evaluation.features import CachedEncoder
from jclip_connectors.evaluation.figures import read_run
from jclip_connectors.evaluation.job import Events, Job, ModelChoice, TaskRequest
from jclip_connectors.evaluation.mteb_baseline import Baseline
from jclip_connectors.evaluation.mteb_data import write_repository
from jclip_connectors.evaluation.mteb_evaluation import TaskEvaluation
from jclip_connectors.evaluation.mteb_sweep import OurModel
from jclip_connectors.evaluation.mteb_synthetic import write_synthetic
from tests.checkpoints import GOLDEN

RETRIEVAL = TaskRequest(table="mteb-retrieval-en", task="SciFact", split="test", metrics=("ndcg_at_10",))
CLASSES = TaskRequest(table="mieb", task="CIFAR10ZeroShot", split="test", metrics=("accuracy",))
CAPTIONS = TaskRequest(
    table="mieb",
    task="Flickr30kI2TRetrieval",
    split="test",
    metrics=("ndcg_at_10", "hit_rate_at_5", "recall_at_5"),
)
PICTURES = TaskRequest(table="mieb", task="Flickr30kT2IRetrieval", split="test", metrics=CAPTIONS.metrics)
TEXTS = ["a red circle", "ein blauer Kreis", "a small green star at the top left and a large ring"]


@pytest.fixture(scope="session")
def nano():
    return JinaClipEncoder.load("nano")


def synthetic(data, *requests):
    for request in requests:
        task = mteb_tasks.find_task(request.task)
        write_synthetic(data / request.task, task, split=request.split)
    return data


def evaluated(out, data, *requests, subject=None, encoder=None, **options):
    """The figures of a job, and its folder."""
    given = {"dimensions": None, "variants": ("float32",), "synthetic": False, "download": False, "limit": None}
    job = Job(model=ModelChoice(source="nano"), tasks=requests, data=data, out=out, **{**given, **options})
    told = io.StringIO()
    with CachedEncoder(encoder or JinaClipEncoder.load("nano"), job.features) as cached:
        TaskEvaluation(job, subject or OurModel(job, cached), Events(told)).run()
    events = [json.loads(line) for line in told.getvalue().splitlines()]
    return [event["figure"] for event in events if "figure" in event]


def rounded(figures):
    return {(one["metric"], one["dimensions"], one["variant"]): one["value"] for one in figures}


def picture(colour):
    return Image.new("RGB", (40, 30), colour)


def inputs(**columns):
    return DataLoader(datasets.Dataset.from_dict(columns), batch_size=2, collate_fn=collated)


def collated(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def encode(model, loader, *, task="SciFact", prompt_type=None):
    metadata = mteb.get_task(task).metadata
    return model.encode(loader, task_metadata=metadata, hf_split="test", hf_subset="default", prompt_type=prompt_type)


# The plug-in


def test_mteb_knows_our_models_under_their_published_names():
    for known in KNOWN_MODELS[:2]:
        meta: Any = mteb.get_model_meta(known.name)
        assert meta.loader == mteb_model.JinaClipMteb
        assert meta.revision == known.revision
        assert meta.experiment_kwargs["implementation"] == "jclip"
    assert mteb.get_model_meta("jinaai/jina-clip-v2").embed_dim == [1024, 768, 512, 256, 128, 64, 32]
    assert mteb.get_model_meta("jinaai/jina-clip-v1").embed_dim == 768
    # Facts of mteb stay: what a reader of its leaderboard looks for.
    assert mteb.get_model_meta("jinaai/jina-clip-v1").n_parameters == 222647041


def test_get_model_loads_a_hub_model_natively_and_gives_the_encoders_rows(monkeypatch, tmp_path):
    import huggingface_hub.constants

    revision = mteb.get_model_meta("jinaai/jina-clip-v2").revision
    snapshot = tmp_path / "models--jinaai--jina-clip-v2" / "snapshots" / revision
    shutil.copytree(GOLDEN / "public-v2-tiny", snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model: Any = mteb.get_model("jinaai/jina-clip-v2", device="cpu", embed_dim=32)
    encoder = JinaClipEncoder.load("jinaai/jina-clip-v2", device="cpu")
    assert model.mteb_model_meta.experiment_name == "embed_dim_32__implementation_jclip__query_prefix_auto"
    assert np.array_equal(encode(model, inputs(text=TEXTS)), encoder.encode_text(TEXTS, truncate_dim=32))
    queries = encode(model, inputs(text=TEXTS), prompt_type=PromptType.query)
    assert np.array_equal(queries, encoder.encode_text(TEXTS, task="retrieval.query", truncate_dim=32))
    assert not np.array_equal(queries, encoder.encode_text(TEXTS, truncate_dim=32))


def test_captions_are_no_queries_with_a_prefix():
    mteb_model.register(str(GOLDEN / "public-v2-tiny"))
    model: Any = mteb.get_model("local/public-v2-tiny")
    plain = model.encoder.encode_text(TEXTS)
    for task, prompt_type in (
        ("Flickr30kT2IRetrieval", PromptType.query),
        ("STS12", None),
        ("SciFact", PromptType.document),
    ):
        assert np.array_equal(encode(model, inputs(text=TEXTS), task=task, prompt_type=prompt_type), plain)
    mteb_model.register(str(GOLDEN / "public-v2-tiny"), query_prefix="never")
    model = mteb.get_model("local/public-v2-tiny")
    assert model.mteb_model_meta.experiment_kwargs["query_prefix"] == "never"
    assert np.array_equal(encode(model, inputs(text=TEXTS), prompt_type=PromptType.query), plain)


def test_pictures_have_the_encoders_rows_and_a_picture_with_a_text_the_sum(nano):
    model: Any = mteb.get_model("jclip/nano")
    pictures = [picture(colour) for colour in ("red", "green", "blue")]
    rows = nano.encode_image(pictures)
    assert np.array_equal(encode(model, inputs(image=pictures)), rows)
    both = encode(model, inputs(image=pictures, text=TEXTS))
    assert np.array_equal(both, rows + nano.encode_text(TEXTS))
    with pytest.raises(EmbedInputError, match="neither texts nor images"):
        encode(model, inputs(audio=TEXTS))


def test_another_commit_is_registered_by_its_revision(monkeypatch):
    commit = "344d954da76eb8ad47a7aaff42d012e30c15b8fe"
    asked = []
    monkeypatch.setattr(mteb_model, "run_mteb", lambda: asked.extend(sys.argv[1:]))
    monkeypatch.setattr(
        sys, "argv", ["mteb", "run", "-m", "jinaai/jina-clip-v2", "--model-revision", commit, "-t", "STS12"]
    )
    mteb_model.main()
    assert asked == ["run", "-t", "STS12", "--model", "jinaai/jina-clip-v2"]
    assert mteb.get_model_meta("jinaai/jina-clip-v2").revision == commit
    mteb_model.register("jinaai/jina-clip-v2")


# Figures


class Answers:
    """A subject whose model gives the rows that a test writes down, for texts and for pictures by their colour."""

    facts: ClassVar[dict[str, str]] = {}
    settings = ((2, "float32"),)

    def __init__(self, rows):
        self.rows = rows
        model: Any = mteb.get_model("jclip/nano")
        self._model = model
        model.encode_texts = lambda texts, task: np.array([rows[text] for text in texts], np.float32)  # noqa: ARG005
        model.encode_pictures = lambda pictures, count: np.array(  # noqa: ARG005
            [rows[one.getpixel((0, 0))] for one in pictures], np.float32
        )

    def model(self, setting):  # noqa: ARG002
        return self._model

    def new_data(self):
        """Nothing is kept."""


def at(degrees):
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def captioned(folder):
    """Two pictures with five captions each; the model finds 2 of the first's among its best 5, none of the second's."""
    others = {"x0": 85, "x1": 86}  # captions of no picture
    near = {"a0": 1, "a1": 2, "b0": 3, "b1": 4, "b2": 5, "b3": -40, "b4": -50, "a2": 80, "a3": 81, "a4": 82}
    rows: dict[Any, Any] = {text: at(degrees) for text, degrees in {**near, **others}.items()}
    rows[255, 0, 0] = at(0)  # the first picture: a0 a1 b0 b1 b2
    rows[0, 0, 255] = at(90)  # the second: x1 x0 a4 a3 a2
    files = {}
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        files[name] = io.BytesIO()
        picture(colour).save(files[name], "PNG")
    features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
    tables = {
        "corpus": datasets.Dataset.from_list([{"id": text, "text": text} for text in {**near, **others}]),
        "queries": datasets.Dataset.from_list(
            [{"id": name, "image": {"bytes": file.getvalue(), "path": None}} for name, file in files.items()],
            features=features,
        ),
        "qrels": datasets.Dataset.from_list([{"query-id": text[0], "corpus-id": text, "score": 1} for text in near]),
    }
    write_repository(folder, {(name, "test"): table for name, table in tables.items()})
    return rows


def test_recall_divides_by_all_captions_and_the_hit_rate_asks_for_one(tmp_path):
    rows = captioned(tmp_path / "data" / CAPTIONS.task)
    figures = evaluated(tmp_path / "out", tmp_path / "data", CAPTIONS, subject=Answers(rows))
    values = {one["metric"]: one["value"] for one in figures}
    assert values["recall_at_5"] == pytest.approx((2 / 5 + 0) / 2)
    assert values["hit_rate_at_5"] == pytest.approx(1 / 2)
    by_metric = {row.metric: row for row in read_run(tmp_path / "out", figures[0]["run"])}
    assert by_metric["recall_at_5"].query_ids == ["a", "b"]
    assert by_metric["recall_at_5"].values == pytest.approx([0.4, 0.0])
    assert by_metric["hit_rate_at_5"].values == [1.0, 0.0]


def test_values_of_queries_have_the_figures_mean_and_captions_of_a_picture_are_a_cluster(tmp_path):
    data = synthetic(tmp_path / "data", PICTURES, RETRIEVAL, CLASSES)
    figures = evaluated(tmp_path / "out", data, PICTURES, RETRIEVAL, CLASSES, dimensions=(64,))
    for one in figures:
        [row] = [row for row in read_run(tmp_path / "out", one["run"]) if row.metric == one["metric"]]
        assert len(set(row.query_ids)) == len(row.query_ids) == one["queries"]
        assert np.mean(row.values) == pytest.approx(one["value"], abs=1e-5)
        pictures = {"Flickr30kT2IRetrieval": 32, "SciFact": 32, "CIFAR10ZeroShot": 32}[row.task]
        assert len(set(row.clusters)) == pictures


def test_pairs_keep_their_similarities_and_what_people_said(tmp_path):
    pairs = TaskRequest(
        table="t", task="STS17", split="test", metrics=("cosine_spearman",), languages=("en-en", "es-en")
    )
    figures = evaluated(tmp_path / "out", synthetic(tmp_path / "data", pairs), pairs, dimensions=(128,))
    assert [one["language"] for one in figures] == ["en-en", "es-en"]
    from scipy.stats import spearmanr

    for one in figures:
        [row] = read_run(tmp_path / "out", one["run"])
        assert spearmanr(row.values, row.golds)[0] == pytest.approx(one["value"])
        assert one["value"] > 0.8


def test_a_sweep_from_one_pass_equals_separate_runs(tmp_path):
    data = synthetic(tmp_path / "data", PICTURES, RETRIEVAL)
    sweep = evaluated(tmp_path / "sweep", data, PICTURES, RETRIEVAL, dimensions=(128, 32))
    alone = [
        one
        for dimensions in (128, 32)
        for one in evaluated(tmp_path / f"{dimensions}", data, PICTURES, RETRIEVAL, dimensions=(dimensions,))
    ]
    assert sorted(map(repr, sweep)) == sorted(map(repr, alone))
    for one in sweep:
        apart = read_run(tmp_path / str(one["dimensions"]), one["run"])
        assert [row.values for row in read_run(tmp_path / "sweep", one["run"])] == [row.values for row in apart]


def test_pictures_are_encoded_once_for_all_lengths_and_variants(tmp_path, nano, monkeypatch):
    data = synthetic(tmp_path / "data", PICTURES)
    read = []
    encode_pictures = CachedEncoder.pictures

    def counted(cached, given):
        read.extend(given)
        return encode_pictures(cached, given)

    monkeypatch.setattr(CachedEncoder, "pictures", counted)
    variants = ("float32", "int8", "binary", "binary_rescored")
    options = {"encoder": nano, "dimensions": (128, 64)}
    figures = evaluated(tmp_path / "out", data, PICTURES, variants=variants[:3], **options)
    assert len(figures) == 2 * 3 * 3
    assert len(read) == 32
    values = rounded(evaluated(tmp_path / "out", data, PICTURES, variants=variants, **options))
    for length in (128, 64):
        exact, small, bits, rescored = (values["ndcg_at_10", length, variant] for variant in variants)
        assert abs(exact - small) <= 0.01
        assert bits < exact - 0.1
        assert rescored == pytest.approx(exact, abs=0.02)


def test_rescoring_ranks_only_what_the_codes_have_found(tmp_path):
    rng = np.random.default_rng(0)
    texts = [f"d{number}" for number in range(60)]
    tables = {
        "corpus": [{"_id": text, "title": "", "text": text} for text in texts],
        "queries": [{"_id": "q", "text": "q"}],
        "qrels": [{"query-id": "q", "corpus-id": "d59", "score": 1}],
    }
    write_repository(
        tmp_path / "data" / "SciFact",
        {(name, "test"): datasets.Dataset.from_list(rows) for name, rows in tables.items()},
    )
    query = np.full(8, 0.1)
    query[0] = 1
    rows = {text: np.concatenate([[0.1], 1 + rng.random(7)]) for text in texts}  # all signs right, bad cosines
    rows["d59"] = np.concatenate([[1], np.full(7, -0.1)])  # the best cosine, seven wrong signs
    rows["q"] = query

    class Rows:
        embedding_dim, query_task = 8, None

    class Written:
        encoder = Rows()

        def texts(self, given, *, task=None):  # noqa: ARG002
            return np.array([rows[text] for text in given], np.float32)

    from jclip_connectors.evaluation.mteb_sweep import RescoredSearch, SweptModel

    class Subject:
        facts: ClassVar[dict[str, str]] = {}
        settings = ((8, "float32"), (8, "binary_rescored"))

        def model(self, setting):
            cached: Any = Written()
            swept = SweptModel(cached, query_prefix="never", pictures_at_once=8)
            return swept if setting[1] == "float32" else RescoredSearch(swept, 8)

        def new_data(self):
            """Nothing is kept."""

    figures = evaluated(tmp_path / "out", tmp_path / "data", RETRIEVAL, subject=Subject())
    assert [one["value"] for one in figures] == [1.0, 0.0]


def permute(folder):
    """Give the captions of a picture to another one."""
    path = folder / "qrels" / "test.parquet"
    judged = pq.read_table(path).to_pylist()
    order = np.random.default_rng(1).permutation(32)
    for row in judged:
        row["corpus-id"] = f"image-{order[int(row['corpus-id'].removeprefix('image-'))]}"
    pq.write_table(pa.Table.from_pylist(judged), path)


def test_permuted_answers_give_chance(tmp_path):
    data = synthetic(tmp_path / "data", PICTURES)
    permute(data / PICTURES.task)
    [ndcg, hits, recall] = evaluated(tmp_path / "out", data, PICTURES, dimensions=(128,))
    chance = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / 32
    assert ndcg["value"] == pytest.approx(chance, abs=0.08)
    assert hits["value"] == recall["value"] == pytest.approx(5 / 32, abs=0.08)


# Data


def test_other_forms_give_the_figures_of_the_hubs_form(tmp_path):
    data = synthetic(tmp_path / "hub", RETRIEVAL, CLASSES)
    tables = {
        name: datasets.load_dataset(str(data / "SciFact"), name, split="test")
        for name in ("corpus", "queries", "qrels")
    }
    beir, saved = tmp_path / "beir" / "SciFact", tmp_path / "saved" / "SciFact"
    (beir / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        tables[name].to_json(beir / f"{name}.jsonl")
    tables["qrels"].to_csv(beir / "qrels" / "test.tsv", sep="\t")
    for name, table in tables.items():
        table.save_to_disk(saved / name)
    pictures = datasets.load_dataset(str(data / "CIFAR10ZeroShot"), split="test")
    for number, row in enumerate(pictures):
        place = tmp_path / "saved" / "CIFAR10ZeroShot" / "test" / pictures.features["label"].int2str(row["label"])
        place.mkdir(parents=True, exist_ok=True)
        row["img"].save(place / f"{number}.png")
    expected = evaluated(tmp_path / "out-hub", data, RETRIEVAL, CLASSES)
    found = evaluated(tmp_path / "out-saved", tmp_path / "saved", RETRIEVAL, CLASSES)
    assert rounded(found) == rounded(expected)
    found = evaluated(tmp_path / "out-beir", tmp_path / "beir", RETRIEVAL)
    assert rounded(found) == rounded(one for one in expected if one["task"] == "SciFact")


def test_data_of_another_content_have_another_revision_and_a_limit_too(tmp_path):
    data = synthetic(tmp_path / "data", RETRIEVAL, CAPTIONS)
    [whole] = evaluated(tmp_path / "1", data, RETRIEVAL, dimensions=(128,))
    [part] = evaluated(tmp_path / "2", data, RETRIEVAL, dimensions=(128,), limit=5)
    assert (whole["queries"], part["queries"]) == (32, 5)
    assert whole["data_revision"] != part["data_revision"]
    few = evaluated(tmp_path / "3", data, CAPTIONS, dimensions=(128,), limit=4)
    assert {one["queries"] for one in few} == {4}
    (data / "SciFact" / "note.txt").write_text("changed")
    [other] = evaluated(tmp_path / "4", data, RETRIEVAL, dimensions=(128,))
    assert (other["value"], other["data_revision"] != whole["data_revision"]) == (whole["value"], True)


def test_data_that_were_changed_are_read_again(tmp_path):
    data = synthetic(tmp_path / "data", PICTURES)
    [before, *_] = evaluated(tmp_path / "out", data, PICTURES, dimensions=(128,))
    permute(data / PICTURES.task)
    [after, *_] = evaluated(tmp_path / "out", data, PICTURES, dimensions=(128,))
    assert after["value"] < before["value"] - 0.3
    assert after["data_revision"] != before["data_revision"]


def problem(tmp_path, data, request, match, **options):
    with pytest.raises((EvaluationError, EmbedInputError), match=match):
        evaluated(tmp_path / "out", data, request, **options)


def test_data_that_are_missing_or_damaged_are_named(tmp_path):
    data = synthetic(tmp_path / "data", RETRIEVAL)
    problem(tmp_path, data, CLASSES, r"data of CIFAR10ZeroShot are missing.*'mteb/cifar10'.*data/CIFAR10ZeroShot")
    problem(tmp_path, data, TaskRequest(table="t", task="SciFactt", split="test", metrics=()), "no task 'SciFactt'")
    wrong = TaskRequest(table="t", task="SciFact", split="dev", metrics=())
    problem(tmp_path, data, wrong, "no split 'dev': it has test")
    wrong = TaskRequest(table="t", task="SciFact", split="test", metrics=("recall_at_7",))
    problem(tmp_path, data, wrong, "no 'recall_at_7' for SciFact")
    folder = data / "SciFact"
    (folder / "corpus" / "test.parquet").unlink()
    problem(tmp_path, data, RETRIEVAL, r"SciFact \(default\) in .*data/SciFact' cannot be read")
    shutil.rmtree(folder)
    folder.mkdir()
    problem(tmp_path, data, RETRIEVAL, "holds no data of SciFact")
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "a"}\nno json\n')
    problem(tmp_path, data, RETRIEVAL, r"queries.jsonl' is missing")
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "a"}\n')
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tx\t1\n")
    problem(tmp_path, data, RETRIEVAL, r"corpus.jsonl', line 2: not JSON")
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "a"}\n')
    problem(tmp_path, data, RETRIEVAL, r"the document 'x', which is right for the query 'q', is not in the corpus")


def test_data_that_the_last_task_lacks_are_named_before_the_first_is_evaluated(tmp_path):
    data = synthetic(tmp_path / "data", RETRIEVAL)
    with pytest.raises(EvaluationError, match="data of CIFAR10ZeroShot are missing"):
        evaluated(tmp_path / "out", data, RETRIEVAL, CLASSES)
    assert not (tmp_path / "out" / "runs").exists()


def test_columns_that_are_missing_are_named(tmp_path):
    for task, tables, message in (
        ("STS12", {"default": [{"sentence1": "a", "score": 1.0}]}, r"\['sentence2'\] are missing"),
        ("CIFAR10ZeroShot", {"default": [{"img": "a"}]}, r"\['label'\] are missing"),
        (
            "SciFact",
            {
                "corpus": [{"_id": "d", "body": "a"}],
                "queries": [{"_id": "q", "text": "a"}],
                "qrels": [{"query-id": "q", "corpus-id": "d", "score": 1}],
            },
            r"\['text'\] of the corpus are missing",
        ),
    ):
        rows = {(name, "test"): datasets.Dataset.from_list(table) for name, table in tables.items()}
        write_repository(tmp_path / "data" / task, rows)
        problem(tmp_path, tmp_path / "data", TaskRequest(table="t", task=task, split="test", metrics=()), message)


def test_a_task_over_a_folder_stays_over_it_after_its_data_are_unloaded(tmp_path):
    data = synthetic(tmp_path, RETRIEVAL)
    task = mteb_tasks.task_over(
        mteb_tasks.find_task("SciFact"), data / "SciFact", revision="1", split="test", language="default"
    )
    assert isinstance(task, AbsTaskRetrieval)
    for _ in range(2):
        mteb_tasks.load(task, where="here", cache=tmp_path / "cache")
        assert mteb_tasks.count(task) == 32
        task.unload_data()
    assert mteb.get_task("SciFact").metadata.dataset["path"] == "mteb/scifact"


# Baselines


def test_a_model_of_mteb_is_evaluated_in_its_own_length(tmp_path):
    data = synthetic(tmp_path / "data", RETRIEVAL)
    choice = ModelChoice(kind="mteb", source="mteb/baseline-random-encoder")
    job = Job(
        model=choice, dimensions=None, variants=("float32",), tasks=(), data=data, synthetic=False,
        download=False, limit=None, out=tmp_path,
    )  # fmt: skip
    [figure] = evaluated(tmp_path / "out", data, RETRIEVAL, subject=Baseline(job))
    assert figure["variant"] == "float32"
    assert figure["value"] < 0.6
    with pytest.raises(EmbedInputError, match="no model 'nobody/nothing'"):
        Baseline(Job(**{**vars(job), "model": ModelChoice(kind="mteb", source="nobody/nothing")}))
    with pytest.raises(EmbedInputError, match="in its full length"):
        Baseline(Job(**{**vars(job), "dimensions": (4,)}))
    with pytest.raises(EmbedInputError, match="in float32"):
        Baseline(Job(**{**vars(job), "variants": ("float32", "int8")}))
