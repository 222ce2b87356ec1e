"""`jclip export` and what the other commands do with an exported folder, and `jclip verify --precision`."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.checkpoints import write_v2
from tests.cli.test_main import jclip, refusal


@pytest.fixture(scope="module")
def nano_int8(tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "nano-int8"
    message = jclip("export", "onnx", "nano", out, "--precision", "int8")[1]
    assert message.startswith("onnx in int8, ")
    return out


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        Image.new("RGB", (90, 70), colour).save(folder / f"{name}.png")
    (folder / "note.txt").write_text("a green triangle")
    return folder


def test_a_collection_of_a_model_in_int8_is_searched_with_the_exported_folder(nano_int8, photos, tmp_path, monkeypatch):
    place = tmp_path / "photos.jclip"
    monkeypatch.setenv("JCLIP_PRECISION", "int8")
    jclip("index", photos, "--collection", place, "--model", "nano")
    monkeypatch.delenv("JCLIP_PRECISION")
    found = [
        jclip("search", "a red circle", "--collection", place, "--json", *model)[0]
        for model in ([], ["--model", nano_int8])
    ]
    scores = [[(hit["id"], hit["score"]) for hit in json.loads(out)] for out in found]
    assert [name for name, _ in scores[0]] == [name for name, _ in scores[1]]
    np.testing.assert_allclose([score for _, score in scores[0]], [score for _, score in scores[1]], atol=1e-6)


def test_an_exported_folder_makes_a_collection_that_the_model_in_that_precision_opens(nano_int8, photos, tmp_path):
    place = tmp_path / "photos.jclip"
    jclip("index", photos, "--collection", place, "--model", nano_int8)
    assert "2 indexed" not in jclip("index", photos, "--collection", place)[1]
    assert len(json.loads(jclip("search", "a red circle", "--collection", place, "--json")[0])) == 3


def test_an_export_into_a_folder_that_exists_is_refused(nano_int8):
    assert "exists already" in refusal("export", "onnx", "nano", nano_int8)


def test_verify_measures_what_a_precision_costs_on_the_users_data(photos):
    out, _ = jclip("verify", "nano", "--precision", "int8", "--data", photos)
    assert "texts in int8" in out
    assert "cosine to fp32 of 5 texts" in out
    assert "cosine to fp32 of 3 images" in out
    (photos / "bad.png").write_bytes(b"bad")
    assert "cosine to fp32 of 3 images" in jclip("verify", "nano", "--precision", "int8", "--data", photos)[0]


def test_verify_leaves_out_and_names_the_files_that_cannot_be_read(photos):
    bad = {"empty.txt": b" ", "binary.txt": b"\xff\xfe\x00", "latin.md": b"caf\xe9"}
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    for name in ("gone.txt", "gone.png"):
        (photos / name).symlink_to(photos / "nowhere")
    os.mkfifo(photos / "pipe.txt")
    out, said = jclip("verify", "nano", "--precision", "int8", "--data", photos)
    assert "cosine to fp32 of 5 texts" in out
    assert "cosine to fp32 of 3 images" in out
    for name in (*bad, "gone.txt", "gone.png", "pipe.txt"):
        assert sum(str(photos / name) in line for line in said.splitlines()) == 1, name
    assert "note.txt" not in said


def test_verify_fails_where_a_precision_costs_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("core_encoder.onnx.layers._MOST_WEIGHT", 1)  # weights of -1, 0 and 1
    monkeypatch.setenv("JCLIP_CACHE_DIR", str(tmp_path / "cache"))
    out, _ = jclip("verify", write_v2(tmp_path / "model"), "--precision", "int8", code=1)
    assert "FAILED  texts in int8" in out


def test_verify_checks_an_exported_folder_and_says_that_it_has_one_precision(nano_int8, tmp_path):
    assert "FAILED" not in jclip("verify", nano_int8)[0]
    out, _ = jclip("verify", nano_int8, "--precision", "fp16", code=1)
    assert "verify the model that it was exported from" in out
    damaged = shutil.copytree(nano_int8, tmp_path / "damaged")
    (damaged / "text.onnx").write_bytes(b"")
    assert "cannot be loaded" in jclip("verify", damaged, code=1)[0]


def test_verify_refuses_data_without_a_precision(photos):
    assert "--data has no effect" in jclip("verify", "nano", "--data", photos, code=2)[1]
