"""Random checkpoints in the layouts of both models, written from the published key lists, for tests."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parent / "golden"
V1_TINY, V2_TINY = GOLDEN / "public-v1-tiny", GOLDEN / "public-v2-tiny"


class CheckpointMaker:
    """Fills a dict of tensors with reproducible noise, large enough for mistakes to show."""

    def __init__(self, seed, dtype):
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.tensors = {}

    def noise(self, name, *shape, scale=None, offset=0.0):
        scale = scale if scale is not None else 1.5 / math.sqrt(shape[-1] if shape else 1)
        self.tensors[name] = np.asarray(offset + scale * self.rng.standard_normal(shape), self.dtype)

    def norm(self, name, width):
        self.noise(f"{name}.weight", width, scale=0.1, offset=1.0)
        self.noise(f"{name}.bias", width, scale=0.1)

    def linear(self, name, out, into, *, bias=True, lora=None):
        if lora is None:
            self.noise(f"{name}.weight", out, into)
        else:
            tasks, rank = lora
            self.noise(f"{name}.parametrizations.weight.original", out, into)
            self.noise(f"{name}.parametrizations.weight.0.lora_A", tasks, rank, into, scale=0.3)
            self.noise(f"{name}.parametrizations.weight.0.lora_B", tasks, out, rank, scale=0.1)
        if bias:
            self.noise(f"{name}.bias", out, scale=0.1)

    def embedding(self, name, rows, width, *, lora=None):
        if lora is None:
            self.noise(f"{name}.weight", rows, width, scale=0.5)
        else:
            tasks, rank = lora
            self.noise(f"{name}.parametrizations.weight.original", rows, width, scale=0.5)
            self.noise(f"{name}.parametrizations.weight.0.lora_A", tasks, rows, rank, scale=0.3)
            self.noise(f"{name}.parametrizations.weight.0.lora_B", tasks, rank, width, scale=0.3)


def write_v2(
    folder,
    *,
    width=48,
    text_heads=4,
    text_layers=2,
    intermediate=112,
    vocab_size=430,
    head_width=12,
    vision_layers=2,
    image_size=45,
    patch_size=7,
    pt_hw_seq_len=16,
    mlp_ratio=2.6667,
    lora_alpha=3,
    lora_rank=2,
    tasks=("retrieval.query",),
    default_task="retrieval.query",
    seed=0,
    dtype=np.float16,
):
    config = json.loads((V2_TINY / "config.json").read_text())
    config["matryoshka_dimensions"] = [8, 16, width]
    config["projection_dim"] = config["text_config"]["embed_dim"] = config["vision_config"]["embed_dim"] = width
    config["text_config"]["default_lora_task"] = default_task
    config["text_config"]["hf_model_config_kwargs"] |= {
        "hidden_size": width,
        "num_hidden_layers": text_layers,
        "num_attention_heads": text_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab_size,
        "lora_alpha": lora_alpha,
        "lora_rank": lora_rank,
        "lora_adaptations": list(tasks),
    }
    config["vision_config"] |= {
        "width": width,
        "head_width": head_width,
        "layers": vision_layers,
        "image_size": image_size,
        "patch_size": patch_size,
        "pt_hw_seq_len": pt_hw_seq_len,
        "mlp_ratio": mlp_ratio,
    }
    maker, lora = CheckpointMaker(seed, dtype), (len(tasks), lora_rank)
    root = "text_model.transformer.roberta."
    maker.embedding(f"{root}embeddings.word_embeddings", vocab_size, width, lora=lora)
    maker.embedding(f"{root}embeddings.token_type_embeddings", 1, width, lora=lora)
    maker.norm(f"{root}emb_ln", width)
    for i in range(text_layers):
        layer = f"{root}encoder.layers.{i}."
        maker.linear(f"{layer}mixer.Wqkv", 3 * width, width, lora=lora)
        maker.linear(f"{layer}mixer.out_proj", width, width, lora=lora)
        maker.norm(f"{layer}norm1", width)
        maker.linear(f"{layer}mlp.fc1", intermediate, width, lora=lora)
        maker.linear(f"{layer}mlp.fc2", width, intermediate, lora=lora)
        maker.norm(f"{layer}norm2", width)
    _vision(maker, config["vision_config"])
    return _write(folder, config, maker, V2_TINY)


def write_v1(
    folder,
    *,
    width=40,
    text_heads=5,
    text_layers=2,
    intermediate=56,
    vocab_size=410,
    head_width=20,
    vision_layers=2,
    image_size=36,
    patch_size=12,
    mlp_ratio=2.6667,
    seed=0,
    dtype=np.float32,
):
    config = json.loads((V1_TINY / "config.json").read_text())
    config["projection_dim"] = config["text_config"]["embed_dim"] = config["vision_config"]["embed_dim"] = width
    config["text_config"]["hf_model_config_kwargs"] |= {
        "hidden_size": width,
        "num_hidden_layers": text_layers,
        "num_attention_heads": text_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab_size,
    }
    config["vision_config"] |= {
        "width": width,
        "head_width": head_width,
        "layers": vision_layers,
        "image_size": image_size,
        "patch_size": patch_size,
        "pt_hw_seq_len": image_size // patch_size,
        "mlp_ratio": mlp_ratio,
    }
    maker = CheckpointMaker(seed, dtype)
    root = "text_model.transformer."
    maker.embedding(f"{root}embeddings.word_embeddings", vocab_size, width)
    maker.embedding(f"{root}embeddings.token_type_embeddings", 2, width)
    maker.norm(f"{root}emb_ln", width)
    for i in range(text_layers):
        layer = f"{root}encoder.layers.{i}."
        maker.linear(f"{layer}mixer.Wqkv", 3 * width, width)
        maker.linear(f"{layer}mixer.out_proj", width, width)
        maker.norm(f"{layer}norm1", width)
        maker.linear(f"{layer}mlp.gated_layers", 2 * intermediate, width, bias=False)
        maker.linear(f"{layer}mlp.wo", width, intermediate)
        maker.norm(f"{layer}norm2", width)
    _vision(maker, config["vision_config"])
    return _write(folder, config, maker, V1_TINY)


def _vision(maker, config):
    width, patch = config["width"], config["patch_size"]
    hidden, patches = int(width * config["mlp_ratio"]), (config["image_size"] // patch) ** 2
    maker.noise("logit_scale", scale=0.1, offset=2.0)
    maker.noise("vision_model.cls_token", 1, 1, width, scale=0.5)
    maker.noise("vision_model.pos_embed", 1, 1 + patches, width, scale=0.5)
    maker.noise("vision_model.patch_embed.proj.weight", width, 3, patch, patch, scale=1 / patch)
    maker.noise("vision_model.patch_embed.proj.bias", width, scale=0.1)
    for i in range(config["layers"]):
        block = f"vision_model.blocks.{i}."
        maker.norm(f"{block}norm1", width)
        maker.noise(f"{block}attn.q_bias", width, scale=0.2)
        maker.noise(f"{block}attn.v_bias", width, scale=0.2)
        for name in ("q_proj", "k_proj", "v_proj"):
            maker.linear(f"{block}attn.{name}", width, width, bias=False)
        maker.norm(f"{block}attn.inner_attn_ln", width)
        maker.linear(f"{block}attn.proj", width, width)
        maker.norm(f"{block}norm2", width)
        maker.linear(f"{block}mlp.w1", hidden, width)
        maker.linear(f"{block}mlp.w2", hidden, width)
        maker.norm(f"{block}mlp.ffn_ln", hidden)
        maker.linear(f"{block}mlp.w3", width, hidden)
    maker.norm("vision_model.norm", width)


def _write(folder, config, maker, golden):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    preprocessing = json.loads((golden / "preprocessor_config.json").read_text())
    preprocessing["size"] = config["vision_config"]["image_size"]
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    shutil.copyfile(golden / "tokenizer.json", folder / "tokenizer.json")
    save_file(maker.tensors, folder / "model.safetensors")
    return folder
