"""What the encoder asks of a runtime: the two towers of a loaded model, batches in, raw features out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core_encoder.config import ModelConfig
from core_encoder.models import RuntimeName
from core_encoder.tokenization import PackedTexts


class Runtime(Protocol):
    """The towers of one checkpoint on one device; several threads may call it."""

    @property
    def name(self) -> RuntimeName:
        """Which library computes."""
        ...

    @property
    def config(self) -> ModelConfig:
        """The sizes of the model."""
        ...

    @property
    def device(self) -> str:
        """Where the towers compute: "cpu", "cuda:0", ..."""
        ...

    @property
    def precision(self) -> str:
        """The number format of the towers: "fp32", "bf16", ..."""
        ...

    @property
    def attention(self) -> str:
        """How the text tower computes attention."""
        ...

    @property
    def tokens_per_batch(self) -> int:
        """The most tokens, or patches, that are computed together at the speed of larger batches."""
        ...

    def check_process(self) -> None:
        """Raise a `ConfigError` if this process cannot compute on the device."""
        ...

    def text_features(self, batch: PackedTexts) -> NDArray[np.float32]:
        """Run the text tower on B texts: (B, E) raw features, not normalised."""
        ...

    def image_features(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the image tower on (B, S, S, 3) pictures in RGB: (B, E) raw features, not normalised."""
        ...
