"""Load a model from a hub id or a folder: find the files, check every tensor, fill every parameter.

`weight_table` is the one list of every tensor that a checkpoint must hold. Weights are copied a few tensors at a time
into memory that is allocated once, and the low-rank adapters are merged on the way, so that loading needs little more
memory than the loaded model.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core_encoder.config import LoraConfig, ModelConfig, TextConfig
from core_encoder.errors import CheckpointError, ConfigError, MissingWeightsError, WeightShapeError
from core_encoder.model import JinaClip
from core_encoder.models import FILES as FILES  # part of this module's interface too, like the next
from core_encoder.models import WEIGHTS_FILE as WEIGHTS_FILE
from core_encoder.models import default_revision, find_folder, is_hub_id

# Older code saved the image tower's rotary tables with v1; they are computed here, so the saved ones are ignored.
_LEFTOVERS = re.compile(r"vision_model\.(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)")
_MERGE_ROWS = 2048  # rows of a weight that are merged at a time: 8 MB in float32 at width 1024
_WEIGHTS_PER_OPENING = 8  # closing the file frees the memory of the pages that were read
_FLOAT_TYPES = frozenset({"F16", "BF16", "F32"})


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight of the checkpoint and its place in the model.

    Attributes:
        key: its name in the file; with an adapter, the common prefix of the weight's three tensor names.
        target: name of the model's parameter.
        part: (index, count): the weight fills part `index` of `count` equal parts of the parameter's rows.
        adapter: how the two factors of a low-rank adapter multiply, or `None` where there is no adapter.
    """

    key: str
    target: str
    part: tuple[int, int] = (0, 1)
    adapter: Literal["linear", "embedding"] | None = None

    def expected_shapes(self, shape: torch.Size, lora: LoraConfig | None) -> dict[str, list[int]]:
        """Every tensor of this weight in the file, with its shape, for a parameter of shape `shape`."""
        rows, rest = [size // self.part[1] for size in shape[:1]], list(shape[1:])
        if self.adapter is None or lora is None:
            return {self.key: rows + rest}
        (height,), (width,), n, rank = rows, rest, lora.num_adapters, lora.rank
        linear = self.adapter == "linear"
        return {
            f"{self.key}.original": [height, width],
            f"{self.key}.0.lora_A": [n, rank, width] if linear else [n, height, rank],
            f"{self.key}.0.lora_B": [n, height, rank] if linear else [n, rank, width],
        }


def find_checkpoint(source: str | Path, *, revision: str | None, local_files_only: bool) -> Path:
    """Find or download the four files of a checkpoint and return the folder that holds them.

    Args:
        source: hub id ("jinaai/jina-clip-v2"), folder, or "nano".
        revision: commit, branch or tag of a hub id; `None` takes the pinned commit of a known model.
        local_files_only: never use the network.

    Raises:
        CheckpointError: a file is absent, the hub cannot be reached, or the id does not exist.
        ConfigError: `revision` was given for a folder.
    """
    folder = Path(__file__).parent / "nano" if source == "nano" else find_folder(source)
    if folder is not None:
        if revision is not None:
            raise ConfigError(f"`revision` is {revision!r}, but {str(source)!r} is local and has no revisions")
        if absent := [name for name in FILES if not (folder / name).is_file()]:
            raise CheckpointError(f"the folder {str(folder)!r} lacks {absent}; a checkpoint has {list(FILES)}")
        return folder
    if not is_hub_id(str(source)):
        raise CheckpointError(f"{str(source)!r} is neither a folder, nor a hub id of the form 'owner/name', nor 'nano'")
    if revision is None:
        revision = default_revision(str(source))
    paths = [_download(str(source), name, revision, local_files_only=local_files_only) for name in FILES]
    return paths[0].parent


def _download(repo_id: str, name: str, revision: str | None, *, local_files_only: bool) -> Path:
    asked = f"{repo_id!r} at revision {revision or 'main'!r}"
    try:
        return Path(hf_hub_download(repo_id, name, revision=revision, local_files_only=local_files_only))
    except LocalEntryNotFoundError as error:
        why = "`local_files_only` is set" if local_files_only else "the hub cannot be reached"
        raise CheckpointError(
            f"{name} of {asked} is not in the local cache and {why}: download it once with a connection, "
            "or pass a folder that holds the files"
        ) from error
    except EntryNotFoundError as error:
        hint = "; weights are read from safetensors only, never from a pickle" if name == WEIGHTS_FILE else ""
        raise CheckpointError(f"{asked} has no file {name}{hint}") from error
    except (OSError, HFValidationError) as error:  # the hub's HTTP errors are OSErrors
        raise CheckpointError(f"{name} of {asked} cannot be downloaded ({type(error).__name__}): {error}") from error


def load_model(folder: Path, config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> JinaClip:
    """Build the model on `device` in `dtype` and fill every parameter from `model.safetensors`.

    Raises:
        MissingWeightsError: tensors are absent or unknown (`.missing`, `.unexpected`).
        WeightShapeError: a tensor has another shape than the configuration asks for.
        CheckpointError: the file is not a safetensors file, or a tensor does not hold floats.
    """
    with torch.device("meta"):
        model = JinaClip(config)
    path, table = folder / WEIGHTS_FILE, weight_table(config)
    try:
        _check_tensors(path, table, model, config.text.lora)
        _allocate(model.eval(), device=device, dtype=dtype)
        parameters = dict(model.named_parameters())
        for start in range(0, len(table), _WEIGHTS_PER_OPENING):
            with safe_open(path, framework="pt") as file:
                for weight in table[start : start + _WEIGHTS_PER_OPENING]:
                    _fill(parameters[weight.target], weight, file, config.text.lora)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} is not a complete safetensors file: {error}") from error
    return model


def _allocate(model: nn.Module, *, device: torch.device, dtype: torch.dtype) -> None:
    """Allocate memory for every parameter; `nn.Module.to_empty` does the same, but imports sympy."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            memory = torch.empty(parameter.shape, device=device, dtype=dtype)
            setattr(module, name, nn.Parameter(memory, requires_grad=False))


def _check_tensors(path: Path, table: list[Weight], model: JinaClip, lora: LoraConfig | None) -> None:
    """Compare names, then shapes and types, of the file's tensors with what the table asks for."""
    parameters = dict(model.named_parameters())
    expected: dict[str, list[int]] = {}
    for weight in table:
        expected |= weight.expected_shapes(parameters[weight.target].shape, lora)
    with safe_open(path, framework="pt") as file:
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


def _fill(parameter: Tensor, weight: Weight, file: Any, lora: LoraConfig | None) -> None:  # noqa: ANN401 - untyped handle
    """Copy one weight into its place; an adapter is merged in float32, some rows at a time."""
    index, count = weight.part
    target = parameter if count == 1 else parameter.chunk(count)[index]
    if weight.adapter is None or lora is None:
        target.copy_(file.get_tensor(weight.key))
        return
    original = file.get_slice(f"{weight.key}.original")
    a = file.get_tensor(f"{weight.key}.0.lora_A")[lora.active].float()
    b = file.get_tensor(f"{weight.key}.0.lora_B")[lora.active].float()
    left, right = (b, a) if weight.adapter == "linear" else (a, b)  # (rows, r), (r, columns)
    for start in range(0, target.shape[0], _MERGE_ROWS):
        rows = slice(start, start + _MERGE_ROWS)
        target[rows].copy_(original[rows].float().addmm_(left[rows], right, alpha=lora.scaling))


def weight_table(config: ModelConfig) -> list[Weight]:
    """Every weight of a checkpoint with this configuration, without known leftovers."""
    return [*_text_table(config.text), *_vision_table(config), Weight(key="logit_scale", target="logit_scale")]


def _text_table(config: TextConfig) -> Iterator[Weight]:
    adapted = config.lora is not None
    root = "text_model.transformer." + ("roberta." if adapted else "")
    suffix = ".parametrizations.weight" if adapted else ".weight"
    linear: Literal["linear"] | None = "linear" if adapted else None
    embedding: Literal["embedding"] | None = "embedding" if adapted else None
    for name, target in (("word_embeddings", "word_embedding"), ("token_type_embeddings", "token_type")):
        yield Weight(key=f"{root}embeddings.{name}{suffix}", target=f"text.{target}", adapter=embedding)
    for kind in ("weight", "bias"):
        yield Weight(key=f"{root}emb_ln.{kind}", target=f"text.embedding_norm.{kind}")
    matrices = {"mixer.Wqkv": "qkv", "mixer.out_proj": "out"}
    matrices |= (
        {"mlp.gated_layers": "mlp.fc_in", "mlp.wo": "mlp.fc_out"}
        if config.gated_mlp
        else {"mlp.fc1": "mlp.fc_in", "mlp.fc2": "mlp.fc_out"}
    )
    for i in range(config.num_layers):
        layer, ours = f"{root}encoder.layers.{i}.", f"text.layers.{i}."
        for name, target in matrices.items():
            yield Weight(key=f"{layer}{name}{suffix}", target=f"{ours}{target}.weight", adapter=linear)
            if name != "mlp.gated_layers":
                yield Weight(key=f"{layer}{name}.bias", target=f"{ours}{target}.bias")
        for name, target in (("norm1", "norm_1"), ("norm2", "norm_2")):
            for kind in ("weight", "bias"):
                yield Weight(key=f"{layer}{name}.{kind}", target=f"{ours}{target}.{kind}")


# (name in the file's block, name in our block, part of our parameter); queries, keys and values share one matrix here.
_VISION_BLOCK: tuple[tuple[str, str, tuple[int, int]], ...] = (
    ("norm1.weight", "norm_1.weight", (0, 1)),
    ("norm1.bias", "norm_1.bias", (0, 1)),
    ("attn.q_proj.weight", "qkv.weight", (0, 3)),
    ("attn.k_proj.weight", "qkv.weight", (1, 3)),
    ("attn.v_proj.weight", "qkv.weight", (2, 3)),
    ("attn.q_bias", "q_bias", (0, 1)),
    ("attn.v_bias", "v_bias", (0, 1)),
    ("attn.inner_attn_ln.weight", "attention_norm.weight", (0, 1)),
    ("attn.inner_attn_ln.bias", "attention_norm.bias", (0, 1)),
    ("attn.proj.weight", "out.weight", (0, 1)),
    ("attn.proj.bias", "out.bias", (0, 1)),
    ("norm2.weight", "norm_2.weight", (0, 1)),
    ("norm2.bias", "norm_2.bias", (0, 1)),
    ("mlp.w1.weight", "mlp_in.weight", (0, 2)),
    ("mlp.w2.weight", "mlp_in.weight", (1, 2)),
    ("mlp.w1.bias", "mlp_in.bias", (0, 2)),
    ("mlp.w2.bias", "mlp_in.bias", (1, 2)),
    ("mlp.ffn_ln.weight", "mlp_norm.weight", (0, 1)),
    ("mlp.ffn_ln.bias", "mlp_norm.bias", (0, 1)),
    ("mlp.w3.weight", "mlp_out.weight", (0, 1)),
    ("mlp.w3.bias", "mlp_out.bias", (0, 1)),
)


def _vision_table(config: ModelConfig) -> Iterator[Weight]:
    for name, target in (
        ("cls_token", "class_token"),
        ("pos_embed", "position_embedding"),
        ("patch_embed.proj.weight", "patch_embedding.weight"),
        ("patch_embed.proj.bias", "patch_embedding.bias"),
        ("norm.weight", "norm.weight"),
        ("norm.bias", "norm.bias"),
    ):
        yield Weight(key=f"vision_model.{name}", target=f"vision.{target}")
    for i in range(config.vision.num_layers):
        for name, target, part in _VISION_BLOCK:
            yield Weight(key=f"vision_model.blocks.{i}.{name}", target=f"vision.blocks.{i}.{target}", part=part)
