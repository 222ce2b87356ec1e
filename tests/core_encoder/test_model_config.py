"""config.json: what is built in, and what is refused by name."""

import json

import pytest

from core_encoder import CheckpointError, ConfigError
from core_encoder.config import parse_config, read_config
from tests.checkpoints import V1_TINY, V2_TINY


def raw(folder=V2_TINY):
    return json.loads((folder / "config.json").read_text())


def changed(path, value, folder=V2_TINY):
    config = raw(folder)
    *parents, name = path.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    section[name] = value
    return config


def test_the_bases_that_config_json_only_points_to_are_built_in():
    v2, v1 = raw(V2_TINY), raw(V1_TINY)
    for config, width, folder in ((v2, 1024, "v2"), (v1, 768, "v1")):
        kwargs = config["text_config"]["hf_model_config_kwargs"]
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
            del kwargs[name]
        config["vision_config"] |= {"width": width, "head_width": 64}
        text = parse_config(config).text
        assert (text.width, text.vocab_size, text.num_layers, text.num_heads, text.mlp_width) == {
            "v2": (1024, 250002, 24, 16, 4096),
            "v1": (768, 30528, 12, 12, 3072),
        }[folder]
        assert (text.layer_norm_eps, text.rotary_base, text.pad_token_id, text.type_vocab_size) == {
            "v2": (1e-5, 20000.0, 1, 1),
            "v1": (1e-12, None, 0, 2),
        }[folder]


def test_the_adapter_is_the_default_task_with_alpha_over_rank():
    config = changed("text_config.hf_model_config_kwargs.lora_adaptations", ["a", "retrieval.query", "b"])
    lora = parse_config(config).text.lora
    assert lora is not None
    assert (lora.active, lora.num_adapters, lora.rank, lora.scaling) == (1, 3, 4, 1.0)


def test_the_rotary_positions_follow_the_pre_training_grid_only_with_intp_freq():
    v2 = read_config(V2_TINY).vision
    assert (v2.grid, v2.rope_span) == (4, 16.0)
    v1 = read_config(V1_TINY).vision
    assert (v1.grid, v1.rope_span) == (4, 4.0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_type", "clip"),
        ("add_projections", True),
        ("matryoshka_dimensions", [32, 65]),
        ("matryoshka_dimensions", "64"),
        ("text_config", None),
        ("text_config.pooler_type", "cls_pooler"),
        ("text_config.proj_type", "linear"),
        ("vision_config.mlp_ratio", 1e308),
        ("vision_config.mlp_ratio", 10**400),
        ("vision_config.mlp_ratio", float("nan")),
        ("vision_config.mlp_ratio", float("inf")),
        ("vision_config.layers", 10**9),
        ("vision_config.image_size", 2**40),
        ("text_config.hf_model_config_kwargs.vocab_size", 10**30),
        ("text_config.hf_model_config_kwargs.layer_norm_eps", float("inf")),
        ("text_config.hf_model_name_or_path", "bert-base-uncased"),
        ("text_config.default_lora_task", None),
        ("text_config.default_lora_task", "classification"),
        ("text_config.default_instruction_task", "retrieval.query"),
        ("text_config.hf_model_config_kwargs", []),
        ("text_config.hf_model_config_kwargs.hidden_act", "gelu_new"),
        ("text_config.hf_model_config_kwargs.position_embedding_type", "alibi"),
        ("text_config.hf_model_config_kwargs.window_size", [64, 64]),
        ("text_config.hf_model_config_kwargs.invented", 1),
        ("text_config.hf_model_config_kwargs.lora_rank", 0),
        ("text_config.hf_model_config_kwargs.lora_alpha", "4"),
        ("text_config.hf_model_config_kwargs.task_instructions", ["query: "]),
        ("text_config.hf_model_config_kwargs.num_attention_heads", 5),
        ("text_config.hf_model_config_kwargs.hidden_size", 128),
        ("text_config.hf_model_config_kwargs.pad_token_id", 422),
        ("vision_config.post_norm", True),
        ("vision_config.ls_init_value", 0.1),
        ("vision_config.naive_swiglu", False),
        ("vision_config.subln", False),
        ("vision_config.rope_embeddings", False),
        ("vision_config.head_width", 18),
        ("vision_config.patch_size", 63),
        ("vision_config.layers", True),
        ("vision_config.intp_freq", False),
    ],
)
def test_an_unsupported_value_is_refused_by_the_name_of_its_field(path, value):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(path, value))
    name = "wide" if path.endswith("hidden_size") else path.rpartition(".")[2]
    if name in {"intp_freq", "num_attention_heads", "invented"}:
        name = {"intp_freq": "intp_freq", "num_attention_heads": "5 heads", "invented": "['invented']"}[name]
    assert name in str(caught.value)


def test_fields_that_change_no_vector_are_accepted():
    changed_fields = raw()
    changed_fields["vision_config"] |= {"x_attention": False, "fused_layer_norm": True, "patch_dropout": 0.5}
    changed_fields["text_config"]["hf_model_config_kwargs"] |= {"use_flash_attn": False, "lora_dropout_p": 0.5}
    assert parse_config(changed_fields) == parse_config(raw())


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_config_json_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


def test_an_absent_config_json_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_that_is_nested_too_deeply_is_refused(tmp_path, opening):
    (tmp_path / "config.json").write_text(opening * 200_000)
    with pytest.raises(CheckpointError, match=r"config\.json .* is not JSON: nested too deeply"):
        read_config(tmp_path)
