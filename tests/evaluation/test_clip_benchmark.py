"""clip-benchmark's tables, computed in its process from data in its formats, and its own command with our models."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from jclip_connectors.evaluation.clip_benchmark_synthetic import write_synthetic
from jclip_connectors.evaluation.figures import VARIANTS, Figure, read_run
from jclip_connectors.evaluation.job import Job, ModelChoice, write_job
from jclip_connectors.evaluation.tables import find_tables
from tests.checkpoints import V1_TINY, V2_TINY
from tests.evaluation.test_clip_benchmark_folders import TABLES, requests

pytestmark = pytest.mark.slow
pytest.importorskip("clip_benchmark", reason="the extra 'eval' is not installed")

PICTURES = 64
DIMENSIONS = (128, 32)
TWO = ("de", "zh")

# Jobs run one after another in a process in which every look-up is written down before anything is imported.
RUNNER = """
import sys
from pathlib import Path

def audit(event, arguments):
    shell = event == "subprocess.Popen" and str(arguments[0]).endswith("sh")
    if shell or event in ("socket.getaddrinfo", "socket.connect", "os.system"):
        with open(sys.argv[1], "a") as file:
            file.write(f"{event} {arguments}\\n")

sys.addaudithook(audit)

from jclip_connectors.evaluation import clip_benchmark_process
from jclip_connectors.evaluation.job import Events, read_job

for path in sys.argv[2:]:
    with Path(path).with_suffix(".events").open("w") as stream:
        clip_benchmark_process.run(read_job(Path(path)), Events(stream))
"""


def make_job(folder, model, data, tasks, **fields):
    known = {"dimensions": None, "variants": ("float32",), "synthetic": False, "download": False, "limit": None}
    return Job(model=ModelChoice.parse(str(model)), data=data, tasks=tuple(tasks), out=folder, **{**known, **fields})


def run_jobs(folder, **jobs):
    """Run jobs in one process; give the figures of each."""
    paths = []
    for name, job in jobs.items():
        job.out.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{name}.json")
        write_job(paths[-1], job)
    asked = folder / "asked.txt"
    run_python("-c", RUNNER, str(asked), *map(str, paths))
    assert not asked.exists(), asked.read_text()
    lines = {name: path.with_suffix(".events").read_text() for name, path in zip(jobs, paths, strict=True)}
    events = {name: [json.loads(line) for line in text.splitlines()] for name, text in lines.items()}
    return {name: [Figure(**event["figure"]) for event in own if "figure" in event] for name, own in events.items()}


def run_python(*arguments, cwd=None):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "JCLIP_CACHE_DIR": os.environ["JCLIP_CACHE_DIR"]}
    done = subprocess.run(  # noqa: S603
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=cwd
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clip_benchmark")


@pytest.fixture(scope="module")
def data(folder):
    write_synthetic(folder / "data", requests(), pictures=PICTURES)
    return folder / "data"


@pytest.fixture(scope="module")
def found(folder, data):
    """The figures of every table for the three models, of nano with every variant, and of a part of the data."""
    some = requests("flickr30k", "mscoco_captions", "wds/mnist")
    two = [replace(task, languages=TWO) for task in requests("crossmodal3600")]
    return run_jobs(
        folder,
        nano=make_job(folder / "nano", "nano", data, requests(), dimensions=DIMENSIONS),
        v1=make_job(folder / "v1", V1_TINY, data, requests()),
        v2=make_job(folder / "v2", V2_TINY, data, requests()),
        variants=make_job(folder / "variants", "nano", data, some, dimensions=DIMENSIONS, variants=VARIANTS),
        limited=make_job(folder / "limited", "nano", data, some, dimensions=(128,), limit=8),
        # of random weights, which need no download
        baseline=make_job(folder / "baseline", "open_clip:ViT-S-32-alt,", data, some),
        published=make_job(folder / "published", "nano", published_crossmodal(folder, data), two, dimensions=(128,)),
    )


def published_crossmodal(folder, data):
    """Crossmodal-3600 as it is published: one file with the captions of all languages."""
    root = folder / "as_published" / "crossmodal3600"
    shutil.copytree(data / "crossmodal3600" / "xm3600", root / "xm3600")
    read = {
        code: json.loads((data / f"crossmodal3600/crossmodal3600_captions-{code}.json").read_text()) for code in TWO
    }
    lines = [
        {"image/key": f"{number:04}"}
        | {code: {"caption": [read[code]["annotations"][number], "other"]} for code in TWO}
        for number in range(PICTURES)
    ]
    (root / "xm3600" / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "as_published"


def value(figures, task, metric, dimensions=128, language="en", variant="float32"):
    key = task, metric, dimensions, language, variant
    [one] = [
        figure
        for figure in figures
        if (figure.task, figure.metric, figure.dimensions, figure.language, figure.variant) == key
    ]
    return one.value


@pytest.mark.parametrize(("model", "lengths"), [("nano", DIMENSIONS), ("v1", None), ("v2", None)])
def test_every_table_has_every_figure(found, model, lengths):
    figures = found[model]
    given = {figure.dimensions for figure in figures}
    assert lengths is None or given == set(lengths)
    expected = [
        (table.name, task.name, metric, language, dimensions)
        for table in find_tables(TABLES)
        for task in table.tasks
        for language in task.languages
        for dimensions in given
        for metric in task.metrics
    ]
    assert sorted(expected) == sorted(
        (figure.table, figure.task, figure.metric, figure.language, figure.dimensions) for figure in figures
    )
    undefined = [figure for figure in figures if figure.value is None]
    assert {figure.metric for figure in undefined} == {"acc5"}  # of data sets with two classes
    assert all(0 <= figure.value <= 1 for figure in figures if figure.value is not None)


def test_the_bundled_model_understands_and_random_weights_do_not(found):
    for task in ("flickr30k", "mscoco_captions", "crossmodal3600", "multilingual_mscoco_captions", "xtd10"):
        for metric in ("text_retrieval_recall@5", "image_retrieval_recall@5"):
            assert 0.6 < value(found["nano"], task, metric) < 0.95
    accuracies = [figure.value for figure in found["nano"] if figure.metric == "acc1" and figure.dimensions == 128]
    assert 0.6 < np.mean(accuracies) < 0.99
    for model in ("v1", "v2"):
        full = max(figure.dimensions for figure in found[model])
        assert value(found[model], "flickr30k", "image_retrieval_recall@5", full) < 0.2  # chance is 0.08


def test_languages_that_the_model_knows_differ_and_others_are_english(found):
    values = {
        language: [
            value(found["nano"], "crossmodal3600", f"{sought}_retrieval_recall@{k}", language=language)
            for sought in ("text", "image")
            for k in (1, 5, 10)
        ]
        for language in ("en", "de", "zh", "fil", "ja")
    }
    assert values["fil"] == values["ja"] == values["en"]
    assert len({tuple(own) for own in values.values()}) == 3


def test_a_figure_is_the_mean_of_its_queries_and_captions_of_a_picture_are_one_cluster(found, folder):
    for model in ("nano", "variants"):
        files = {figure.run for figure in found[model] if figure.run is not None}
        rows = {
            (row.task, row.metric, row.language, row.dimensions, row.variant): row
            for name in files
            for row in read_run(folder / model, name)
        }
        for figure in found[model]:
            if figure.metric == "mean_per_class_recall" or figure.value is None:
                assert figure.run is None
                continue
            row = rows[figure.task, figure.metric, figure.language, figure.dimensions, figure.variant]
            assert np.float32(np.mean(row.values)) == np.float32(figure.value)
            assert len(row.query_ids) == len(set(row.query_ids)) == len(row.clusters) == figure.queries
            assert row.data_revision == figure.data_revision
            if figure.metric.startswith("image_retrieval") and figure.task in {"flickr30k", "mscoco_captions"}:
                assert (figure.queries, len(set(row.clusters))) == (5 * PICTURES, PICTURES)
            else:
                assert len(set(row.clusters)) == figure.queries == PICTURES


def test_variants_lose_little_or_much_as_they_keep_much_or_little(found):
    figures = found["variants"]
    for metric in ("text_retrieval_recall@10", "image_retrieval_recall@10"):
        for task in ("flickr30k", "mscoco_captions"):
            full, int8, binary, rescored = (value(figures, task, metric, variant=variant) for variant in VARIANTS)
            assert abs(full - int8) < 0.02  # one picture is 0.016
            assert binary < rescored <= full + 0.02
    assert value(figures, "wds/mnist", "acc1", variant="binary") < value(figures, "wds/mnist", "acc1")
    assert value(figures, "flickr30k", "image_retrieval_recall@1") == value(
        found["nano"], "flickr30k", "image_retrieval_recall@1"
    )


def test_a_part_of_the_data_has_its_own_figures_and_revision(found):
    revisions: dict[tuple[str, str], dict[str, set[str]]] = {}
    for name in ("nano", "limited"):
        for figure in found[name]:
            revisions.setdefault((figure.task, figure.language), {}).setdefault(name, set()).add(figure.data_revision)
    for task in ("flickr30k", "mscoco_captions", "wds/mnist"):
        of_all, of_part = revisions[task, "en"]["nano"], revisions[task, "en"]["limited"]
        assert len(of_all) == len(of_part) == 1
        assert of_part.isdisjoint(of_all)
    queries = {figure.task: figure.queries for figure in found["limited"] if figure.metric.startswith(("acc1", "text"))}
    assert queries == {"flickr30k": 8, "mscoco_captions": 8, "wds/mnist": 8}
    assert value(found["limited"], "flickr30k", "text_retrieval_recall@10") is None  # of 8 pictures
    assert value(found["limited"], "flickr30k", "text_retrieval_recall@5") is not None


def test_crossmodal_3600_as_it_is_published_gives_the_same_figures(found):
    for figure in found["published"]:
        assert figure.value == value(found["nano"], "crossmodal3600", figure.metric, language=figure.language)
    assert {figure.data_revision for figure in found["published"]} < {figure.data_revision for figure in found["nano"]}


def test_a_baseline_of_the_harness_has_figures_of_its_one_length_beside_ours(found):
    figures = found["baseline"]
    assert {figure.dimensions for figure in figures} == {256}
    assert len(figures) == 6 + 6 + 3
    assert value(figures, "flickr30k", "image_retrieval_recall@5", 256) < 0.2  # chance is 0.08
    revisions = {figure.task: figure.data_revision for figure in found["variants"]}
    assert {figure.task: figure.data_revision for figure in figures} == revisions


COMMAND = """
import sys
from jclip_connectors.evaluation import clip_benchmark_model

data = sys.argv[1]
options = "eval --model_type jclip --model nano --pretrained full 32 --recall_k 1 5 10".split()
options += ["--output", "{dataset}_{pretrained}.json"]
for datasets, folder in (
    (["flickr30k", "mscoco_captions", "xtd10"], "{dataset}"),
    (["wds/mnist", "wds/vtab/pcam"], "wds_{dataset_cleaned}"),
):
    sys.argv[1:] = [*options, "--dataset_root", f"{data}/{folder}", "--dataset", *datasets]
    assert clip_benchmark_model.main() == 0
"""


def test_the_harness_own_command_finds_the_same_to_the_last_bit(found, folder, data):
    (folder / "command").mkdir()
    run_python("-c", COMMAND, str(data), cwd=folder / "command")
    for task in ("flickr30k", "mscoco_captions", "xtd10", "wds/mnist", "wds/vtab/pcam"):
        for pretrained, dimensions in (("full", 128), ("32", 32)):
            name = task.removeprefix("wds/").replace("/", "_")
            metrics = json.loads((folder / "command" / f"{name}_{pretrained}.json").read_text())["metrics"]
            for metric, expected in metrics.items():
                got = value(found["nano"], task, metric, dimensions)
                assert got == expected or (got is None and np.isnan(expected)), (task, metric, dimensions)
