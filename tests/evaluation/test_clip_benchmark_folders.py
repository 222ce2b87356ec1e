"""What clip-benchmark's data sets need is looked for before the harness runs; none of this loads the harness."""

import hashlib
import json
import shutil

import pytest

from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.clip_benchmark_folders import DataFolder, folder_name, hub_address
from jclip_connectors.evaluation.clip_benchmark_synthetic import write_synthetic
from jclip_connectors.evaluation.job import TaskRequest
from jclip_connectors.evaluation.tables import find_tables

TABLES = ("flickr30k", "coco", "xm3600", "multilingual-coco", "xtd10", "classification")
NAMES = ("flickr30k", "mscoco_captions", "crossmodal3600", "multilingual_mscoco_captions", "xtd10", "wds/vtab/pcam")


def requests(*names):
    return [
        TaskRequest(table=table.name, task=task.name, split=task.split, metrics=task.metrics, languages=task.languages)
        for table in find_tables(TABLES)
        for task in table.tasks
        if not names or task.name in names
    ]


def folder_of(data, task, split="test"):
    return DataFolder(task=task, split=split, root=data / folder_name(task))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_synthetic(folder, requests(), pictures=12)
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_data_set_of_every_table_is_written_whole(data):
    for request in requests():
        for language in request.languages:
            folder_of(data, request.task).check(language)
    assert len(list(data.iterdir())) == 5 + 37


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_pictures(tmp_path):
    names = ("flickr30k", "mscoco_captions", "wds/mnist")  # files of the others hold the path of their folder
    written = []
    for number, seed in enumerate((0, 0, 1)):
        write_synthetic(tmp_path / str(number), requests(*names), seed=seed, pictures=6)
        written.append(contents(tmp_path / str(number)))
    assert written[0] == written[1]
    assert written[0].keys() == written[2].keys()
    pictures = [name for name in written[0] if name.endswith((".jpg", ".tar"))]
    assert len(pictures) == 6 + 6 + 2
    assert all(written[0][name] != written[2][name] for name in pictures)


def test_a_data_set_is_written_the_same_whichever_others_are(data, tmp_path):
    write_synthetic(tmp_path, requests("wds/mnist", "wds/vtab/svhn"), pictures=12)
    assert contents(tmp_path / "wds_mnist") == contents(data / "wds_mnist")


def test_a_data_set_without_a_writer_is_named(tmp_path):
    request = TaskRequest(table="coco", task="winoground", split="test", metrics=("a",), languages=("en",))
    with pytest.raises(EvaluationError, match="winoground"):
        write_synthetic(tmp_path, [request])


MISSING = {
    "flickr30k": ("flickr30k_test_karpathy.txt", "NAME.jpg,CAPTION"),
    "mscoco_captions": ("val2014", "the folder with the pictures"),
    "crossmodal3600": ("xm3600/captions.jsonl", "captions.zip"),
    "multilingual_mscoco_captions": ("multilingual_mscoco_captions-en.json", "image_paths"),
    "xtd10": ("xtd10-en.json", "image_paths"),
    "wds/vtab/pcam": ("test/1.tar", "clip-benchmark/wds_vtab-pcam"),
}


@pytest.mark.parametrize("task", NAMES)
def test_a_missing_file_is_named_with_its_format(data, tmp_path, task):
    name, form = MISSING[task]
    root = tmp_path / folder_name(task)
    shutil.copytree(data / folder_name(task), root)
    if task == "crossmodal3600":
        (root / "crossmodal3600_captions-en.json").unlink()
    elif (root / name).is_dir():
        shutil.rmtree(root / name)
    else:
        (root / name).unlink()
    with pytest.raises(EvaluationError) as raised:
        folder_of(tmp_path, task).check("en")
    for part in (repr(task), str(root / name), form, "--download"):
        assert part in str(raised.value)


@pytest.mark.parametrize("task", NAMES)
def test_a_folder_that_is_not_there_is_named(tmp_path, task):
    with pytest.raises(EvaluationError, match=folder_name(task)):
        folder_of(tmp_path, task).check("en")


def test_the_captions_and_pictures_of_crossmodal_3600_are_enough_as_they_are_published(tmp_path):
    root = tmp_path / "crossmodal3600"
    (root / "xm3600" / "images").mkdir(parents=True)
    (root / "xm3600" / "captions.jsonl").write_text("")
    folder_of(tmp_path, "crossmodal3600").check("en")


@pytest.mark.parametrize("task", NAMES)
def test_the_revision_is_that_of_the_content_wherever_it_is(data, tmp_path, task):
    shutil.copytree(data / folder_name(task), tmp_path / folder_name(task))
    moved = tmp_path / folder_name(task)
    for path in moved.glob("*.json"):  # as if it had been written there
        path.write_text(path.read_text().replace(str(data), str(tmp_path)))
    before = folder_of(data, task).revision("en", None)
    assert folder_of(tmp_path, task).revision("en", None) == before
    changed = next(path for pattern in ("*-en.json", "*_test_karpathy.*", "test/1.tar") for path in moved.glob(pattern))
    changed.write_bytes(changed.read_bytes().replace(b"shape", b"thing").replace(b"s0000001", b"s0000009"))
    assert folder_of(tmp_path, task).revision("en", None) != before


def test_a_part_of_the_data_has_another_revision(data):
    folder = folder_of(data, "xtd10")
    assert len({folder.revision("en", limit) for limit in (None, 5, 6)}) == 3


def test_a_file_of_another_format_is_named(tmp_path):
    (tmp_path / "xtd10").mkdir()
    path = tmp_path / "xtd10" / "xtd10-en.json"
    path.write_text(json.dumps({"image_paths": ["a.jpg"], "annotations": []}))
    with pytest.raises(EvaluationError, match=r"xtd10-en\.json"):
        folder_of(tmp_path, "xtd10").revision("en", None)
    shards = tmp_path / "wds_mnist" / "test" / "nshards.txt"
    shards.parent.mkdir(parents=True)
    shards.write_text("many")
    with pytest.raises(EvaluationError, match=r"nshards\.txt"):
        folder_of(tmp_path, "wds/mnist").check("en")


def test_a_webdataset_has_the_name_of_its_repository():
    assert hub_address("wds/vtab/pcam") == "https://huggingface.co/datasets/clip-benchmark/wds_vtab-pcam/tree/main"
