import dataclasses
import hashlib
import json
import re

import pytest

from core_encoder import nano
from core_encoder.errors import ConfigError
from core_encoder.tiling import Tiling
from jclip_connectors import EmbeddingConfig
from jclip_connectors.port import CollectionMismatchError, check_fingerprint

FULL = EmbeddingConfig(
    model="jinaai/jina-clip-v2",
    revision="abc",
    dimensions=512,
    normalize=False,
    max_tokens=77,
    resize_mode="squash",
    exif_orientation=True,
    precision="fp32",
    tiling=Tiling(max_tiles=4),
)
TOML = """
[jclip]
model = "jinaai/jina-clip-v2"
revision = "abc"
dimensions = 512
normalize = false
max_tokens = 77
resize_mode = "squash"
exif_orientation = true
precision = "fp32"
tiling = { max_tiles = 4 }
"""
VARIABLES = {
    "JCLIP_MODEL": "jinaai/jina-clip-v2",
    "JCLIP_REVISION": "abc",
    "JCLIP_DIMENSIONS": "512",
    "JCLIP_NORMALIZE": "off",
    "JCLIP_MAX_TOKENS": "77",
    "JCLIP_RESIZE_MODE": "squash",
    "JCLIP_EXIF_ORIENTATION": "True",
    "JCLIP_PRECISION": "fp32",
    "JCLIP_TILES": "4",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("model", None),
        ("revision", ""),
        ("revision", 3),
        ("dimensions", 0),
        ("dimensions", True),
        ("dimensions", 512.0),
        ("dimensions", "512"),
        ("dimensions", 1025),
        ("normalize", 1),
        ("max_tokens", -1),
        ("resize_mode", "crop"),
        ("resize_mode", ["squash"]),
        ("exif_orientation", None),
        ("precision", "fp8"),
        ("tiling", 9),
        ("tiling", True),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"`{field}` is {re.escape(repr(value))}"):
        EmbeddingConfig(**{field: value})


def test_options_are_keywords_and_cannot_be_changed():
    with pytest.raises(TypeError):
        EmbeddingConfig("nano")  # type: ignore[call-arg]  # the mistake that is tested
    with pytest.raises(dataclasses.FrozenInstanceError):
        EmbeddingConfig().model = "nano"  # type: ignore[misc]  # the mistake that is tested


def test_toml_and_environment_say_the_same(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(TOML)
    assert EmbeddingConfig.from_toml(path) == FULL
    assert EmbeddingConfig.from_env(VARIABLES) == FULL


def test_nothing_said_is_the_default(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[tool.jclip]")
    assert EmbeddingConfig.from_toml(str(path), table="tool.jclip") == EmbeddingConfig()
    assert EmbeddingConfig.from_env({"PATH": "/bin", "JCLIP_SERVER_PORT": "1"}) == EmbeddingConfig()


def test_the_environment_is_read_when_asked(monkeypatch):
    monkeypatch.setenv("JCLIP_DIMENSIONS", "64")
    assert EmbeddingConfig.from_env().dimensions == 64
    monkeypatch.setenv("JCLIP_DIMENSIONS", "128")
    assert EmbeddingConfig.from_env().dimensions == 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no table \[jclip\]"),
        ("jclip = 3", r"has no table \[jclip\]"),
        ("[jclip", "as TOML"),
        ("[jclip]\ndimension = 3", "unknown key 'dimension'; known are model, revision, dimensions"),
        ("[jclip]\ntiling = { tiles = 3 }", "unknown key 'tiles'; known are max_tiles"),
        ("[jclip]\ntiling = { max_tiles = 0 }", "`max_tiles`"),
        ("[jclip]\ndimensions = 0", r"\[jclip\] of .*`dimensions` is 0"),
        ("\udcff", "as TOML"),
    ],
)
def test_a_bad_toml_file_is_refused_by_key(tmp_path, text, message):
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        EmbeddingConfig.from_toml(path)


def test_a_missing_toml_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        EmbeddingConfig.from_toml(tmp_path / "nope.toml")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("JCLIP_DIMENSION", "3", "unknown variable JCLIP_DIMENSION; known are JCLIP_MODEL"),
        ("JCLIP_DIMENSIONS", "many", "JCLIP_DIMENSIONS is 'many': write a whole number"),
        ("JCLIP_DIMENSIONS", "", "JCLIP_DIMENSIONS is ''"),
        ("JCLIP_DIMENSIONS", "0", "the environment: `dimensions` is 0"),
        ("JCLIP_NORMALIZE", "2", "write true or false"),
        ("JCLIP_TILES", "0", "JCLIP_TILES is '0': `max_tiles`"),
    ],
)
def test_a_bad_variable_is_refused_by_name(name, text, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingConfig.from_env({name: text})


def test_the_fingerprint_is_json_and_has_what_shapes_vectors():
    fingerprint = FULL.fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert fingerprint == {
        "model": "jinaai/jina-clip-v2",
        "revision": "abc",
        "dimensions": 512,
        "normalize": False,
        "max_tokens": 77,
        "resize_mode": "squash",
        "exif_orientation": True,
        "precision": "fp32",
        "tiling": "max_tiles=4",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "jinaai/jina-clip-v1"),
        ("revision", "def"),
        ("dimensions", 256),
        ("normalize", True),
        ("max_tokens", None),
        ("resize_mode", None),
        ("exif_orientation", False),
        ("precision", "bf16"),
        ("tiling", None),
        ("tiling", Tiling(max_tiles=5)),
    ],
)
def test_every_field_that_shapes_vectors_is_told_apart_by_name(field, value):
    other = dataclasses.replace(FULL, **{field: value})
    with pytest.raises(CollectionMismatchError, match=f"made with `{field}` ") as caught:
        check_fingerprint(FULL.fingerprint(), other.fingerprint(), collection="it")
    assert str(caught.value).count("`") == 2


def test_defaults_are_the_same_as_what_they_stand_for():
    said = EmbeddingConfig(revision="e10d47f5691d0454a0fb5d13f46f2199b74cb436", dimensions=1024)
    assert said.fingerprint() == EmbeddingConfig().fingerprint()


def test_the_bundled_model_is_known_by_its_revision():
    assert EmbeddingConfig(model="nano").fingerprint()["revision"] == nano.REVISION


def test_a_folder_is_known_by_the_content_of_its_weights(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "mine").mkdir(parents=True)
        (tmp_path / place / "mine" / "model.safetensors").write_bytes(b"weights")
    first = EmbeddingConfig(model=str(tmp_path / "here" / "mine"))
    second = EmbeddingConfig(model=str(tmp_path / "there" / "mine"))
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint()["model"] == "mine"
    assert first.fingerprint()["revision"] == "sha256:" + hashlib.sha256(b"weights").hexdigest()[:16]
    (tmp_path / "here" / "mine" / "model.safetensors").write_bytes(b"retrained")
    assert first.fingerprint()["revision"] != second.fingerprint()["revision"]


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has no model\.safetensors"):
        EmbeddingConfig(model=str(tmp_path)).fingerprint()


@pytest.mark.parametrize("model", ["/no/such/folder", "./nope", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_refused(model):
    with pytest.raises(ConfigError, match="no such folder, and it is not a hub id"):
        EmbeddingConfig(model=model).fingerprint()
