"""The text tower of both models: a post-norm encoder over packed texts, mean pooled.

v2 rotates queries and keys and has a plain MLP; v1 adds the ALiBi bias and has a gated one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.config import TextConfig
from core_encoder.torch.attention import AlibiBias, Backend, Packing, packed_attention
from core_encoder.torch.tables import PositionTable

_LEAST_ROWS = 512  # of the table of positions
_LEAST_COLUMNS, _MOST_COLUMNS = 8, 48  # tokens; fewer or more are as fast or faster as rows

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values (N, H, d) each -> (N, D)


def rotary_table(positions: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine for `rotate_halves`: two (N, 1, 1, d / 2) float32 tensors.

    Source: Su et al. 2021, "RoFormer", equation 15, with base^(-2i/d).
    """
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width
    angles = positions.float()[:, None] / base**exponents  # (N, d / 2)
    return angles.cos()[:, None, None], angles.sin()[:, None, None]


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + d/2) of (N, 2, H, d); the image tower pairs neighbours instead."""
    first, second = x.float().chunk(2, dim=-1)  # (N, 2, H, d / 2) each
    rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return rotated.to(x.dtype)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer(x)` for (N, in) tokens: (N, out).

    On a CPU, the few tokens of one or two queries are faster as columns than as rows, by about half at 16 tokens.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and _LEAST_COLUMNS <= x.shape[0] <= _MOST_COLUMNS:
        bias: Tensor | None = layer.bias
        columns = layer.weight @ x.T if bias is None else torch.addmm(bias[:, None], layer.weight, x.T)  # (out, N)
        return columns.T.contiguous()  # later element-wise functions round by a value's place in memory
    rows: Tensor = layer(x)
    return rows


class TextMlp(nn.Module):
    """v2: GELU between two biased layers."""

    def __init__(self, width: int, hidden: int) -> None:
        """Two layers, width -> hidden -> width."""
        super().__init__()
        self.fc_in = nn.Linear(width, hidden)
        self.fc_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D); the exact (erf) GELU."""
        return linear(self.fc_out, F.gelu(linear(self.fc_in, x)))


class GatedTextMlp(nn.Module):
    """v1: the first half of the hidden values, through GELU, scales the second half."""

    def __init__(self, width: int, hidden: int) -> None:
        """Two layers, width -> 2 * hidden (no bias), hidden -> width."""
        super().__init__()
        self.fc_in = nn.Linear(width, 2 * hidden, bias=False)
        self.fc_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        gate, value = linear(self.fc_in, x).chunk(2, dim=-1)  # (N, hidden) each
        return linear(self.fc_out, F.gelu(gate) * value)


class TextLayer(nn.Module):
    """Attention, then the MLP, each added to its input and normalised after."""

    def __init__(self, config: TextConfig) -> None:
        """Build the layer with torch's default initial values."""
        super().__init__()
        width, eps = config.width, config.layer_norm_eps
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_1 = nn.LayerNorm(width, eps=eps)
        self.mlp = (GatedTextMlp if config.gated_mlp else TextMlp)(width, config.mlp_width)
        self.norm_2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, ...], attend: Attend, steps: "LayerSteps") -> Tensor:
        """(N, D) -> (N, D)."""
        return steps.after(self, x, attend(*steps.before(self, x, *rotary)))

    def before(self, x: Tensor, *rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes before attention: (N, D), and the cosine and sine if any -> three of (N, H, d)."""
        qkv = linear(self.qkv, x).view(x.shape[0], 3, self.num_heads, -1)  # (N, 3, H, d)
        q, k, v = qkv.unbind(1)
        if rotary:
            q, k = rotate_halves(qkv[:, :2], *rotary).unbind(1)
        return q, k, v

    def after(self, x: Tensor, attended: Tensor) -> Tensor:
        """What comes after attention: the layer's input and what was attended to, (N, D) each -> (N, D)."""
        x = self.norm_1(x + linear(self.out, attended))
        out: Tensor = self.norm_2(x + self.mlp(x))
        return out


class LayerSteps(NamedTuple):
    """The two parts of a layer, around attention; they have the same shapes in every batch but for N."""

    before: Callable[..., tuple[Tensor, Tensor, Tensor]] = TextLayer.before
    after: Callable[..., Tensor] = TextLayer.after


EAGER = LayerSteps()


class TextTower(nn.Module):
    """Token ids of packed texts in, one raw feature row per text out."""

    def __init__(self, config: TextConfig) -> None:
        """Build the tower with torch's default initial values."""
        super().__init__()
        self.config = config
        self.backend: Backend = "sdpa"
        self.word_embedding = nn.Parameter(torch.empty(config.vocab_size, config.width))
        if not self.word_embedding.is_meta:  # on meta, this would only import half of torch's compiler
            nn.init.normal_(self.word_embedding)
        self.token_type = nn.Parameter(torch.zeros(config.type_vocab_size, config.width))  # only row 0 is ever used
        self.embedding_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.num_layers))
        self._rotary = PositionTable(self._make_rotary)

    def forward(
        self,
        input_ids: Tensor,
        lengths: Sequence[int],
        positions: Tensor | None = None,
        steps: LayerSteps = EAGER,
    ) -> Tensor:
        """Encode packed texts.

        Args:
            input_ids: (N,) int64 on the tower's device, the texts one after another, without pad tokens.
            lengths: tokens of each of the B texts, each at least 1; their sum is N.
            positions: (N,) int64 on the CPU, each token's place in its text; counted from 0 without gaps if `None`.
            steps: the parts of a layer, maybe compiled.

        Returns:
            (B, D) float32 raw features: the mean over each text's tokens, not normalised.
        """
        packing = Packing.of(lengths, positions, input_ids.device)
        hidden = self.hidden_states(input_ids, packing, steps)  # (N, D)
        parts = [
            hidden[rows].view(count, length, -1).float().mean(dim=1)  # (n, D)
            for rows, count, length in packing.runs()
        ]
        return torch.cat(parts)  # (B, D)

    def hidden_states(self, input_ids: Tensor, packing: Packing, steps: LayerSteps = EAGER) -> Tensor:
        """The last layer's output for every token, (N, D)."""
        bias: AlibiBias | None = None
        rotary: tuple[Tensor, ...] = ()
        if self.config.rotary_base is None:
            bias = AlibiBias(packing, self.config.num_heads, self.word_embedding.dtype)
        else:
            rotary = self.rotary(packing.device_positions, 1 + int(packing.positions.max()))
        attend = partial(packed_attention, packing=packing, backend=self.backend, bias=bias)
        return self.run_layers(input_ids, rotary, attend, steps)

    def run_layers(
        self,
        input_ids: Tensor,
        rotary: tuple[Tensor, ...],
        attend: Attend,
        steps: LayerSteps = EAGER,
    ) -> Tensor:
        """Token ids, and how their layers rotate and attend -> the last layer's output for every token, (N, D)."""
        x: Tensor = self.embedding_norm(F.embedding(input_ids, self.word_embedding) + self.token_type[0])  # (N, D)
        for layer in self.layers:
            x = layer(x, rotary, attend, steps)
        return x

    def rotary(self, positions: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of positions below `rows` on the tower's device, as `rotary_table` gives them."""
        cos, sin = self._rotary.on(positions.device, rows)[positions][:, None, None].chunk(2, dim=-1)
        return cos, sin

    def _make_rotary(self, rows: int) -> Tensor:
        config = self.config
        positions = torch.arange(max(_LEAST_ROWS, 1 << (rows - 1).bit_length()))  # grows by doubling
        parts = rotary_table(positions, config.width // config.num_heads, float(config.rotary_base or 0))
        return torch.cat(parts, dim=-1).flatten(1)  # (rows, d)
