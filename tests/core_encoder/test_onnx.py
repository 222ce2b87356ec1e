"""The runtime on ONNX Runtime: precisions, conversion, its cache, exported folders. Parity is in test_golden_parity."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from nano_training.probes import gallery
from safetensors.numpy import load_file, save_file

from core_encoder import CheckpointError, ConfigError, JinaClipEncoder, file_hash, runtimes
from core_encoder.cache import cache_folder
from core_encoder.config import read_config
from core_encoder.exporting import export_onnx
from core_encoder.models import WEIGHTS_FILE
from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import draw_scene, random_scene
from core_encoder.nano.wording import LANGUAGES
from core_encoder.onnx import conversion
from core_encoder.onnx.layers import quantise_rows
from core_encoder.onnx.merged_weights import MergedWeights
from core_encoder.verification import LEAST_COSINE, LEAST_MEAN_COSINE
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from tests.checkpoints import V1_TINY, V2_TINY, write_v1, write_v2


def scenes(count):
    rng = np.random.default_rng(5)
    shown = [random_scene(rng, num_objects=1 + i % 3) for i in range(count)]
    texts = [write(full_description(scene), LANGUAGES[i % len(LANGUAGES)], rng) for i, scene in enumerate(shown)]
    return texts, [draw_scene(scene, seed=i).image for i, scene in enumerate(shown)]


def cosines(exact, rounded, method, items):
    return (getattr(exact, method)(items) * getattr(rounded, method)(items)).sum(axis=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JCLIP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Precisions


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_nano_in_a_lower_precision_passes_the_gate_on_texts_and_pictures(precision):
    exact = JinaClipEncoder.load("nano", runtime="onnx")
    rounded = JinaClipEncoder.load("nano", precision=precision)
    assert (rounded.runtime.name, rounded.precision) == ("onnx", precision)
    texts, pictures = scenes(60)
    for found in (cosines(exact, rounded, "encode_text", texts), cosines(exact, rounded, "encode_image", pictures)):
        assert found.mean() >= LEAST_MEAN_COSINE
        assert found.min() >= LEAST_COSINE
        assert found.min() < 1 - 1e-8  # it is rounded


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_nano_in_a_lower_precision_finds_as_much_within_one_point(precision):
    exact, rounded = (
        gallery(JinaClipEncoder.load("nano", runtime="onnx", precision=each), seed=7) for each in ("fp32", precision)
    )
    for language in LANGUAGES:
        for from_text in (True, False):
            before, after = (found.recall(language, from_text=from_text) for found in (exact, rounded))
            assert after.at_5 >= before.at_5 - 0.01
            assert after.at_1 >= before.at_1 - 0.01


def with_large_channels(folder, readers, *, factor=30):
    """Make some channels of every norm large, and the columns that read them small, as training does."""
    tensors = {name: tensor.copy() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    for norm, matrices in readers:
        channels = [3, tensors[f"{norm}.weight"].size // 2]
        for name in (f"{norm}.weight", f"{norm}.bias"):
            tensors[name][channels] *= factor
        for name in matrices:
            tensors[name][..., channels] /= factor
    save_file(tensors, folder / WEIGHTS_FILE)
    return folder


def readers_of(num_blocks):
    for i in range(num_blocks):
        block = f"vision_model.blocks.{i}"
        yield f"{block}.norm1", [f"{block}.attn.{letter}_proj.weight" for letter in "qkv"]
        yield f"{block}.attn.inner_attn_ln", [f"{block}.attn.proj.weight"]
        yield f"{block}.norm2", [f"{block}.mlp.w1.weight", f"{block}.mlp.w2.weight"]
        yield f"{block}.mlp.ffn_ln", [f"{block}.mlp.w3.weight"]


def test_large_channels_cost_int8_no_accuracy_in_pictures(tmp_path):
    folder = with_large_channels(write_v1(tmp_path, width=80, text_heads=5), readers_of(2))
    pictures = scenes(20)[1]
    exact, rounded = (JinaClipEncoder.load(folder, runtime="onnx", precision=each) for each in ("fp32", "int8"))
    found = cosines(exact, rounded, "encode_image", pictures)
    assert found.mean() >= LEAST_MEAN_COSINE
    assert found.min() >= LEAST_COSINE


def test_large_tokens_cost_their_neighbours_nothing_in_int8(tmp_path):
    folder = write_v2(tmp_path, width=96, text_heads=4, intermediate=256)
    tensors = {name: tensor.copy() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    words = next(name for name in tensors if "word_embeddings" in name and name.endswith("original"))
    tensors[words][[0, 2]] *= 15  # the first and the last token of every text
    save_file(tensors, folder / WEIGHTS_FILE)
    exact, rounded = (JinaClipEncoder.load(folder, runtime="onnx", precision=each) for each in ("fp32", "int8"))
    found = cosines(exact, rounded, "encode_text", scenes(40)[0])
    assert found.mean() >= LEAST_MEAN_COSINE - 0.005  # two random layers are no trained model
    assert found.min() >= LEAST_COSINE


@pytest.mark.parametrize("folder", [V1_TINY, V2_TINY, "nano"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_and_a_picture_have_the_same_vector_alone_and_in_any_batch(folder, precision):
    encoder = JinaClipEncoder.load(folder, runtime="onnx", precision=precision)
    texts, pictures = scenes(12)
    texts += ["a", "", "two " * 200]
    for encode, items in ((encoder.encode_text, texts), (encoder.encode_image, pictures)):
        alone = np.concatenate([encode([item]) for item in items])
        assert np.abs(encode(items) - alone).max() <= 1e-6
        assert np.abs(encode(items[::-1])[::-1] - alone).max() <= 1e-6


def test_rounding_rows_is_exact_at_the_ends_and_for_zeros():
    rows = np.array([[1.1, -2.0, 0.5], [0.0, 0.0, 0.0], [1e-30, 0.0, -1e-30]], np.float32)
    rounded, scale = quantise_rows(rows, 63)
    assert rounded[0].tolist() == [35, -63, 16]
    assert np.abs(rounded * scale - rows).max() <= 2 / 63
    assert (rounded[1:] == 0).all()
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("folder", [V1_TINY, V2_TINY])
@pytest.mark.parametrize("length", [1023, 1025, 1300])
def test_long_texts_beside_short_ones_equal_torchs(folder, length):
    texts = ["cat " * length, "a red cat", "cat " * (length // 2)]
    ours, torchs = (JinaClipEncoder.load(folder, runtime=runtime, device="cpu") for runtime in ("onnx", "torch"))
    assert np.abs(ours.encode_text(texts) - torchs.encode_text(texts)).max() < 1e-5


# Weights


@pytest.mark.parametrize("write_folder", [write_v1, write_v2])
def test_weights_that_are_read_without_torch_equal_those_that_torch_merges(write_folder, tmp_path):
    import torch

    from core_encoder.torch.loading import load_model

    folder = write_folder(tmp_path)
    config = read_config(folder)
    weights = MergedWeights(folder, config)
    for name, parameter in load_model(
        folder, config, device=torch.device("cpu"), dtype=torch.float32
    ).named_parameters():
        if name != "logit_scale":
            assert weights.shape(name) == tuple(parameter.shape), name
            np.testing.assert_allclose(weights.whole(name), parameter.numpy(), rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_checkpoint_in_bfloat16_is_converted(tmp_path):
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    folder = write_v2(tmp_path)
    path = folder / WEIGHTS_FILE
    save_torch({name: tensor.bfloat16() for name, tensor in load_torch(path).items()}, path)
    ours, torchs = (JinaClipEncoder.load(folder, runtime=runtime, device="cpu") for runtime in ("onnx", "torch"))
    assert np.abs(ours.encode_text(["a red cat"]) - torchs.encode_text(["a red cat"])).max() < 1e-5
    assert torch.get_default_dtype() == torch.float32


# The cache


def test_a_model_is_converted_once_and_again_if_its_weights_change(tmp_path, cache, monkeypatch):
    folder = write_v2(tmp_path / "model")
    converted: list[str] = []
    before = conversion.write_towers

    def write_towers(folder, config, precision, out):
        converted.append(precision)
        before(folder, config, precision, out)

    monkeypatch.setattr(conversion, "write_towers", write_towers)
    first = JinaClipEncoder.load(folder, runtime="onnx").encode_text(["a"])
    JinaClipEncoder.load(folder, runtime="onnx")
    assert converted == ["fp32"]
    JinaClipEncoder.load(folder, runtime="onnx", precision="int8")
    assert converted == ["fp32", "int8"]
    write_v2(folder, seed=1)
    assert np.abs(JinaClipEncoder.load(folder, runtime="onnx").encode_text(["a"]) - first).max() > 1e-3
    assert converted == ["fp32", "int8", "fp32"]
    assert not [path for path in (cache / "onnx").iterdir() if path.name.startswith(".")]


def test_processes_that_convert_at_the_same_time_do_not_disturb_each_other(tmp_path, cache):
    folder = write_v2(tmp_path / "model")
    config, found = read_config(folder), []
    threads = [
        threading.Thread(target=lambda: found.append(conversion.converted(folder, config, "fp32"))) for _ in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(list((cache / "onnx").iterdir())) == 1
    assert len(JinaClipEncoder.load(folder, runtime="onnx").encode_text(["a"])) == 1


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path, cache):
    folder = write_v2(tmp_path / "model")
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        JinaClipEncoder.load(folder, runtime="onnx")
    assert list((cache / "onnx").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JCLIP_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(
        CheckpointError,
        match=r"cannot be converted to ONNX: Not a directory .*; `JCLIP_CACHE_DIR` names another folder",
    ):
        JinaClipEncoder.load(write_v2(tmp_path / "model"), runtime="onnx")


def no_home(_):
    raise RuntimeError("Could not determine home directory.")


def test_a_user_without_a_home_is_told_which_variable_to_set(monkeypatch):
    monkeypatch.delenv("JCLIP_CACHE_DIR")
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(ConfigError, match="there is no home folder for the cache: set JCLIP_CACHE_DIR"):
        cache_folder()


@pytest.mark.usefixtures("cache")
def test_a_damaged_graph_is_an_error_that_names_its_file(tmp_path):
    folder = write_v2(tmp_path / "model")
    place = conversion.converted(folder, read_config(folder), "fp32")
    (place / "text.onnx").write_bytes(b"damaged")
    encoder = JinaClipEncoder.load(folder, runtime="onnx")
    with pytest.raises(CheckpointError, match=r"text\.onnx' cannot be loaded"):
        encoder.encode_text(["a"])


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "tensorflow"}, "`runtime` is 'tensorflow': choose one of"),
        ({"runtime": "onnx", "precision": "bf16"}, "'bf16', which only torch has"),
        ({"runtime": "torch", "precision": "int8"}, "`runtime='onnx'` has 'fp16' and 'int8'"),
        ({"runtime": "torch", "threads": 2}, "`threads` is 2, which torch does not have"),
        ({"runtime": "torch", "providers": ["CPUExecutionProvider"]}, "`providers` is .*, which torch does not have"),
        ({"runtime": "onnx", "attention": "sdpa"}, "`attention` is 'sdpa', which ONNX Runtime does not have"),
        ({"runtime": "onnx", "device": "cuda"}, "`device` is 'cuda', which is an option of torch"),
        ({"threads": 0}, "`threads` is 0: an int of at least 1"),
        ({"threads": True}, "`threads` is True: an int of at least 1"),
        ({"providers": []}, r"`providers` is \[\]: write a list of names"),
        ({"providers": "CPUExecutionProvider"}, "`providers` is 'CPUExecutionProvider': write a list"),
        ({"providers": ["Abacus"]}, r"`providers` has \['Abacus'\], which this ONNX Runtime does not have"),
    ],
)
def test_options_that_a_runtime_does_not_have_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        JinaClipEncoder.load("nano", **options)


def test_auto_takes_the_runtime_that_has_the_options():
    assert JinaClipEncoder.load("nano", device="cpu").runtime.name == "onnx"
    assert JinaClipEncoder.load("nano", precision="int8").runtime.name == "onnx"
    assert JinaClipEncoder.load("nano", threads=1).runtime.name == "onnx"
    assert JinaClipEncoder.load("nano", precision="bf16").runtime.name == "torch"
    assert JinaClipEncoder.load("nano", attention="sdpa").runtime.name == "torch"
    assert "runtime='onnx'" in repr(JinaClipEncoder.load("nano"))


def test_neither_torch_nor_the_converter_is_loaded_for_a_model_that_is_converted():
    JinaClipEncoder.load("nano", runtime="onnx")
    code = (
        "import sys\n"
        "from core_encoder import JinaClipEncoder\n"
        "JinaClipEncoder.load('nano').encode_text(['a'])\n"
        "print(sorted({'torch', 'onnx', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert done.stdout.strip() == "[]"


# Exported folders


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_exported_folder_gives_the_same_vectors_without_the_checkpoint(tmp_path, precision):
    model = write_v2(tmp_path / "model")
    expected = JinaClipEncoder.load(model, runtime="onnx", precision=precision).encode_text(["a red cat"])
    moved = export_onnx(model, tmp_path / "out", precision=precision).rename(tmp_path / "moved")
    shutil.rmtree(model)
    encoder = JinaClipEncoder.load(moved)
    assert (encoder.precision, encoder.runtime.name) == (precision, "onnx")
    np.testing.assert_array_equal(encoder.encode_text(["a red cat"]), expected)
    assert encoder.encode_image([np.zeros((30, 40, 3), np.uint8)]).shape == (1, encoder.embedding_dim)


def test_an_export_writes_the_whole_folder_or_nothing(tmp_path):
    model = write_v2(tmp_path / "model")
    out = export_onnx(model, tmp_path / "out")
    with pytest.raises(CheckpointError, match="out' exists already"):
        export_onnx(model, out)
    with pytest.raises(ConfigError, match="is an exported folder: export the model"):
        export_onnx(out, tmp_path / "again")
    with pytest.raises(ConfigError, match="`precision` is 'int4'"):
        export_onnx(model, tmp_path / "again", precision="int4")  # type: ignore[arg-type]
    (model / WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(CheckpointError):
        export_onnx(model, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_options_that_an_exported_folder_does_not_have_are_refused(tmp_path):
    out = export_onnx("nano", tmp_path / "out", precision="int8")
    with pytest.raises(ConfigError, match="exported folder has no weights for torch"):
        JinaClipEncoder.load(out, runtime="torch")
    with pytest.raises(ConfigError, match="`precision` is 'fp32', but the folder was exported in 'int8'"):
        JinaClipEncoder.load(out, precision="fp32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "has format 9: this version reads 1"),
        ({"precision": "int3"}, "is damaged: export the model again"),
        ({"weights_sha256": None}, "is damaged"),
    ],
)
def test_an_export_json_that_cannot_be_understood_is_an_error(tmp_path, change, message):
    path = export_onnx("nano", tmp_path / "out") / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        JinaClipEncoder.load(tmp_path / "out")


def test_a_folder_that_lacks_a_file_of_the_export_is_refused(tmp_path):
    out = export_onnx("nano", tmp_path / "out")
    Path(out, "image.onnx.data").unlink()
    with pytest.raises(CheckpointError, match=r"lacks \['image\.onnx\.data'\]"):
        JinaClipEncoder.load(out)


def test_auto_is_torch_where_onnx_runtime_is_without_the_package_that_converts(monkeypatch):
    present = runtimes._is_installed
    monkeypatch.setattr(runtimes, "_is_installed", lambda package: package != "onnx" and present(package))
    assert JinaClipEncoder.load("nano", device="cpu").runtime.name == "torch"


def test_an_unknown_runtime_is_refused_for_an_exported_folder_too(tmp_path):
    with pytest.raises(ConfigError, match="`runtime` is 'tensorflow'"):
        JinaClipEncoder.load(export_onnx("nano", tmp_path / "out"), runtime="tensorflow")  # type: ignore[arg-type]


def test_an_encoder_in_int8_does_not_pass_for_one_in_fp32():
    small = JinaClipEncoder.load("nano", precision="int8")
    with pytest.raises(ConfigError, match="loaded in 'int8', which moves vectors: write `precision='int8'`"):
        LocalEmbedder(EmbeddingConfig(model="nano"), encoder=small)
    assert LocalEmbedder(EmbeddingConfig(model="nano", precision="int8"), encoder=small).dimensions == 128


def test_an_exported_folder_in_int8_is_embedded_without_naming_its_precision(tmp_path):
    out = export_onnx("nano", tmp_path / "out", precision="int8")
    assert LocalEmbedder(EmbeddingConfig(model=str(out))).config.fingerprint()["precision"] == "int8"


def test_large_files_are_hashed_without_a_home_and_once_in_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(file_hash, "_REMEMBERED_BYTES", 0)
    monkeypatch.setattr(file_hash, "cache_folder", no_folder)
    computed: list[Path] = []
    before = file_hash._compute

    def compute(path):
        computed.append(path)
        return before(path)

    monkeypatch.setattr(file_hash, "_compute", compute)
    path = tmp_path / "large"
    path.write_bytes(b"a")
    assert file_hash.file_hash(path) == file_hash.file_hash(path) == hashlib.sha256(b"a").hexdigest()
    assert len(computed) == 1
    path.write_bytes(b"bc")
    assert file_hash.file_hash(path) == hashlib.sha256(b"bc").hexdigest()


def no_folder():
    raise ConfigError("there is no home folder")


def test_the_hash_of_a_large_file_is_remembered_until_the_file_changes(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(file_hash, "_REMEMBERED_BYTES", 0)
    path = tmp_path / "large"
    path.write_bytes(b"a")
    expected = file_hash.file_hash(path)
    assert len(list((cache / "hashes").iterdir())) == 1
    file_hash._hash.cache_clear()
    monkeypatch.setattr(file_hash, "_compute", None)  # it cannot be called
    assert file_hash.file_hash(path) == expected
    monkeypatch.undo()


def test_the_hub_names_a_large_file_by_its_hash(tmp_path):
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"a")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert file_hash.file_hash(link) == "0" * 64
