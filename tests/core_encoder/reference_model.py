"""The published maths of both towers, written plainly in float64 from the tensors of a checkpoint file.

Slow on purpose: one text or image at a time, no packing, no fused matrices, adapters applied as they stand in the file.
"""

import json
import math

import numpy as np
from safetensors.numpy import load_file


class ReferenceModel:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = {k: v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}
        text, overlay = self.config["text_config"], self.config["text_config"]["hf_model_config_kwargs"]
        self.is_v2 = text["hf_model_name_or_path"] == "jinaai/jina-embeddings-v3"
        self.heads, self.layers = overlay["num_attention_heads"], overlay["num_hidden_layers"]
        self.pad, self.eps = (1, 1e-5) if self.is_v2 else (0, 1e-12)
        if self.is_v2:
            self.adapter = overlay["lora_adaptations"].index(text["default_lora_task"])
            self.scaling = overlay["lora_alpha"] / overlay["lora_rank"]

    def weight(self, name, *, embedding=False):
        if f"{name}.weight" in self.tensors:
            return self.tensors[f"{name}.weight"]
        root = f"{name}.parametrizations.weight"
        a = self.tensors[f"{root}.0.lora_A"][self.adapter]
        b = self.tensors[f"{root}.0.lora_B"][self.adapter]
        return self.tensors[f"{root}.original"] + self.scaling * (a @ b if embedding else b @ a)

    def linear(self, x, name):
        y = x @ self.weight(name).T
        return y + self.tensors[f"{name}.bias"] if f"{name}.bias" in self.tensors else y

    def norm(self, x, name, eps):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def text(self, ids):
        """Token ids of one text -> (D,) raw features."""
        ids = np.asarray(ids)
        root = "text_model.transformer." + ("roberta." if self.is_v2 else "")
        x = self.weight(f"{root}embeddings.word_embeddings", embedding=True)[ids]
        x = x + self.weight(f"{root}embeddings.token_type_embeddings", embedding=True)[0]
        x = self.norm(x, f"{root}emb_ln", self.eps)
        for i in range(self.layers):
            layer = f"{root}encoder.layers.{i}."
            attended = self.text_attention(self.linear(x, f"{layer}mixer.Wqkv"), ids != self.pad)
            x = self.norm(x + self.linear(attended, f"{layer}mixer.out_proj"), f"{layer}norm1", self.eps)
            x = self.norm(x + self.text_mlp(x, f"{layer}mlp."), f"{layer}norm2", self.eps)
        return x[ids != self.pad].mean(0)

    def text_mlp(self, x, name):
        if self.is_v2:
            return self.linear(gelu(self.linear(x, f"{name}fc1")), f"{name}fc2")
        gate, value = np.split(self.linear(x, f"{name}gated_layers"), 2, axis=-1)
        return self.linear(gelu(gate) * value, f"{name}wo")

    def text_attention(self, qkv, visible):
        length, d = qkv.shape[0], qkv.shape[1] // 3 // self.heads
        q, k, v = qkv.reshape(length, 3, self.heads, d).transpose(1, 2, 0, 3)  # (H, L, d) each
        distance = np.abs(np.arange(length)[:, None] - np.arange(length)[None])
        bias = np.where(visible, 0.0, -10000.0)[None, None]
        if self.is_v2:
            q, k = rotate_half_split(q), rotate_half_split(k)
        else:
            bias = bias - np.array(slopes(self.heads))[:, None, None] * distance
        return attention(q, k, v, bias).transpose(1, 0, 2).reshape(length, -1)

    def vision(self, pixels):
        """(3, S, S) -> (D,) raw features."""
        config = self.config["vision_config"]
        patch, grid = config["patch_size"], config["image_size"] // config["patch_size"]
        cut = pixels[:, : grid * patch, : grid * patch].astype(np.float64).reshape(3, grid, patch, grid, patch)
        patches = cut.transpose(1, 3, 0, 2, 4).reshape(grid * grid, -1)
        kernel = self.tensors["vision_model.patch_embed.proj.weight"]
        x = patches @ kernel.reshape(kernel.shape[0], -1).T + self.tensors["vision_model.patch_embed.proj.bias"]
        x = np.concatenate([self.tensors["vision_model.cls_token"][0], x]) + self.tensors["vision_model.pos_embed"][0]
        for i in range(config["layers"]):
            block = f"vision_model.blocks.{i}."
            x = x + self.vision_attention(self.norm(x, f"{block}norm1", 1e-6), f"{block}attn.", grid)
            y = self.norm(x, f"{block}norm2", 1e-6)
            gate = self.linear(y, f"{block}mlp.w1")
            hidden = gate / (1 + np.exp(-gate)) * self.linear(y, f"{block}mlp.w2")
            x = x + self.linear(self.norm(hidden, f"{block}mlp.ffn_ln", 1e-6), f"{block}mlp.w3")
        return self.norm(x[0], "vision_model.norm", 1e-6)

    def vision_attention(self, x, name, grid):
        config = self.config["vision_config"]
        d = config["head_width"]
        q = self.linear(x, f"{name}q_proj") + self.tensors[f"{name}q_bias"]
        k = self.linear(x, f"{name}k_proj")
        v = self.linear(x, f"{name}v_proj") + self.tensors[f"{name}v_bias"]
        q, k, v = (y.reshape(len(y), -1, d).transpose(1, 0, 2) for y in (q, k, v))  # (H, 1 + P, d)
        steps = np.arange(grid) / grid * config["pt_hw_seq_len"] if config["intp_freq"] else np.arange(grid)
        frequencies = 10000.0 ** (-np.arange(0, d // 2, 2) / (d // 2))
        turns = [np.repeat(step * frequencies, 2) for step in steps]
        angles = np.array([[*turns[r], *turns[c]] for r in range(grid) for c in range(grid)])  # (P, d)
        q[:, 1:], k[:, 1:] = rotate_pairs(q[:, 1:], angles), rotate_pairs(k[:, 1:], angles)
        out = attention(q, k, v, 0.0).transpose(1, 0, 2).reshape(len(x), -1)
        return self.linear(self.norm(out, f"{name}inner_attn_ln", 1e-6), f"{name}proj")


def attention(q, k, v, bias):
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]) + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def rotate_half_split(x):
    length, d = x.shape[-2:]
    angles = np.arange(length)[:, None] * 20000.0 ** (-np.arange(0, d, 2) / d)[None]
    angles = np.concatenate([angles, angles], axis=-1)
    turned = np.concatenate([-x[..., d // 2 :], x[..., : d // 2]], axis=-1)
    return x * np.cos(angles) + turned * np.sin(angles)


def rotate_pairs(x, angles):
    turned = np.stack([-x[..., 1::2], x[..., 0::2]], axis=-1).reshape(x.shape)
    return x * np.cos(angles) + turned * np.sin(angles)


def slopes(heads):
    if math.log2(heads).is_integer():
        return [2 ** (-8 * (k + 1) / heads) for k in range(heads)]
    lower = 2 ** math.floor(math.log2(heads))
    return slopes(lower) + slopes(2 * lower)[0::2][: heads - lower]
