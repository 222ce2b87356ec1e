"""`verify`: a whole checkpoint passes, and each kind of damage fails under its own name."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import core_encoder
from core_encoder import JinaClipEncoder, verification
from core_encoder.models import KnownModel
from core_encoder.verification import verify
from tests.checkpoints import write_v1, write_v2

NANO = Path(core_encoder.__file__).parent / "nano"


@pytest.fixture
def nano(tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(NANO / name, folder)
    return folder


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def failures(source):
    return [check for check in verify(source) if not check.passed]


def test_the_bundled_model_passes_every_check():
    checks = list(verify("nano"))
    assert [check.name for check in checks] == [
        "files",
        "configuration",
        "tensors",
        "weights",
        "text vectors",
        "image vector",
        "alone and in a batch",
        "shortened vectors",
    ]
    assert all(check.passed and check.detail for check in checks)


@pytest.mark.parametrize("write", [write_v1, write_v2])
def test_checkpoints_in_both_layouts_pass(tmp_path, write):
    write(tmp_path / "model")
    assert failures(tmp_path / "model") == []


def test_no_checkpoint_is_one_failed_check(tmp_path):
    (check,) = verify(tmp_path)
    assert (check.name, check.passed) == ("files", False)
    assert "model.safetensors" in check.detail


def test_an_unsupported_configuration_fails_by_name(nano):
    config = json.loads((nano / "config.json").read_text())
    config["vision_config"]["post_norm"] = True
    (nano / "config.json").write_text(json.dumps(config))
    *_, check = verify(nano)
    assert (check.name, check.passed) == ("configuration", False)
    assert "post_norm" in check.detail


def test_a_missing_tensor_is_named(nano):
    change_weights(nano, lambda weights: weights.pop("vision_model.norm.bias"))
    *_, check = verify(nano)
    assert (check.name, check.passed) == ("tensors", False)
    assert "vision_model.norm.bias" in check.detail


def test_a_nan_is_found_in_its_tensor(nano):
    def damage(weights):
        weights["vision_model.norm.bias"][3] = np.nan

    change_weights(nano, damage)
    failed = failures(nano)
    assert failed[0].name == "weights"
    assert "vision_model.norm.bias" in failed[0].detail
    assert failed[-1].name == "vectors"  # a model with NaN gives no vectors


def test_vectors_that_depend_on_their_batch_fail(monkeypatch):
    encode = JinaClipEncoder.encode_text

    def uneven(self, texts, **options):
        rows = encode(self, texts, **options)
        return rows + np.float32(2e-6) * (len(rows) > 1)

    monkeypatch.setattr(JinaClipEncoder, "encode_text", uneven)
    assert "alone and in a batch" in [check.name for check in failures("nano")]


def test_shortened_vectors_that_are_not_a_unit_prefix_fail(monkeypatch):
    encode = JinaClipEncoder.encode_text

    def from_the_end(self, texts, *, truncate_dim=None):
        rows = encode(self, texts)
        return rows if truncate_dim is None else rows[:, -truncate_dim:]

    monkeypatch.setattr(JinaClipEncoder, "encode_text", from_the_end)
    assert [check.name for check in failures("nano")] == ["shortened vectors"]


@pytest.mark.parametrize("scale", [0.9, np.nan])
def test_vectors_that_are_not_of_unit_length_fail(monkeypatch, scale):
    encode = JinaClipEncoder.encode_image
    monkeypatch.setattr(JinaClipEncoder, "encode_image", lambda self, images: encode(self, images) * scale)
    assert [check.name for check in failures("nano")] == ["image vector"]


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (0.0009, True), (0.0011, False)])
def test_published_values_are_compared_where_there_are_any(monkeypatch, error, passed):
    values = JinaClipEncoder.load("nano").encode_text(["hello"])[0, :5]
    known = KnownModel(
        name="nano",
        revision=None,
        license="",
        languages="",
        embedding_dim=128,
        matryoshka=True,
        image_size=72,
        check_text="hello",
        check_values=tuple(float(value) + error for value in values),
    )
    monkeypatch.setattr(verification, "known_model", lambda _: known)
    *_, check = verify("nano")
    assert (check.name, check.passed) == ("published values", passed)


def test_a_check_is_a_value():
    check = next(verify("nano"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        check.passed = False  # type: ignore[misc] # that it cannot be set is the point
