"""The image tower of both models: EVA02, a pre-norm ViT with rotary positions and a gated MLP.

Reasons not to use timm's `Eva`: here one matrix product gives queries, keys and values, one gives both halves of the
MLP, and a command starts without importing timm and torchvision, which takes longer than importing torch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.config import VisionConfig
from core_encoder.torch.tables import PositionTable

_NORM_EPS = 1e-6  # every LayerNorm of the tower, the inner ones too
_ROPE_BASE = 10000.0


def rope_table(grid: int, span: float, head_width: int) -> Tensor:
    """Cosine and sine for `rotate_interleaved`: (1 + P, d / 2, 2) float32, the class token and a square of P patches.

    The row rotates the first half of the d / 2 pairs, the column the second half; positions run from 0 to `span`. The
    class token is not rotated: its cosines are 1 and its sines 0, which changes no bit.
    Source: Fang et al. 2023, "EVA-02", section 2.1, and Su et al. 2021, "RoFormer", equation 15.
    """
    exponents = torch.arange(0, head_width // 2, 2, dtype=torch.float32) / (head_width // 2)
    steps = torch.arange(grid, dtype=torch.float32) / grid * span
    angles = steps[:, None] * _ROPE_BASE**-exponents  # (G, d / 4)
    rows = angles[:, None].expand(grid, grid, -1)
    columns = angles[None].expand(grid, grid, -1)
    angles = F.pad(torch.cat((rows, columns), dim=-1).flatten(0, 1), (0, 0, 1, 0))  # (1 + P, d / 2)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def rotate_interleaved(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1) of (B, L, n, H, d); the text tower pairs halves instead.

    A pair is a complex number, which is turned in one pass over memory. torch's compiler has no complex numbers.
    """
    if torch.compiler.is_compiling():
        cos, sin = table[:, None, None].unbind(-1)  # (L, 1, 1, d / 2)
        even, odd = x[..., 0::2].float(), x[..., 1::2].float()
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2).to(x.dtype)
    turns = torch.view_as_complex(table)[:, None, None]  # (L, 1, 1, d / 2)
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))  # (B, L, n, H, d / 2)
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


class BlockWeights(NamedTuple):
    """What a block multiplies with: its parameters, joined and, for a GPU, widened by zeros (`VisionBlock.weights`)."""

    qkv_bias: Tensor  # (3 * D,)
    mlp_in: Tensor  # (2 * W, D), gate and value; W >= the hidden width
    mlp_in_bias: Tensor  # (2 * W,)
    mlp_out: Tensor  # (D, W)


class VisionBlock(nn.Module):
    """Attention, then the MLP, each on the normalised input and added to it."""

    def __init__(self, config: VisionConfig) -> None:
        """Build the block with torch's default initial values."""
        super().__init__()
        width, hidden = config.width, config.mlp_width
        self.num_heads, self.hidden = config.num_heads, hidden
        self.norm_1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))  # keys have no bias
        self.attention_norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp_in = nn.Linear(width, 2 * hidden)  # gate and value
        self.mlp_norm = nn.LayerNorm(hidden, eps=_NORM_EPS)
        self.mlp_out = nn.Linear(hidden, width)

    def weights(self, *, multiple: int = 1) -> BlockWeights:
        """The weights of the block's products.

        Args:
            multiple: of which the width W of the MLP shall be one. Zeros are added, which changes no result.
        """
        qkv_bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        mlp_in: Tensor = self.mlp_in.weight
        mlp_in_bias: Tensor = self.mlp_in.bias
        mlp_out: Tensor = self.mlp_out.weight
        if extra := -self.hidden % multiple:
            mlp_in = F.pad(mlp_in.view(2, self.hidden, -1), (0, 0, 0, extra)).flatten(0, 1)
            mlp_in_bias = F.pad(mlp_in_bias.view(2, self.hidden), (0, extra)).flatten()
            mlp_out = F.pad(mlp_out, (0, extra))
        return BlockWeights(qkv_bias, mlp_in, mlp_in_bias, mlp_out)

    def forward(self, x: Tensor, rope: Tensor, weights: BlockWeights) -> Tensor:
        """(B, 1 + P, D) -> (B, 1 + P, D)."""
        x = x + self._attention(self.norm_1(x), rope, weights.qkv_bias)
        both = F.linear(self.norm_2(x), weights.mlp_in, weights.mlp_in_bias)  # (B, 1 + P, 2 * W)
        gate, value = (half[..., : self.hidden] for half in both.chunk(2, dim=-1))
        hidden = self.mlp_norm(F.silu(gate) * value)
        if extra := weights.mlp_out.shape[1] - self.hidden:
            hidden = F.pad(hidden, (0, extra))  # (B, 1 + P, W)
        return x + F.linear(hidden, weights.mlp_out, self.mlp_out.bias)

    def _attention(self, x: Tensor, rope: Tensor, qkv_bias: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = F.linear(x, self.qkv.weight, qkv_bias).view(batch, length, 3, self.num_heads, -1)
        q, k = rotate_interleaved(qkv[:, :, :2], rope).permute(2, 0, 3, 1, 4)  # (B, H, 1 + P, d) each
        v = qkv[:, :, 2].transpose(1, 2)  # (B, H, 1 + P, d)
        out = F.scaled_dot_product_attention(q, k, v)  # (B, H, 1 + P, d)
        projected: Tensor = self.out(self.attention_norm(out.transpose(1, 2).reshape(batch, length, width)))
        return projected


RunBlock = Callable[[VisionBlock, Tensor, Tensor, BlockWeights], Tensor]  # `VisionBlock.forward`, or it compiled


class VisionTower(nn.Module):
    """Pixel values in, one raw feature row per image out."""

    def __init__(self, config: VisionConfig) -> None:
        """Build the tower with torch's default initial values."""
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + config.grid**2, width))
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self._rope = PositionTable(self._make_rope)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixel_values: (B, 3, S, S) normalised, on the tower's device and in its dtype.

        Returns:
            (B, D) float32 raw features: the class token, not normalised.
        """
        return self.features(self.hidden_states(pixel_values))

    def features(self, hidden_states: Tensor) -> Tensor:
        """The last block's output, (B, 1 + P, D) -> (B, D) float32 raw features."""
        features: Tensor = self.norm(hidden_states[:, 0]).float()
        return features

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """The class token and every patch after the final norm, (B, 1 + P, D)."""
        tokens: Tensor = self.norm(self.hidden_states(pixel_values))
        return tokens

    def hidden_states(self, pixel_values: Tensor) -> Tensor:
        """The last block's output before the final norm, (B, 1 + P, D)."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)  # (B, P, D)
        return self.run_blocks(patches, [block.weights() for block in self.vision_blocks()])

    def run_blocks(
        self, patches: Tensor, weights: Sequence[BlockWeights], run: RunBlock = VisionBlock.__call__
    ) -> Tensor:
        """Embedded patches without positions, (B, P, D) -> the last block's output before the final norm."""
        x = torch.cat((self.class_token.expand(patches.shape[0], -1, -1), patches), dim=1) + self.position_embedding
        rope = self._rope.on(x.device, x.shape[1])  # (1 + P, d / 2, 2)
        for block, own in zip(self.vision_blocks(), weights, strict=True):
            x = run(block, x, rope, own)
        return x

    def vision_blocks(self) -> list[VisionBlock]:
        """The blocks in order."""
        return [cast("VisionBlock", block) for block in self.blocks]

    def _make_rope(self, _rows: int) -> Tensor:
        config = self.config
        return rope_table(config.grid, config.rope_span, config.width // config.num_heads)
