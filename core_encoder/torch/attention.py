"""Attention over packed texts: several texts in one tensor, without padding; a text attends only to itself.

Three backends compute the same result. `choose_backend` picks one when the model is loaded; no later fallback.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from core_encoder.alibi import alibi_slopes
from core_encoder.errors import ConfigError
from core_encoder.models import AttentionChoice

Backend = Literal["sdpa", "varlen", "xformers"]

_WIDEST_HEAD = 256  # of flash attention
_BIAS_TABLE_MAX_TOKENS = 1024  # ALiBi tables up to 12 heads x 1024 x 1024 x 4 bytes = 50 MB are computed once a batch
_BIAS_BLOCK_ELEMENTS = 1 << 24  # for longer texts, 64 MB of bias at a time


@dataclass(frozen=True)
class Packing:
    """Where the texts of a packed batch lie.

    Attributes:
        lengths: tokens of each text, in order; N is their sum.
        positions: (N,) int64 on the CPU, each token's place in its own text.
        device_positions: `positions` on the model's device.
        offsets: (B + 1,) int32 on the model's device, the running sum of `lengths`.
    """

    lengths: tuple[int, ...]
    positions: Tensor
    device_positions: Tensor
    offsets: Tensor

    @staticmethod
    def of(lengths: Sequence[int], positions: Tensor | None, device: torch.device) -> "Packing":
        """Pack texts of these lengths one after another; positions count from 0 in each text unless given."""
        counts = torch.tensor([0, *lengths], dtype=torch.int64)
        ends = counts.cumsum(0)
        if positions is None:
            positions = torch.arange(int(ends[-1])) - ends[:-1].repeat_interleave(counts[1:])  # (N,)
        return Packing(tuple(lengths), positions, positions.to(device), ends.to(device=device, dtype=torch.int32))

    def runs(self) -> Iterator[tuple[slice, int, int]]:
        """Yield (rows, count, length) for each stretch of neighbouring texts of equal length."""
        start = 0
        for length, group in groupby(self.lengths):
            count = len(list(group))
            yield slice(start, start + count * length), count, length
            start += count * length


def choose_backend(
    choice: AttentionChoice, device: torch.device, dtype: torch.dtype, *, biased: bool, head_width: int
) -> Backend:
    """Decide once how attention is computed.

    Args:
        choice: "auto", or the backend to use.
        device: where the model runs.
        dtype: the model's dtype.
        biased: whether the scores get an ALiBi bias, which only SDPA can add here.
        head_width: of the text tower.

    Raises:
        ConfigError: the backend is unknown, not installed, or does not support this device, dtype or bias.
    """
    if choice not in get_args(AttentionChoice):
        raise ConfigError(f"`attention` is {choice!r}: choose one of {get_args(AttentionChoice)}")
    obstacles = {
        "varlen": _varlen_obstacle(device, dtype, biased=biased, head_width=head_width),
        "xformers": _xformers_obstacle(device, biased=biased),
        "sdpa": None,
    }
    if choice == "auto":
        return "varlen" if obstacles["varlen"] is None else "xformers" if obstacles["xformers"] is None else "sdpa"
    if (obstacle := obstacles[choice]) is not None:
        raise ConfigError(f"`attention` is {choice!r}, but {obstacle}; leave it at 'auto' or use 'sdpa'")
    return choice


def _varlen_obstacle(device: torch.device, dtype: torch.dtype, *, biased: bool, head_width: int) -> str | None:
    if biased:
        return "it cannot add this model's ALiBi bias"
    if device.type != "cuda":
        return f"it needs CUDA and the device is {device.type!r}"
    if dtype not in {torch.bfloat16, torch.float16}:
        return f"it needs 16-bit floats and the precision is {dtype}"
    if head_width % 8 or head_width > _WIDEST_HEAD:
        return f"it needs heads of 8, 16, ... {_WIDEST_HEAD} values and this model's have {head_width}"
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} does not have it (2.10 does)"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or later"
    return None


def _xformers_obstacle(device: torch.device, *, biased: bool) -> str | None:
    if biased:
        return "it cannot add this model's ALiBi bias"
    if device.type != "cuda":
        return f"it needs CUDA and the device is {device.type!r}"
    if importlib.util.find_spec("xformers") is None:
        return "the package xformers is not installed"
    return None


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, backend: Backend, bias: "AlibiBias | None"
) -> Tensor:
    """Softmax attention within each text.

    Args:
        q: (N, H, d) queries.
        k: (N, H, d) keys.
        v: (N, H, d) values.
        packing: where each text lies in the N tokens.
        backend: the result of `choose_backend`.
        bias: the ALiBi bias of this batch, or `None`.

    Returns:
        (N, H * d).
    """
    if backend == "varlen":
        from torch.nn.attention.varlen import varlen_attn

        longest = max(packing.lengths)
        out = cast("Tensor", varlen_attn(q, k, v, packing.offsets, packing.offsets, longest, longest))  # (N, H, d)
        return out.flatten(1)
    if backend == "xformers":
        from xformers.ops import fmha

        mask = fmha.attn_bias.BlockDiagonalMask.from_seqlens(list(packing.lengths))
        out = cast("Tensor", fmha.memory_efficient_attention(q[None], k[None], v[None], attn_bias=mask))
        return out[0].flatten(1)  # (N, H * d)
    return _sdpa_by_runs(q, k, v, packing, bias)


def _sdpa_by_runs(q: Tensor, k: Tensor, v: Tensor, packing: Packing, bias: "AlibiBias | None") -> Tensor:
    """One SDPA call for each run of equally long texts: no padding and no mask."""
    parts = []
    for rows, count, length in packing.runs():
        qr, kr, vr = (x[rows].view(count, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))  # (n, H, L, d)
        if bias is None:
            out = F.scaled_dot_product_attention(qr, kr, vr)
        else:
            out = torch.cat(
                [
                    F.scaled_dot_product_attention(qr[:, :, block], kr, vr, attn_mask=bias.of(rows, count, block))
                    for block in bias.blocks(length)
                ],
                dim=2,
            )
        parts.append(out.transpose(1, 2).reshape(count * length, -1))  # (n * L, H * d)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class AlibiBias:
    """The symmetric ALiBi bias -slope * |i - j| of one packed batch.

    Positions in a text are consecutive, so all texts share one table. Two kinds of text do not use the table: one from
    which a literal pad token was removed (its positions have a gap), and one too long for it (computed in blocks).
    """

    def __init__(self, packing: Packing, num_heads: int, dtype: torch.dtype) -> None:
        """Compute the table that the short texts of the batch share."""
        self._packing = packing
        device = packing.device_positions.device
        self._slopes = torch.tensor(alibi_slopes(num_heads), device=device).view(-1, 1, 1)  # (H, 1, 1)
        self._dtype = dtype
        side = min(max(packing.lengths), _BIAS_TABLE_MAX_TOKENS)
        self._table = self._penalty(torch.arange(side, device=device)[None], torch.arange(side, device=device)[None])

    def blocks(self, length: int) -> list[slice]:
        """Split the queries of a text of `length` tokens so that one block's bias stays small."""
        if length <= _BIAS_TABLE_MAX_TOKENS:
            return [slice(0, length)]
        size = max(1, _BIAS_BLOCK_ELEMENTS // (length * self._slopes.shape[0]))
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]

    def of(self, rows: slice, count: int, block: slice) -> Tensor:
        """The bias of the queries `block` of the texts in `rows`: (n or 1, H, queries, L)."""
        positions = self._packing.positions[rows].view(count, -1)  # (n, L)
        length = positions.shape[1]
        contiguous = bool((positions[:, -1] - positions[:, 0] == length - 1).all())
        if contiguous and length <= _BIAS_TABLE_MAX_TOKENS:
            return self._table[:, :, block, :length]
        positions = self._packing.device_positions[rows].view(count, -1)
        if contiguous:  # then all texts of the run have the same distances
            positions = positions[:1]
        return self._penalty(positions[:, block], positions)

    def _penalty(self, queries: Tensor, keys: Tensor) -> Tensor:
        distance = (queries.float()[:, None, :, None] - keys.float()[:, None, None, :]).abs()  # (n, 1, Q, K)
        return (distance * -self._slopes).to(self._dtype)  # (n, H, Q, K)
