"""Choose and load the runtime: ONNX Runtime or torch."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from core_encoder.config import ModelConfig
from core_encoder.errors import ConfigError
from core_encoder.exported import Exported, OnnxPrecision, read_export
from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.models import AttentionChoice, Precision, RuntimeChoice, RuntimeName
from core_encoder.runtime import Runtime

# What a runtime needs; other libraries bring onnxruntime without onnx, which converts a model.
_PACKAGES: Mapping[RuntimeName, tuple[str, ...]] = MappingProxyType(
    {"onnx": ("onnxruntime", "onnx"), "torch": ("torch",)}
)
_TITLES: Mapping[RuntimeName, str] = MappingProxyType({"onnx": "ONNX Runtime", "torch": "torch"})
# Files that the drivers of a GPU make: NVIDIA's, NVIDIA's in the Linux of Windows, and AMD's.
_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


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
    if runtime not in get_args(RuntimeChoice):
        raise ConfigError(f"`runtime` is {runtime!r}: choose one of {get_args(RuntimeChoice)}")
    exported = read_export(folder)
    if exported is not None:
        runtime, precision = _of_export(exported, runtime=runtime, precision=precision)
    chosen = _choose(runtime, device=device, precision=precision, attention=attention, onnx_only=(providers, threads))
    if chosen == "torch":
        _refuse("torch", providers=providers, threads=threads)
        from core_encoder.torch.runtime import TorchRuntime  # imported here: each runtime needs its own library

        return TorchRuntime.load(folder, config, preprocessing, device=device, precision=precision, attention=attention)
    _refuse("onnx", attention=None if attention == "auto" else attention)
    if device not in (None, "cpu"):
        raise ConfigError(
            f"`device` is {device!r}, which is an option of torch: name an execution provider of ONNX Runtime in "
            "`providers`, or write `runtime='torch'`"
        )
    if precision == "bf16":
        raise ConfigError("`precision` is 'bf16', which only torch has: write `runtime='torch'`, or 'fp16'")
    from core_encoder.onnx.conversion import converted
    from core_encoder.onnx.runtime import OnnxRuntime

    found: OnnxPrecision = "fp32" if precision == "auto" else precision
    return OnnxRuntime(
        folder if exported is not None else converted(folder, config, found),
        config,
        preprocessing,
        precision=found,
        providers=providers,
        threads=threads,
    )


def _of_export(
    exported: Exported, *, runtime: RuntimeChoice, precision: Precision
) -> tuple[RuntimeChoice, OnnxPrecision]:
    """The runtime and the precision of an exported folder, if they are what was asked for."""
    if runtime == "torch":
        raise ConfigError("`runtime` is 'torch', but an exported folder has no weights for torch: leave it out")
    if precision not in ("auto", exported.precision):
        raise ConfigError(f"`precision` is {precision!r}, but the folder was exported in {exported.precision!r}")
    return "onnx", exported.precision


def _choose(
    choice: RuntimeChoice,
    *,
    device: str | None,
    precision: Precision,
    attention: AttentionChoice,
    onnx_only: tuple[object, ...],
) -> RuntimeName:
    """Decide which runtime computes; torch is imported only where it may find a GPU.

    Raises:
        ModuleNotFoundError: no runtime is installed.
    """
    if choice != "auto":
        return choice
    installed = {name for name, packages in _PACKAGES.items() if all(map(_is_installed, packages))}
    if not installed:
        raise ModuleNotFoundError(
            "no runtime is installed: pip install 'jclip-connectors[onnx]', or [local] for torch", name="onnxruntime"
        )
    if precision in ("fp16", "int8") or any(option is not None for option in onnx_only):
        return "onnx"
    if precision == "bf16" or attention != "auto" or device not in (None, "cpu"):
        return "torch"
    if "onnx" in installed and (device == "cpu" or "torch" not in installed or not _has_cuda()):
        return "onnx"
    return "torch"


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a package that was set to None
        return False


def _has_cuda() -> bool:
    if sys.platform == "darwin" or (sys.platform == "linux" and not any(map(os.path.exists, _GPU_FILES))):
        return False
    import torch  # imported here: it takes seconds

    return torch.cuda.is_available()


def _refuse(runtime: RuntimeName, **options: object) -> None:
    """Refuse options that another runtime has."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"`{name}` is {value!r}, which {_TITLES[runtime]} does not have: leave it out")
