"""Folders that `jclip export onnx` wrote: what is in them, and from which model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from core_encoder.config import read_json
from core_encoder.errors import CheckpointError

OnnxPrecision = Literal["fp32", "fp16", "int8"]
TOWERS: Mapping[str, str] = MappingProxyType({"text": "text.onnx", "image": "image.onnx"})
EXPORT_FILE = "export.json"
EXPORT_FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    EXPORT_FILE,
    *(name for tower in TOWERS.values() for name in (tower, f"{tower}.data")),
)
GRAPH_VERSION = 1  # of the graphs in the cache; another number converts every model again
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exported folder says of itself.

    Attributes:
        precision: of its matrices.
        model: the hub id or name of the model that it was made from; "" if that was a folder.
        revision: the commit of a hub model, or the revision of "nano"; `None` if it was made from a folder.
        weights_sha256: of the safetensors file that it was made from, 64 hex digits.
        logit_scale: the natural logarithm of the inverse temperature; `None` in a folder of an earlier version.
    """

    precision: OnnxPrecision
    model: str
    revision: str | None
    weights_sha256: str
    logit_scale: float | None


def read_export(folder: Path) -> Exported | None:
    """Read `export.json`; `None` if the folder has none, and is no exported folder.

    Raises:
        CheckpointError: it is damaged, or a later version wrote it.
    """
    path = folder / EXPORT_FILE
    if not path.is_file():
        return None
    raw = read_json(path)
    if raw.get("format") != _FORMAT:
        raise CheckpointError(f"{str(path)!r} has format {raw.get('format')!r}: this version reads {_FORMAT}")
    precision, model, revision, digest = (
        raw.get(name) for name in ("precision", "model", "revision", "weights_sha256")
    )
    scale = raw.get("logit_scale")
    damaged = CheckpointError(f"{str(path)!r} is damaged: export the model again")
    if precision not in get_args(OnnxPrecision) or not isinstance(model, str) or not isinstance(digest, str):
        raise damaged
    if not isinstance(revision, str | None) or not isinstance(scale, float | None):
        raise damaged
    return Exported(
        precision=precision,  # type: ignore[arg-type]  # one of them, as was seen
        model=model,
        revision=revision,
        weights_sha256=digest,
        logit_scale=scale,
    )
