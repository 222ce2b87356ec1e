"""Write a model as ONNX into a folder that loads anywhere: on machines without torch, and without a conversion."""

from pathlib import Path
from typing import get_args

from core_encoder.checkpoint import find_checkpoint
from core_encoder.config import read_config
from core_encoder.errors import ConfigError
from core_encoder.exported import OnnxPrecision, read_export
from core_encoder.onnx.conversion import export
from core_encoder.origin import Origin


def export_onnx(
    source: str | Path,
    out: str | Path,
    *,
    precision: OnnxPrecision = "fp32",
    revision: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Convert a model and write it into a new folder, for `JinaClipEncoder.load(out)`.

    Collections that were made with the model open with the folder, if the precision is the same.

    Args:
        source: hub id, folder with a checkpoint, or "nano".
        out: the folder to write; it must not exist.
        precision: of the matrices: "fp32"; "fp16", of half the size; or "int8", a quarter of it and faster on a CPU.
        revision: commit of a hub id; the pinned one of a known model if `None`.
        local_files_only: use the local cache of models and never the network.

    Returns:
        `out`.

    Raises:
        CheckpointError: the model is absent or damaged, or `out` exists or cannot be written.
        ConfigError: an unknown precision, or `source` is an exported folder itself.
    """
    if precision not in get_args(OnnxPrecision):
        raise ConfigError(f"`precision` is {precision!r}: choose one of {get_args(OnnxPrecision)}")
    folder = find_checkpoint(source, revision=revision, local_files_only=local_files_only)
    if read_export(folder) is not None:
        raise ConfigError(f"{str(source)!r} is an exported folder: export the model that it was made from")
    origin = Origin.of(source, folder)
    place = Path(out).expanduser()
    name = "" if origin.revision is None else str(source)
    export(folder, read_config(folder), precision, place, source=name, revision=origin.revision)
    return place
