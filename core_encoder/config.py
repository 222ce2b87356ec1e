"""Read a checkpoint's config.json into frozen dataclasses; unsupported fields are refused by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from core_encoder.errors import CheckpointError, ConfigError

MAX_TOKENS = 8192  # both models were trained for this length

# Far beyond any model; a larger number means a damaged file, and would overflow or run without end.
_MOST, _MOST_LAYERS, _MOST_PIXELS, _MOST_MLP_RATIO, _MOST_NUMBER = 2**20, 1000, 2**14, 1000, 1e9

# config.json only names the repository that holds the text tower's base configuration.
# Source: the config.json of these two repositories; fields that do not change a vector are left out.
_TEXT_BASES: Mapping[str, Mapping[str, object]] = {
    "jinaai/jina-embeddings-v3": {
        "vocab_size": 250002,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
        "rotary_emb_base": 20000.0,  # the model was not trained with the class default of 10000
        "mlp_type": "mlp",
        "lora_adaptations": [
            "retrieval.query",
            "retrieval.passage",
            "separation",
            "classification",
            "text-matching",
        ],
        "lora_rank": 4,
        "lora_alpha": 1,
        "task_instructions": {},
    },
    "jinaai/jina-bert-flash-implementation": {
        "vocab_size": 30528,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "position_embedding_type": "alibi",
        "mlp_type": "glu",
        "lora_adaptations": None,
        "task_instructions": {},
    },
}

# Overlay fields that choose a kernel or a training detail; no vector depends on them.
_TEXT_FIELDS_WITHOUT_EFFECT = frozenset(
    {
        "attention_probs_dropout_prob",
        "bos_token_id",
        "eos_token_id",
        "fused_bias_fc",
        "fused_dropout_add_ln",
        "fused_mlp",
        "hidden_dropout_prob",
        "initializer_range",
        "load_trained_adapters",
        "lora_dropout_p",
        "lora_main_params_trainable",
        "max_position_embeddings",
        "model_type",
        "torch_dtype",
        "truncate_dim",
        "use_cache",
        "use_flash_attn",
        "use_reentrant",
    }
)

# Fields that must have these values, by section; with other values the model computes other vectors.
_REQUIRED_TEXT = {"pooler_type": "mean_pooler", "proj_type": None, "default_instruction_task": None}
_REQUIRED_TEXT_BASE = {"hidden_act": "gelu", "use_qk_norm": False, "qk_norm": False, "window_size": [-1, -1]}
_REQUIRED_VISION = {
    "ls_init_value": None,
    "naive_swiglu": True,
    "post_norm": False,
    "proj_type": None,
    "qkv_bias": True,
    "rope_embeddings": True,
    "subln": True,
}


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """A low-rank adapter that the checkpoint carries and that is always on."""

    rank: int
    scaling: float  # lora_alpha / lora_rank
    num_adapters: int
    active: int  # index of the default adapter


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text tower."""

    base: str  # the repository whose key names and block type it follows
    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    layer_norm_eps: float
    type_vocab_size: int
    pad_token_id: int
    position: Literal["rotary", "alibi"]
    rotary_base: float | None  # None with ALiBi
    lora: LoraConfig | None = None
    task_instructions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def gated_mlp(self) -> bool:
        """True for v1's gated MLP, false for v2's plain one."""
        return self.position == "alibi"


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The EVA02 image tower."""

    image_size: int
    patch_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    rope_span: float  # the rotary positions of a side run from 0 to this, in steps of rope_span / grid

    @property
    def grid(self) -> int:
        """Patches along one side; pixels beyond the last whole patch are ignored."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Both towers, and the lengths that vectors may be shortened to."""

    text: TextConfig
    vision: VisionConfig
    matryoshka_dims: tuple[int, ...]  # empty if the model was not trained for shortened vectors

    @property
    def embedding_dim(self) -> int:
        """Length E of a full vector."""
        return self.text.width


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json`.

    Raises:
        CheckpointError: the file is absent or not JSON.
        ConfigError: a field is missing, has the wrong type or a value that is not supported.
    """
    return parse_config(read_json(folder / "config.json"))


def read_json(path: Path) -> Mapping[str, object]:
    """Read a JSON object from `path`.

    Raises:
        CheckpointError: absent, unreadable, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read in {str(path.parent)!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{path.name} in {str(path.parent)!r} is not JSON: {reason}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} in {str(path.parent)!r} holds {type(value).__name__}, not a JSON object")
    return value


def parse_config(raw: Mapping[str, object]) -> ModelConfig:
    """Turn the parsed config.json into a `ModelConfig`.

    Raises:
        ConfigError: see `read_config`.
    """
    if raw.get("model_type") != "jina_clip":
        raise ConfigError(f"`model_type` is {raw.get('model_type')!r}: only 'jina_clip' checkpoints can be loaded")
    _require(raw, {"add_projections": False}, "")
    text = _parse_text(_section(raw, "text_config"))
    vision = _parse_vision(_section(raw, "vision_config"))
    if text.width != vision.width:
        raise ConfigError(f"the text tower is {text.width} wide and the image tower {vision.width}: they must agree")
    dims = raw.get("matryoshka_dimensions") or []
    if not isinstance(dims, list) or not all(isinstance(dim, int) and 0 < dim <= text.width for dim in dims):
        raise ConfigError(f"`matryoshka_dimensions` is {dims!r}: a list of ints in 1..{text.width} is needed")
    return ModelConfig(text=text, vision=vision, matryoshka_dims=tuple(sorted(dims)))


def _parse_text(raw: Mapping[str, object]) -> TextConfig:
    _require(raw, _REQUIRED_TEXT, "text_config.")
    base_name = raw.get("hf_model_name_or_path")
    if not isinstance(base_name, str) or base_name not in _TEXT_BASES:
        raise ConfigError(f"`text_config.hf_model_name_or_path` is {base_name!r}: known are {sorted(_TEXT_BASES)}")
    base = _TEXT_BASES[base_name]
    overlay = _section(raw, "hf_model_config_kwargs", "text_config.")
    known = set(base) | set(_REQUIRED_TEXT_BASE) | _TEXT_FIELDS_WITHOUT_EFFECT
    if unknown := sorted(set(overlay) - known):
        raise ConfigError(f"`text_config.hf_model_config_kwargs` has fields that are not supported: {unknown}")
    merged = {**base, **overlay}
    where = "text_config.hf_model_config_kwargs."
    fixed = {name: base[name] for name in ("position_embedding_type", "mlp_type")}
    _require(merged, {**_REQUIRED_TEXT_BASE, **fixed}, where)
    rotary = base["position_embedding_type"] == "rotary"
    width, num_heads = _integer(merged, "hidden_size", where), _integer(merged, "num_attention_heads", where)
    if width % num_heads or (rotary and width // num_heads % 2):
        raise ConfigError(f"`{where}hidden_size` {width} does not split into {num_heads} heads of even width")
    vocab_size, pad_token_id = _integer(merged, "vocab_size", where), _integer(merged, "pad_token_id", where, least=0)
    if pad_token_id >= vocab_size:
        raise ConfigError(f"`{where}pad_token_id` is {pad_token_id}: beyond the vocabulary of {vocab_size}")
    return TextConfig(
        base=base_name,
        vocab_size=vocab_size,
        width=width,
        num_layers=_integer(merged, "num_hidden_layers", where, most=_MOST_LAYERS),
        num_heads=num_heads,
        mlp_width=_integer(merged, "intermediate_size", where),
        layer_norm_eps=_number(merged, "layer_norm_eps", where),
        type_vocab_size=_integer(merged, "type_vocab_size", where),
        pad_token_id=pad_token_id,
        position="rotary" if rotary else "alibi",
        rotary_base=_number(merged, "rotary_emb_base", where) if rotary else None,
        lora=_parse_lora(merged, raw.get("default_lora_task"), where),
        task_instructions=_parse_instructions(merged, where),
    )


def _parse_lora(merged: Mapping[str, object], default_task: object, where: str) -> LoraConfig | None:
    names = merged["lora_adaptations"]
    if not names:
        return None
    if not isinstance(names, list):
        raise ConfigError(f"`{where}lora_adaptations` is {names!r}: a list of names is needed")
    if default_task not in names:
        raise ConfigError(f"`text_config.default_lora_task` is {default_task!r}: one of {names} is needed")
    rank = _integer(merged, "lora_rank", where)
    scaling = _number(merged, "lora_alpha", where) / rank
    return LoraConfig(rank=rank, scaling=scaling, num_adapters=len(names), active=names.index(default_task))


def _parse_instructions(merged: Mapping[str, object], where: str) -> Mapping[str, str]:
    instructions = merged["task_instructions"] or {}
    if not isinstance(instructions, dict) or not all(isinstance(value, str) for value in instructions.values()):
        raise ConfigError(f"`{where}task_instructions` is {instructions!r}: an object of strings is needed")
    return MappingProxyType(dict(instructions))


def _parse_vision(raw: Mapping[str, object]) -> VisionConfig:
    where = "vision_config."
    _require(raw, _REQUIRED_VISION, where)
    width, head_width = _integer(raw, "width", where), _integer(raw, "head_width", where)
    if width % head_width or head_width % 4:
        raise ConfigError(f"`{where}head_width` is {head_width}: it must divide the width {width} and be 4 x n")
    image_size = _integer(raw, "image_size", where, most=_MOST_PIXELS)
    patch_size = _integer(raw, "patch_size", where)
    if patch_size > image_size:
        raise ConfigError(f"`{where}patch_size` {patch_size} is larger than `image_size` {image_size}")
    grid, trained_grid = image_size // patch_size, _integer(raw, "pt_hw_seq_len", where)
    # v2 scales its 36 rows to the 16 positions of the pre-training; v1 uses its own 14 rows.
    if not raw.get("intp_freq") and trained_grid != grid:
        raise ConfigError(f"`{where}pt_hw_seq_len` is {trained_grid} and `intp_freq` is off: {grid} is needed")
    return VisionConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        num_layers=_integer(raw, "layers", where, most=_MOST_LAYERS),
        num_heads=width // head_width,
        mlp_width=int(width * _number(raw, "mlp_ratio", where, most=_MOST_MLP_RATIO)),
        rope_span=float(trained_grid),
    )


def _section(raw: Mapping[str, object], name: str, where: str = "") -> Mapping[str, object]:
    value = raw.get(name)
    if not isinstance(value, dict):
        raise ConfigError(f"`{where}{name}` is {type(value).__name__}: a JSON object is needed")
    return value


def _require(raw: Mapping[str, object], expected: Mapping[str, object], where: str) -> None:
    """Refuse any field of `expected` that is present with another value; an absent field has the right default."""
    for name, value in expected.items():
        if name in raw and raw[name] != value:
            raise ConfigError(f"`{where}{name}` is {raw[name]!r}: only {value!r} is supported")


def _integer(raw: Mapping[str, object], name: str, where: str, *, least: int = 1, most: int = _MOST) -> int:
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"`{where}{name}` is {value!r}: an int in {least}..{most} is needed")
    return value


def _number(raw: Mapping[str, object], name: str, where: str, *, most: float = _MOST_NUMBER) -> float:
    value = raw.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:  # false for NaN
        raise ConfigError(f"`{where}{name}` is {value!r}: a positive number up to {most:g} is needed")
    return float(value)
