"""The list of every tensor that a checkpoint must hold, and its place in the model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import safe_open

from core_encoder.config import LoraConfig, ModelConfig, TextConfig, VisionConfig
from core_encoder.errors import CheckpointError, MissingWeightsError, WeightShapeError

# Older code saved the image tower's rotary tables with v1; they are computed here, so the saved ones are ignored.
_LEFTOVERS = re.compile(r"vision_model\.(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)")
_FLOAT_TYPES = frozenset({"F16", "BF16", "F32"})


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight of the checkpoint and its place in the model.

    Attributes:
        key: its name in the file; with an adapter, the common prefix of the weight's three tensor names.
        shape: its shape, which with an adapter is the shape of the merged weight.
        target: name of the model's parameter.
        part: (index, count): the weight fills part `index` of `count` equal parts of the parameter's rows.
        adapter: how the two factors of a low-rank adapter multiply, or `None` where there is no adapter.
    """

    key: str
    shape: tuple[int, ...]
    target: str
    part: tuple[int, int] = (0, 1)
    adapter: Literal["linear", "embedding"] | None = None

    def expected_shapes(self, lora: LoraConfig | None) -> dict[str, list[int]]:
        """Every tensor of this weight in the file, with its shape."""
        if self.adapter is None or lora is None:
            return {self.key: list(self.shape)}
        (height, width), n, rank = self.shape, lora.num_adapters, lora.rank
        linear = self.adapter == "linear"
        return {
            f"{self.key}.original": [height, width],
            f"{self.key}.0.lora_A": [n, rank, width] if linear else [n, height, rank],
            f"{self.key}.0.lora_B": [n, height, rank] if linear else [n, rank, width],
        }


def check_tensors(path: Path, config: ModelConfig) -> None:
    """Compare names, then shapes and types, of the tensors in a safetensors file with what `weight_table` asks for.

    Raises:
        MissingWeightsError: tensors are absent or unknown (`.missing`, `.unexpected`).
        WeightShapeError: a tensor has another shape than the configuration asks for.
        CheckpointError: a tensor does not hold floats.
        SafetensorError, OSError: the file is damaged or cannot be read.
    """
    expected: dict[str, list[int]] = {}
    for weight in weight_table(config):
        expected |= weight.expected_shapes(config.text.lora)
    with safe_open(path, framework="np") as file:
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        missing = sorted(expected.keys() - found.keys())
        unexpected = sorted(name for name in found.keys() - expected.keys() if not _LEFTOVERS.fullmatch(name))
        if missing or unexpected:
            raise MissingWeightsError(
                f"{str(path)!r} does not hold the model that its config.json describes: "
                f"missing {_shorten(missing)}, unexpected {_shorten(unexpected)}",
                missing=missing,
                unexpected=unexpected,
            )
        for name, shape in expected.items():
            if found[name].get_shape() != shape:
                raise WeightShapeError(
                    f"{name} has shape {found[name].get_shape()} in {str(path)!r}, config.json asks for {shape}"
                )
            if found[name].get_dtype() not in _FLOAT_TYPES:
                raise CheckpointError(
                    f"{name} is {found[name].get_dtype()} in {str(path)!r}: {sorted(_FLOAT_TYPES)} can be loaded"
                )


def _shorten(names: list[str]) -> str:
    return f"{names[:4]} and {len(names) - 4} more" if len(names) > 5 else str(names)


def weight_table(config: ModelConfig) -> list[Weight]:
    """Every weight of a checkpoint with this configuration, without known leftovers."""
    scale = Weight(key="logit_scale", shape=(), target="logit_scale")
    return [*_text_table(config.text), *_vision_table(config.vision), scale]


def _text_table(config: TextConfig) -> Iterator[Weight]:
    adapted = config.lora is not None
    root = "text_model.transformer." + ("roberta." if adapted else "")
    suffix = ".parametrizations.weight" if adapted else ".weight"
    linear: Literal["linear"] | None = "linear" if adapted else None
    embedding: Literal["embedding"] | None = "embedding" if adapted else None
    width, hidden = config.width, config.mlp_width
    for name, target, rows in (
        ("word_embeddings", "word_embedding", config.vocab_size),
        ("token_type_embeddings", "token_type", config.type_vocab_size),
    ):
        key = f"{root}embeddings.{name}{suffix}"
        yield Weight(key=key, shape=(rows, width), target=f"text.{target}", adapter=embedding)
    for kind in ("weight", "bias"):
        yield Weight(key=f"{root}emb_ln.{kind}", shape=(width,), target=f"text.embedding_norm.{kind}")
    matrices = {"mixer.Wqkv": ("qkv", (3 * width, width)), "mixer.out_proj": ("out", (width, width))}
    matrices |= (
        {"mlp.gated_layers": ("mlp.fc_in", (2 * hidden, width)), "mlp.wo": ("mlp.fc_out", (width, hidden))}
        if config.gated_mlp
        else {"mlp.fc1": ("mlp.fc_in", (hidden, width)), "mlp.fc2": ("mlp.fc_out", (width, hidden))}
    )
    for i in range(config.num_layers):
        layer, ours = f"{root}encoder.layers.{i}.", f"text.layers.{i}."
        for name, (target, shape) in matrices.items():
            yield Weight(key=f"{layer}{name}{suffix}", shape=shape, target=f"{ours}{target}.weight", adapter=linear)
            if name != "mlp.gated_layers":
                yield Weight(key=f"{layer}{name}.bias", shape=shape[:1], target=f"{ours}{target}.bias")
        for name, target in (("norm1", "norm_1"), ("norm2", "norm_2")):
            for kind in ("weight", "bias"):
                yield Weight(key=f"{layer}{name}.{kind}", shape=(width,), target=f"{ours}{target}.{kind}")


# (name in the file's block, name in our block, part of our parameter, shape: D is the width, H the hidden width of the
# MLP); queries, keys and values share one matrix here, and so do both halves of the MLP.
_VISION_BLOCK: tuple[tuple[str, str, tuple[int, int], str], ...] = (
    ("norm1.weight", "norm_1.weight", (0, 1), "D"),
    ("norm1.bias", "norm_1.bias", (0, 1), "D"),
    ("attn.q_proj.weight", "qkv.weight", (0, 3), "DD"),
    ("attn.k_proj.weight", "qkv.weight", (1, 3), "DD"),
    ("attn.v_proj.weight", "qkv.weight", (2, 3), "DD"),
    ("attn.q_bias", "q_bias", (0, 1), "D"),
    ("attn.v_bias", "v_bias", (0, 1), "D"),
    ("attn.inner_attn_ln.weight", "attention_norm.weight", (0, 1), "D"),
    ("attn.inner_attn_ln.bias", "attention_norm.bias", (0, 1), "D"),
    ("attn.proj.weight", "out.weight", (0, 1), "DD"),
    ("attn.proj.bias", "out.bias", (0, 1), "D"),
    ("norm2.weight", "norm_2.weight", (0, 1), "D"),
    ("norm2.bias", "norm_2.bias", (0, 1), "D"),
    ("mlp.w1.weight", "mlp_in.weight", (0, 2), "HD"),
    ("mlp.w2.weight", "mlp_in.weight", (1, 2), "HD"),
    ("mlp.w1.bias", "mlp_in.bias", (0, 2), "H"),
    ("mlp.w2.bias", "mlp_in.bias", (1, 2), "H"),
    ("mlp.ffn_ln.weight", "mlp_norm.weight", (0, 1), "H"),
    ("mlp.ffn_ln.bias", "mlp_norm.bias", (0, 1), "H"),
    ("mlp.w3.weight", "mlp_out.weight", (0, 1), "DH"),
    ("mlp.w3.bias", "mlp_out.bias", (0, 1), "D"),
)


def _vision_table(config: VisionConfig) -> Iterator[Weight]:
    width, patch = config.width, config.patch_size
    for name, target, shape in (
        ("cls_token", "class_token", (1, 1, width)),
        ("pos_embed", "position_embedding", (1, 1 + config.grid**2, width)),
        ("patch_embed.proj.weight", "patch_embedding.weight", (width, 3, patch, patch)),
        ("patch_embed.proj.bias", "patch_embedding.bias", (width,)),
        ("norm.weight", "norm.weight", (width,)),
        ("norm.bias", "norm.bias", (width,)),
    ):
        yield Weight(key=f"vision_model.{name}", shape=shape, target=f"vision.{target}")
    sizes = {"D": width, "H": config.mlp_width}
    for i in range(config.num_layers):
        for name, target, part, letters in _VISION_BLOCK:
            yield Weight(
                key=f"vision_model.blocks.{i}.{name}",
                shape=tuple(sizes[letter] for letter in letters),
                target=f"vision.blocks.{i}.{target}",
                part=part,
            )
