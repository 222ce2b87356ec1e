"""A local encoder for jina-clip v2 and v1: text and images in, float32 vectors out.

Importing the package is cheap; the first use of `JinaClipEncoder` imports what the encoder needs.
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from core_encoder.errors import (
    CheckpointError,
    ConfigError,
    EmbeddingDimError,
    ImageDecodeError,
    ImageLimitError,
    InputError,
    JinaClipError,
    MissingWeightsError,
    TextTooLongError,
    WeightShapeError,
)
from core_encoder.image_limits import ImageLimits
from core_encoder.image_notes import ImageNote
from core_encoder.tiling import Tiling

if TYPE_CHECKING:
    from core_encoder.encoder import JinaClipEncoder
    from core_encoder.zero_shot import LabelClassifier, LabelScore

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EmbeddingDimError",
    "ImageDecodeError",
    "ImageLimitError",
    "ImageLimits",
    "ImageNote",
    "InputError",
    "JinaClipEncoder",
    "JinaClipError",
    "LabelClassifier",
    "LabelScore",
    "MissingWeightsError",
    "TextTooLongError",
    "Tiling",
    "WeightShapeError",
]


_LATE = MappingProxyType(  # by name, the module that is imported when the name is first used
    {
        "JinaClipEncoder": "core_encoder.encoder",
        "LabelClassifier": "core_encoder.zero_shot",
        "LabelScore": "core_encoder.zero_shot",
    }
)


def __getattr__(name: str) -> object:
    """Import the encoder, and what is made with one, on first use (PEP 562)."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_LATE[name]), name)
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'jclip-connectors[onnx]'"
        raise ImportError(message, name=error.name) from error
