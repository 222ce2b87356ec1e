"""The image tower as a GPU runs it: from squares of bytes, with weights that are derived once.

The arithmetic is that of `VisionTower` on `image_preprocess.pixel_values`; only the rounding differs.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from core_encoder.image_preprocess import PreprocessConfig
from core_encoder.torch.vision_tower import RunBlock, VisionBlock, VisionTower

_MIDDLE = 128  # bytes minus this are exact in bfloat16, as the bytes are, and lie around zero, as normalised pixels do
_MULTIPLE = 8  # of 16-bit values: tensor cores read rows in units of 16 bytes. v2's MLP is 2730 wide


class FoldedVision:
    """A `VisionTower` whose patch embedding normalises, and whose matrices have widths that tensor cores like.

    The parameters stay as they are for a host; what is derived from them takes 0.4 GB in bfloat16 for v2 and nothing
    for v1. A tower that was moved or filled again needs a new one.
    """

    def __init__(self, tower: VisionTower, preprocessing: PreprocessConfig) -> None:
        """Derive the weights.

        With u = byte - 128 a normalised pixel is (u + 128) / (255 * std) - mean / std, so the embedding's weight w
        becomes w / (255 * std), and its bias grows by the sum of w * (128 / 255 - mean) / std.

        Args:
            tower: on its device, in its dtype, with its weights.
            preprocessing: of the same checkpoint.
        """
        self._tower = tower
        weight, bias = tower.patch_embedding.weight, cast("Tensor", tower.patch_embedding.bias)
        mean, std = (
            torch.tensor(values, dtype=torch.float64, device=weight.device).view(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        exact = weight.detach().double() / std  # (D, 3, p, p)
        self._weight = (exact / 255).permute(0, 2, 3, 1).flatten(1).to(weight.dtype)  # (D, p * p * 3)
        shift = (exact * (_MIDDLE / 255 - mean)).sum(dim=(1, 2, 3))  # (D,)
        self._bias = (bias.detach().double() + shift).to(bias.dtype)
        self._blocks = [block.weights(multiple=_MULTIPLE) for block in tower.vision_blocks()]

    def features(self, squares: Tensor, run: RunBlock = VisionBlock.__call__) -> Tensor:
        """Encode pictures.

        Args:
            squares: (B, S, S, 3) uint8 in RGB, on the tower's device.
            run: computes one block, maybe compiled.

        Returns:
            (B, D) float32 raw features, not normalised.
        """
        return self._tower.features(self._tower.run_blocks(self._embed(squares), self._blocks, run))

    def _embed(self, squares: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 -> (B, P, D), one row for each patch."""
        grid, patch, count = self._tower.config.grid, self._tower.config.patch_size, squares.shape[0]
        inside = squares[:, : grid * patch, : grid * patch]
        patches = inside.reshape(count, grid, patch, grid, patch, 3).transpose(2, 3)  # (B, G, G, p, p, 3)
        values = patches.reshape(count, grid * grid, -1).to(self._weight.dtype) - _MIDDLE
        return F.linear(values, self._weight, self._bias)
