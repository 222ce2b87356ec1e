"""Choose and load the runtime: ONNX Runtime or torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from core_encoder.config import ModelConfig
from core_encoder.errors import ConfigError
from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.models import AttentionChoice, Precision
from core_encoder.runtime import Runtime, RuntimeChoice


def load_runtime(
    folder: Path,
    config: ModelConfig,
    preprocessing: PreprocessConfig,
    *,
    runtime: RuntimeChoice,
    device: str | None,
    precision: Precision,
    attention: AttentionChoice,
    providers: Sequence[str] | None,
    threads: int | None,
) -> Runtime:
    """Load the towers in `folder`; the options are those of `JinaClipEncoder.load`."""
    if precision not in get_args(Precision):
        raise ConfigError(f"`precision` is {precision!r}: choose one of {get_args(Precision)}")
    if attention not in get_args(AttentionChoice):
        raise ConfigError(f"`attention` is {attention!r}: choose one of {get_args(AttentionChoice)}")
    if runtime != "onnx":
        for name, value in (("providers", providers), ("threads", threads)):
            if value is not None:
                raise ConfigError(f"`{name}` is {value!r}, which is an option of `runtime='onnx'`: leave it out")
        from core_encoder.torch.runtime import TorchRuntime  # imported here: each runtime needs its own library

        return TorchRuntime.load(folder, config, preprocessing, device=device, precision=precision, attention=attention)
    raise ConfigError("`runtime` is 'onnx', which this version does not have: leave it out")
