"""A local encoder for jina-clip v2 and v1: text and images in, float32 vectors out.

Importing the package is cheap; the first use of `JinaClipEncoder` imports what the encoder needs.
"""

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
    "MissingWeightsError",
    "TextTooLongError",
    "Tiling",
    "WeightShapeError",
]


def __getattr__(name: str) -> object:
    """Import the encoder on first use (PEP 562)."""
    if name == "JinaClipEncoder":
        try:
            from core_encoder.encoder import JinaClipEncoder
        except ModuleNotFoundError as error:
            message = f"{error.name} is not installed: pip install 'jclip-connectors[onnx]'"
            raise ImportError(message, name=error.name) from error
        return JinaClipEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
