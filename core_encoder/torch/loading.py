"""Fill the torch towers from a checkpoint.

Weights are copied a few tensors at a time into memory that is allocated once, and the low-rank adapters are merged on
the way, so that loading needs little more memory than the loaded model.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core_encoder.config import LoraConfig, ModelConfig
from core_encoder.errors import CheckpointError
from core_encoder.models import WEIGHTS_FILE
from core_encoder.torch.model import JinaClip
from core_encoder.weights import Weight, check_tensors, weight_table

_MERGE_ROWS = 2048  # rows of a weight that are merged at a time: 8 MB in float32 at width 1024
_WEIGHTS_PER_OPENING = 8  # closing the file frees the memory of the pages that were read


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
        check_tensors(path, config)
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
