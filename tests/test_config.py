import dataclasses
import json
import re

import pytest

from core_encoder import nano
from core_encoder.errors import ConfigError
from core_encoder.exporting import export_onnx
from core_encoder.image_limits import ImageLimits
from core_encoder.models import FILES
from core_encoder.tiling import Tiling
from jclip_connectors import EmbeddingConfig
from jclip_connectors.config import complete_fingerprint, ignored_variables
from jclip_connectors.errors import CollectionMismatchError
from jclip_connectors.store_kit.validation import check_fingerprint
from tests.checkpoints import write_v2

COMMIT = "0123456789" * 4
FULL = EmbeddingConfig(
    model="jinaai/jina-clip-v2",
    revision=COMMIT,
    dimensions=512,
    normalize=False,
    max_tokens=77,
    resize_mode="squash",
    rendering="as_stored",
    resampling="fast",
    precision="fp32",
    tiling=Tiling(max_tiles=4),
    max_pixels=10**9,
    max_image_bytes=10**6,
)
TOML = """
[jclip]
model = "jinaai/jina-clip-v2"
revision = "{COMMIT}"
dimensions = 512
normalize = false
max_tokens = 77
resize_mode = "squash"
rendering = "as_stored"
resampling = "fast"
precision = "fp32"
tiling = { max_tiles = 4 }
max_pixels = 1000000000
max_image_bytes = 1000000
""".replace("{COMMIT}", COMMIT)
VARIABLES = {
    "JCLIP_MODEL": "jinaai/jina-clip-v2",
    "JCLIP_REVISION": COMMIT,
    "JCLIP_DIMENSIONS": "512",
    "JCLIP_NORMALIZE": "off",
    "JCLIP_MAX_TOKENS": "77",
    "JCLIP_RESIZE_MODE": "squash",
    "JCLIP_RENDERING": "as_stored",
    "JCLIP_RESAMPLING": "fast",
    "JCLIP_PRECISION": "fp32",
    "JCLIP_TILES": "4",
    "JCLIP_MAX_PIXELS": "1000000000",
    "JCLIP_MAX_IMAGE_BYTES": "1000000",
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
        ("rendering", None),
        ("resampling", None),
        ("resampling", "quick"),
        ("max_pixels", 0),
        ("max_image_bytes", "8"),
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


def test_a_fingerprint_without_a_rendering_is_of_pictures_as_stored():
    old = {name: value for name, value in FULL.fingerprint().items() if name != "rendering"}
    for stored in (old, old | {"exif_orientation": False}):
        check_fingerprint(stored, FULL.fingerprint(), collection="it")
        assert EmbeddingConfig.from_fingerprint(stored).rendering == "as_stored"
    with pytest.raises(CollectionMismatchError, match=r"made with `rendering` 'as_stored' \(now 'as_seen'\)"):
        check_fingerprint(old, dataclasses.replace(FULL, rendering="as_seen").fingerprint(), collection="it")


def test_a_fingerprint_of_pictures_turned_by_exif_alone_equals_neither_rendering():
    old = {name: value for name, value in FULL.fingerprint().items() if name != "rendering"}
    for rendering in ("as_seen", "as_stored"):
        config = dataclasses.replace(FULL, rendering=rendering)
        with pytest.raises(CollectionMismatchError, match="turned by EXIF"):
            check_fingerprint(old | {"exif_orientation": True}, config.fingerprint(), collection="it")
    with pytest.raises(ConfigError, match="turned by EXIF"):
        EmbeddingConfig.from_fingerprint(old | {"exif_orientation": True})


def test_limits_on_images_are_those_of_the_encoder_but_for_what_is_given():
    assert EmbeddingConfig().image_limits == ImageLimits()
    assert FULL.image_limits == ImageLimits(max_pixels=10**9, max_bytes=10**6)
    other = dataclasses.replace(FULL, max_pixels=None, max_image_bytes=7)
    assert other.fingerprint() == FULL.fingerprint()


def test_the_fingerprint_is_json_and_has_what_shapes_vectors():
    fingerprint = FULL.fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert fingerprint == {
        "model": "jinaai/jina-clip-v2",
        "revision": COMMIT,
        "dimensions": 512,
        "normalize": False,
        "max_tokens": 77,
        "resize_mode": "squash",
        "rendering": "as_stored",
        "resampling": "fast",
        "precision": "fp32",
        "tiling": "max_tiles=4",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "jinaai/jina-clip-v1"),
        ("revision", "d" * 40),
        ("dimensions", 256),
        ("normalize", True),
        ("max_tokens", None),
        ("resize_mode", None),
        ("rendering", "as_seen"),
        ("resampling", "exact"),
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


def folder_of_files(place, name="mine"):
    folder = place / name
    folder.mkdir(parents=True)
    for file in FILES:
        (folder / file).write_bytes(b"content of " + file.encode())
    return folder


def test_a_folder_is_known_by_its_name_and_the_content_of_its_files(tmp_path):
    first = EmbeddingConfig(model=str(folder_of_files(tmp_path / "here")))
    second = EmbeddingConfig(model=str(folder_of_files(tmp_path / "there")))
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint()["model"] == "mine"
    assert re.fullmatch("sha256:[0-9a-f]{16}", str(first.fingerprint()["revision"]))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_with_one_other_file_is_another_model(tmp_path, name):
    folder = folder_of_files(tmp_path)
    config = EmbeddingConfig(model=str(folder))
    before = config.fingerprint()
    (folder / name).write_bytes(b"changed")
    assert config.fingerprint()["revision"] != before["revision"]


def test_files_that_have_changed_places_are_another_model(tmp_path):
    folder = folder_of_files(tmp_path)
    config = EmbeddingConfig(model=str(folder))
    before = config.fingerprint()
    content = [(folder / name).read_bytes() for name in FILES[:2]]
    for name, data in zip(FILES[:2], content[::-1], strict=True):
        (folder / name).write_bytes(data)
    assert config.fingerprint() != before


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_lacks_a_file_is_refused(tmp_path, name):
    folder = folder_of_files(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=rf"has no {re.escape(name)}"):
        EmbeddingConfig(model=str(folder)).fingerprint()


def test_a_tilde_is_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = folder_of_files(tmp_path)
    assert EmbeddingConfig(model="~/mine").fingerprint() == EmbeddingConfig(model=str(folder)).fingerprint()


@pytest.mark.parametrize("model", ["/no/such/folder", "./nope", "a/b/c", "~nobody-of-this-name/a"])
def test_what_is_neither_folder_nor_hub_id_is_refused(model):
    with pytest.raises(ConfigError, match="no such folder, and it is not a hub id"):
        EmbeddingConfig(model=model).fingerprint()


@pytest.mark.parametrize("model", ["owner/finetune", "jinaai/jina-clip-v2", "jinaai/jina-clip-v1"])
@pytest.mark.parametrize("revision", ["main", "v1.0", "0123456", "G" * 40])
def test_a_branch_does_not_say_which_vectors_it_makes(model, revision):
    with pytest.raises(ConfigError, match=f"`revision` is '{revision}': .* 40 hex digits"):
        EmbeddingConfig(model=model, revision=revision).fingerprint()


def test_a_hub_id_that_is_not_pinned_here_needs_a_commit():
    with pytest.raises(ConfigError, match=r"`revision` is None: .* 40 hex digits"):
        EmbeddingConfig(model="owner/finetune").fingerprint()
    assert EmbeddingConfig(model="owner/finetune", revision=COMMIT).fingerprint()["revision"] == COMMIT


def test_a_model_of_another_embedder_is_known_by_what_its_configuration_says():
    assert EmbeddingConfig(model="hash", revision="1").fingerprint()["revision"] == "1"


def test_toml_that_is_nested_too_deeply_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="as TOML: nested too deeply"):
        EmbeddingConfig.from_toml(tmp_path / "a.toml")


def test_a_fingerprint_of_an_earlier_version_has_the_defaults_of_what_it_lacks():
    now = dict(EmbeddingConfig(model="hash", revision="1", dimensions=8, rendering="as_stored").fingerprint())
    old = {name: now[name] for name in ("model", "revision", "dimensions")}
    check_fingerprint(old, now, collection="c")
    check_fingerprint({**old, "exif_orientation": False}, now, collection="c")
    check_fingerprint(old, {**old, "exif_orientation": False}, collection="c")  # a store compares what it has read
    with pytest.raises(CollectionMismatchError, match="`rendering` 'as_stored' \\(now 'as_seen'\\)"):
        check_fingerprint(old, {**now, "rendering": "as_seen"}, collection="c")
    with pytest.raises(CollectionMismatchError, match="`normalize` True \\(now False\\)"):
        check_fingerprint(old, {**now, "normalize": False}, collection="c")
    with pytest.raises(CollectionMismatchError, match="`resampling` 'exact' \\(now 'fast'\\)"):
        check_fingerprint(old, {**now, "resampling": "fast"}, collection="c")
    assert EmbeddingConfig.from_fingerprint(old).resampling == "exact"
    for rendering in ("as_seen", "as_stored"):
        with pytest.raises(CollectionMismatchError, match="`rendering`"):
            check_fingerprint({**old, "exif_orientation": True}, {**now, "rendering": rendering}, collection="c")


def test_a_complete_fingerprint_stays_as_it_is():
    now = EmbeddingConfig(model="nano", tiling=Tiling(max_tiles=4)).fingerprint()
    assert complete_fingerprint(now) == now


def test_what_a_later_version_has_added_is_refused_by_its_name():
    now = EmbeddingConfig(model="hash", revision="1", dimensions=8).fingerprint()
    with pytest.raises(CollectionMismatchError, match="`colours` 'sepia'"):
        check_fingerprint({**now, "colours": "sepia"}, now, collection="c")


def test_a_renamed_folder_of_a_model_is_the_same_model_and_other_files_are_another(tmp_path):
    folder = folder_of_files(tmp_path)
    stored = EmbeddingConfig(model=str(folder)).fingerprint()
    renamed = folder.rename(tmp_path / "renamed")
    check_fingerprint(stored, EmbeddingConfig(model=str(renamed)).fingerprint(), collection="c")
    config = EmbeddingConfig.from_fingerprint(stored, model=str(renamed))
    check_fingerprint(stored, config.fingerprint(), collection="c")
    (renamed / FILES[0]).write_bytes(b"changed")
    with pytest.raises(CollectionMismatchError, match="`revision`"):
        check_fingerprint(stored, EmbeddingConfig(model=str(renamed)).fingerprint(), collection="c")
    other = {**stored, "model": "another", "revision": "1"}
    with pytest.raises(CollectionMismatchError, match="`model`"):
        check_fingerprint(other, {**other, "model": "name"}, collection="c")


def test_a_variable_that_a_collection_does_not_follow_is_named():
    made = EmbeddingConfig(model="nano", dimensions=64)
    variables = {"JCLIP_MODEL": "nano", "JCLIP_DIMENSIONS": "32", "JCLIP_TILES": "4", "JCLIP_SERVER_X": "1"}
    dimensions, tiles = ignored_variables(made, variables)
    assert dimensions == "JCLIP_DIMENSIONS is '32' and has no effect: the collection was made with `dimensions` 64"
    assert "`tiling` None" in tiles
    assert ignored_variables(made, {"JCLIP_DIMENSIONS": "64"}) == []


# Exported folders


def test_an_exported_hub_model_or_nano_has_the_fingerprint_of_the_model(tmp_path):
    out = export_onnx("nano", tmp_path / "out")
    exported = EmbeddingConfig(model=str(out)).fingerprint()
    assert exported == EmbeddingConfig(model="nano").fingerprint()
    assert EmbeddingConfig.from_fingerprint(exported).model == "nano"
    assert EmbeddingConfig.from_fingerprint(exported, model=str(out)).model == str(out)


def test_an_exported_folder_in_int8_has_the_fingerprint_of_the_model_in_int8(tmp_path):
    out = export_onnx("nano", tmp_path / "out", precision="int8")
    exported = EmbeddingConfig(model=str(out)).fingerprint()
    assert exported == EmbeddingConfig(model="nano", precision="int8").fingerprint()
    assert exported != EmbeddingConfig(model="nano").fingerprint()


def test_a_folder_and_what_was_exported_from_it_are_the_same_model(tmp_path):
    model = write_v2(tmp_path / "model")
    out = export_onnx(model, tmp_path / "out")
    stored, exported = (EmbeddingConfig(model=str(folder)).fingerprint() for folder in (model, out))
    assert stored["revision"] == exported["revision"]
    write_v2(model, seed=1)
    assert EmbeddingConfig(model=str(model)).fingerprint()["revision"] != exported["revision"]


def test_an_exported_folder_of_another_model_is_refused_for_a_collection(tmp_path):
    out = export_onnx(write_v2(tmp_path / "model"), tmp_path / "out")
    with pytest.raises(ConfigError, match="were made with the model 'nano', not"):
        EmbeddingConfig.from_fingerprint(EmbeddingConfig(model="nano").fingerprint(), model=str(out))
