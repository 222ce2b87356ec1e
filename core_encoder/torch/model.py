"""The text tower and the image tower in one torch module."""

import os
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from core_encoder.config import ModelConfig
from core_encoder.forks import check_process, model_was_loaded
from core_encoder.torch.text_tower import TextTower
from core_encoder.torch.vision_tower import VisionTower


class JinaClip(nn.Module):
    """Both towers and the temperature that they were trained with."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the model with torch's default initial values."""
        super().__init__()
        self.config = config
        self.text = TextTower(config.text)
        self.vision = VisionTower(config.vision)
        self.logit_scale = nn.Parameter(torch.zeros(()))  # natural logarithm of the inverse temperature
        self.moves = 0  # how often the parameters were moved or converted; what is derived from them is then old
        self._process = os.getpid()
        model_was_loaded()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Count the move; `.to`, `.cuda`, `.float` and the like all call this, also those of a module around."""
        self.moves += 1
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return moved

    def place(self) -> torch.device:
        """The device that holds the weights, if this process can compute there.

        Raises:
            ConfigError: it is a GPU, and this process was forked after the model was loaded.
        """
        device = self.logit_scale.device
        check_process(self._process, device.type)
        return device

    def similarity(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Scaled cosine of every image with every text: (I, D) and (T, D) raw features -> (I, T) logits."""
        images = nn.functional.normalize(image_features, dim=-1)
        texts = nn.functional.normalize(text_features, dim=-1)
        return self.logit_scale.exp() * images @ texts.T
