"""Where a model runs and in which precision, decided once when it is loaded."""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from core_encoder.errors import ConfigError
from core_encoder.models import Precision

PRECISIONS: Mapping[torch.dtype, str] = MappingProxyType({torch.float32: "fp32", torch.bfloat16: "bf16"})


def resolve_device(device: str | None, precision: Precision) -> tuple[torch.device, torch.dtype]:
    """Turn the `device` and `precision` options into torch's types.

    Args:
        device: "cpu", "cuda", "cuda:1", ...; `None` is CUDA if available, else the CPU.
        precision: "fp32", "bf16", or "auto": bf16 on CUDA, as in the reference, and fp32 elsewhere.

    Raises:
        ConfigError: another precision, or a device that is unknown or not available.
    """
    if precision not in {"auto", "fp32", "bf16"}:
        raise ConfigError(
            f"`precision` is {precision!r}: torch computes in 'fp32' or 'bf16'; `runtime='onnx'` has 'fp16' and 'int8'"
        )
    try:
        place = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"`device` is {device!r}: torch does not know it; use 'cpu' or 'cuda'") from error
    if place.type == "meta":
        raise ConfigError(f"`device` is {device!r}: nothing is computed there; use 'cpu' or 'cuda'")
    try:
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, ImportError) as error:  # depends on the device's backend
        raise ConfigError(f"`device` is {device!r}, but torch finds no such device here; 'cpu' always works") from error
    rounded = precision == "bf16" or (precision == "auto" and place.type == "cuda")
    return place, torch.bfloat16 if rounded else torch.float32
