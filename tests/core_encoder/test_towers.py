"""Both towers against independent implementations: our float64 transcript, transformers' and timm's own modules."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core_encoder.config import read_config
from core_encoder.tokenization import pack
from core_encoder.torch.attention import AlibiBias, Packing, packed_attention
from core_encoder.torch.loading import load_model
from core_encoder.torch.runtime import packed_features
from tests.checkpoints import write_v1, write_v2
from tests.core_encoder.reference_model import ReferenceModel
from tests.late import late

eva = late("timm.models.eva")
transformers = late("transformers")

RAW_TOLERANCE = 1e-4  # on raw features; float32 noise is below 1.3e-5

V2_VARIANTS = {
    "alpha differs from rank": {},
    "wide heads": {"width": 64, "text_heads": 2, "head_width": 32, "seed": 1},
    "many small heads": {"width": 48, "text_heads": 12, "head_width": 4, "seed": 2},
    "rank 7 and the second of three adapters": {
        "lora_rank": 7,
        "lora_alpha": 2,
        "tasks": ("separation", "retrieval.query", "classification"),
        "seed": 3,
    },
    "float32 file": {"dtype": np.float32, "seed": 4},
    "one patch": {"image_size": 9, "patch_size": 9, "seed": 5},
    "pre-training grid larger than the grid": {"pt_hw_seq_len": 31, "seed": 6},
}
V1_VARIANTS = {
    "five heads": {},
    "twelve heads": {"width": 48, "text_heads": 12, "head_width": 24, "seed": 1},
    "one head": {"text_heads": 1, "seed": 2},
    "eight heads": {"text_heads": 8, "seed": 3},
    "float16 file": {"dtype": np.float16, "seed": 4},
    "seven layers": {"text_layers": 7, "vision_layers": 6, "seed": 5},
}


def variants():
    for write, table in ((write_v2, V2_VARIANTS), (write_v1, V1_VARIANTS)):
        for name, options in table.items():
            yield pytest.param(write, options, id=f"{write.__name__[-2:]}: {name}")


def load(folder):
    config = read_config(folder)
    return load_model(folder, config, device=torch.device("cpu"), dtype=torch.float32)


def random_rows(pad, lengths=(1, 2, 3, 3, 3, 17, 64, 200), *, vocab=400, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(2, vocab, size=length).tolist() for length in lengths]
    rows[4][1] = pad  # a literal pad token inside one of three texts of equal length
    rows[6][10] = rows[6][11] = pad
    return rows


def text_features(model, rows):
    packed = pack(rows, pad_token_id=model.config.text.pad_token_id)
    return packed_features(model, packed).numpy()


@pytest.mark.parametrize(("write", "options"), list(variants()))
def test_both_towers_equal_the_float64_transcript_of_the_published_maths(write, options, tmp_path):
    folder = write(tmp_path, **options)
    model, reference = load(folder), ReferenceModel(folder)
    rows = random_rows(reference.pad)
    expected = np.stack([reference.text(row) for row in rows])
    assert np.abs(text_features(model, rows) - expected).max() < RAW_TOLERANCE
    size = model.config.vision.image_size
    pixels = np.random.default_rng(1).standard_normal((3, 3, size, size)).astype(np.float32)
    expected = np.stack([reference.vision(image) for image in pixels])
    assert np.abs(model.vision(torch.from_numpy(pixels)).numpy() - expected).max() < RAW_TOLERANCE


def test_the_text_tower_equals_the_one_in_transformers(tmp_path):
    folder = write_v2(tmp_path, lora_alpha=5, lora_rank=2, text_layers=3)
    model = load(folder)
    config = model.config.text
    theirs = (
        transformers()
        .JinaEmbeddingsV3Model(
            transformers().JinaEmbeddingsV3Config(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=config.mlp_width,
            ),
            add_pooling_layer=False,
        )
        .eval()
    )
    _copy_text_weights(model, theirs)
    rows = random_rows(config.pad_token_id)
    rows[4][1] = rows[6][10] = rows[6][11] = 7  # their positions do not count pad tokens inside a text
    for row, ours in zip(rows, text_features(model, rows), strict=True):
        with torch.inference_mode():
            hidden = theirs(torch.tensor([row])).last_hidden_state[0]
        assert np.abs(hidden.mean(0).numpy() - ours).max() < RAW_TOLERANCE


def _copy_text_weights(model, theirs):
    """Copy our merged weights into transformers' modules; strict, so that none is left at its random start."""
    state = {
        "embeddings.word_embeddings.weight": model.text.word_embedding,
        "embeddings.token_type_embeddings.weight": model.text.token_type,
        "embeddings.LayerNorm.weight": model.text.embedding_norm.weight,
        "embeddings.LayerNorm.bias": model.text.embedding_norm.bias,
    }
    pairs = {
        "self_attn.o_proj": "out",
        "post_attention_layernorm": "norm_1",
        "post_mlp_layernorm": "norm_2",
        "mlp.fc1": "mlp.fc_in",
        "mlp.fc2": "mlp.fc_out",
    }
    for i, layer in enumerate(model.text.layers):
        ours = dict(layer.named_parameters())
        for kind in ("weight", "bias"):
            for name, part in zip("qkv", ours[f"qkv.{kind}"].chunk(3), strict=True):
                state[f"layers.{i}.self_attn.{name}_proj.{kind}"] = part
            for name, target in pairs.items():
                state[f"layers.{i}.{name}.{kind}"] = ours[f"{target}.{kind}"]
    theirs.load_state_dict(state, strict=True)


@pytest.mark.parametrize(("write", "intp_freq"), [(write_v2, True), (write_v1, False)])
def test_the_image_tower_equals_the_one_in_timm(write, intp_freq, tmp_path):
    folder = write(tmp_path, image_size=50, patch_size=7, vision_layers=3)
    model = load(folder)
    config, raw = model.config.vision, json.loads((folder / "config.json").read_text())["vision_config"]
    theirs = (
        eva()
        .Eva(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.width,
            depth=config.num_layers,
            num_heads=config.num_heads,
            mlp_ratio=raw["mlp_ratio"],
            num_classes=0,
            global_pool="token",
            qkv_fused=False,
            swiglu_mlp=True,
            scale_mlp=True,
            scale_attn_inner=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(raw["pt_hw_seq_len"],) * 2 if intp_freq else None,
        )
        .eval()
    )
    renames = {"mlp.w1.": "mlp.fc1_g.", "mlp.w2.": "mlp.fc1_x.", "mlp.w3.": "mlp.fc2.", "mlp.ffn_ln.": "mlp.norm."}
    renames |= {
        "attn.inner_attn_ln.": "attn.norm.",
        "attn.q_bias": "attn.q_proj.bias",
        "attn.v_bias": "attn.v_proj.bias",
    }
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.startswith("vision_model."):
            for old, new in renames.items():
                name = name.replace(old, new)
            state[name.removeprefix("vision_model.")] = tensor.float()
    theirs.load_state_dict(state, strict=True)
    pixels = torch.randn(4, 3, 50, 50, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (theirs(pixels) - model.vision(pixels)).abs().max() < RAW_TOLERANCE


@pytest.mark.parametrize("write", [write_v1, write_v2])
def test_a_text_has_the_same_features_alone_and_in_any_batch(write, tmp_path):
    model = load(write(tmp_path, text_layers=3))
    rows = random_rows(model.config.text.pad_token_id)
    together = text_features(model, rows)
    alone = np.concatenate([text_features(model, [row]) for row in rows])
    reverse = text_features(model, rows[::-1])[::-1]
    assert np.abs(together - alone).max() < 1e-5  # raw features are about 10 times as long as unit rows
    assert np.abs(together - reverse).max() < 1e-5


def test_a_long_text_gets_the_same_bias_in_blocks_as_in_one_piece(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(90 + 40, 6, 8, generator=generator) for _ in range(3))
    packing = Packing.of([90, 40], None, torch.device("cpu"))
    whole = packed_attention(q, k, v, packing, "sdpa", AlibiBias(packing, 6, torch.float32))
    monkeypatch.setattr("core_encoder.torch.attention._BIAS_TABLE_MAX_TOKENS", 50)
    monkeypatch.setattr("core_encoder.torch.attention._BIAS_BLOCK_ELEMENTS", 90 * 6 * 7)
    bias = AlibiBias(packing, 6, torch.float32)
    assert len(bias.blocks(90)) == 13
    blocked = packed_attention(q, k, v, packing, "sdpa", bias)
    assert (whole - blocked).abs().max() < 1e-6


def test_training_gradients_reach_every_parameter(tmp_path):
    model = load(write_v2(tmp_path)).requires_grad_(requires_grad=True)
    packed = pack([[0, 5, 6, 2], [0, 7, 2]], pad_token_id=1)
    size = model.config.vision.image_size
    with torch.enable_grad():
        images = model.vision(torch.randn(2, 3, size, size))
        loss = model.similarity(images, packed_features(model, packed)).square().sum()
        loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
