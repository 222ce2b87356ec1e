"""Loading: strict about names, shapes and types, offline, and never from a pickle."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from core_encoder import CheckpointError, ConfigError, JinaClipEncoder, MissingWeightsError, WeightShapeError
from core_encoder.config import read_config
from core_encoder.models import KNOWN_MODELS, default_revision
from core_encoder.torch.loading import load_model
from core_encoder.weights import weight_table
from tests.checkpoints import V1_TINY, V2_TINY, write_v1, write_v2
from tests.forked import run_program


def load(folder, dtype=torch.float32):
    return load_model(folder, read_config(folder), device=torch.device("cpu"), dtype=dtype)


def change_weights(folder, change):
    path = folder / "model.safetensors"
    tensors = dict(load_file(path))
    change(tensors)
    save_file(tensors, path)


@pytest.fixture
def folder(tmp_path):
    return write_v2(tmp_path)


@pytest.mark.parametrize(("write", "count"), [(write_v1, 75), (write_v2, 97)])
def test_every_tensor_of_the_file_is_asked_for_and_every_parameter_is_filled(write, count, tmp_path):
    folder = write(tmp_path)
    config = read_config(folder)
    model = load(folder)
    names = {name for weight in weight_table(config) for name in weight.expected_shapes(config.text.lora)}
    assert names == set(load_file(folder / "model.safetensors"))
    assert len(names) == count
    assert {weight.target for weight in weight_table(config)} == {name for name, _ in model.named_parameters()}


def test_the_full_size_tables_count_as_many_tensors_and_parameters_as_the_published_models(tmp_path):
    spec = {"v1": (395, 222_672_129 - 2 * 196 * 64), "v2": (999, 865_278_477)}
    v1 = json.loads((V1_TINY / "config.json").read_text())
    v1["text_config"]["hf_model_config_kwargs"] = {"use_flash_attn": False}
    v1["vision_config"] |= {"width": 768, "layers": 12, "image_size": 224, "pt_hw_seq_len": 14, "head_width": 64}
    v2 = json.loads((V2_TINY / "config.json").read_text())
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
        del v2["text_config"]["hf_model_config_kwargs"][name]
    v2["vision_config"] |= {"width": 1024, "layers": 24, "image_size": 512, "head_width": 64}
    for name, raw in (("v1", v1), ("v2", v2)):
        (tmp_path / "config.json").write_text(json.dumps(raw))
        config = read_config(tmp_path)
        shapes: dict[str, list[int]] = {}
        for weight in weight_table(config):
            shapes |= weight.expected_shapes(config.text.lora)
        assert (len(shapes), sum(int(np.prod(shape)) for shape in shapes.values())) == spec[name]


def test_a_missing_and_an_unexpected_tensor_are_both_named(folder):
    def change(tensors):
        tensors["vision_model.blocks.1.attn.k_bias"] = tensors.pop("vision_model.blocks.1.attn.q_bias")

    change_weights(folder, change)
    with pytest.raises(MissingWeightsError) as caught:
        load(folder)
    assert caught.value.missing == ("vision_model.blocks.1.attn.q_bias",)
    assert caught.value.unexpected == ("vision_model.blocks.1.attn.k_bias",)
    assert "vision_model.blocks.1.attn.q_bias" in str(caught.value)


def test_a_wrongly_shaped_tensor_is_named_with_both_shapes(folder):
    name = "text_model.transformer.roberta.encoder.layers.0.mixer.Wqkv.parametrizations.weight.0.lora_B"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name][:, :-1].copy()}))
    with pytest.raises(WeightShapeError, match=r"lora_B has shape \[1, 143, 2\].*asks for \[1, 144, 2\]"):
        load(folder)


def test_a_transposed_square_adapter_is_refused_rather_than_merged(folder):
    name = "text_model.transformer.roberta.embeddings.token_type_embeddings.parametrizations.weight.0.lora_B"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].transpose(0, 2, 1).copy()}))
    with pytest.raises(WeightShapeError, match="token_type_embeddings"):
        load(folder)


def test_integer_weights_are_refused(folder):
    name = "vision_model.norm.bias"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].astype(np.int32)}))
    with pytest.raises(CheckpointError, match=r"vision_model\.norm\.bias is I32"):
        load(folder)


@pytest.mark.parametrize("size", [0, 5, 100, 20_000])
def test_a_truncated_weights_file_is_named(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(folder)


def test_a_pickle_in_place_of_the_weights_is_not_executed(folder, tmp_path):
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (marker,)

    torch.save(Evil(), folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        load(folder)
    assert not marker.exists()


def test_only_the_rotary_leftovers_of_v1_are_ignored(tmp_path):
    folder = write_v1(tmp_path)

    def add(name):
        change_weights(folder, lambda tensors: tensors.update({name: np.zeros((9, 20), np.float32)}))

    for name in ("rope.freqs_cos", "rope.freqs_sin", "blocks.0.attn.rope.freqs_cos", "blocks.1.attn.rope.freqs_sin"):
        add(f"vision_model.{name}")
    load(folder)
    add("vision_model.rope.freqs")
    with pytest.raises(MissingWeightsError, match=r"vision_model\.rope\.freqs"):
        load(folder)


def test_weights_are_merged_in_float32_even_when_the_model_is_bf16(folder):
    exact, rounded = load(folder), load(folder, torch.bfloat16)
    for name, parameter in rounded.named_parameters():
        assert torch.equal(parameter, dict(exact.named_parameters())[name].to(torch.bfloat16)), name


def test_a_loaded_model_needs_no_gradients_and_owns_its_memory(folder):
    model = load(folder)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    (folder / "model.safetensors").write_bytes(b"")
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_a_folder_that_lacks_files_names_them(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"lacks \['tokenizer.json', 'model.safetensors'\]"):
        JinaClipEncoder.load(folder)


def test_a_revision_for_a_folder_is_refused(folder):
    with pytest.raises(ConfigError, match="`revision` is 'main'"):
        JinaClipEncoder.load(folder, revision="main")


@pytest.mark.parametrize("source", ["no/such/folder", "gpt", "a b/c", "https://example.org/model"])
def test_what_is_neither_folder_nor_hub_id_is_refused(source):
    with pytest.raises(CheckpointError, match="neither a folder"):
        JinaClipEncoder.load(source)


def test_the_known_models_are_pinned_to_whole_commits():
    assert [model.name for model in KNOWN_MODELS if model.revision is None] == ["nano"]
    assert [len(model.revision) for model in KNOWN_MODELS if model.revision] == [40, 40]
    assert default_revision("somebody/fine-tuned-clip") is None


def in_a_new_process(code, **environment):
    """Run `code` with a hub cache of its own: the hub's library reads its variables once, at import."""
    return run_program("-c", code, environment={**os.environ, **environment})


def test_a_hub_id_loads_from_the_cache_without_network_at_the_pinned_revision(tmp_path):
    revision = default_revision("jinaai/jina-clip-v2")
    repository = tmp_path / "models--jinaai--jina-clip-v2"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        shutil.copyfile(V2_TINY / name, snapshot / name)
    code = """
from core_encoder import JinaClipEncoder
import socket
def refuse(*args, **kwargs): raise OSError("no network in this test")
socket.getaddrinfo = refuse
for options in ({}, {"local_files_only": True}):
    encoder = JinaClipEncoder.load("jinaai/jina-clip-v2", **options)
print(encoder.license, encoder.embedding_dim)
"""
    _, printed, complaints = in_a_new_process(code, HF_HUB_CACHE=str(tmp_path))
    assert printed.split() == ["CC-BY-NC-4.0", "64"], complaints


@pytest.mark.parametrize(
    ("options", "offline", "reason"), [("local_files_only=True", "0", "is set"), ("", "1", "cannot be reached")]
)
def test_a_hub_id_that_is_not_cached_says_what_to_do_offline(tmp_path, options, offline, reason):
    code = f"""
from core_encoder import CheckpointError, JinaClipEncoder
try:
    JinaClipEncoder.load("jinaai/jina-clip-v1", {options})
except CheckpointError as error:
    print(error)
"""
    _, printed, complaints = in_a_new_process(code, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE=offline)
    assert "config.json of 'jinaai/jina-clip-v1' at revision '06150c7c" in printed, complaints
    assert reason in printed


@pytest.mark.parametrize("source", ["", " ", "owner/", "/name", "a/b/c", "a b/c", "owner/name/"])
def test_what_names_no_model_is_refused(source):
    with pytest.raises(CheckpointError, match="is neither a folder, nor a hub id"):
        JinaClipEncoder.load(source, local_files_only=True)


def test_the_empty_name_is_not_the_folder_that_one_is_in(monkeypatch):
    monkeypatch.chdir(V2_TINY)
    assert JinaClipEncoder.load(".", device="cpu").embedding_dim == 64
    with pytest.raises(CheckpointError, match="'' is neither a folder"):
        JinaClipEncoder.load("", device="cpu")


def test_a_folder_in_the_users_home_may_begin_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", str(V2_TINY.parent))
    assert JinaClipEncoder.load(f"~/{V2_TINY.name}", device="cpu").embedding_dim == 64
    with pytest.raises(CheckpointError, match="is neither a folder"):
        JinaClipEncoder.load("~nobody-of-this-name/model", device="cpu")
