"""The encoder as a torch module, for hosts that move, count and print a model through `nn.Module`."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import torch
from torch import Tensor, nn

from core_encoder.encoder import JinaClipEncoder
from core_encoder.errors import ConfigError
from core_encoder.models import AttentionChoice, Precision
from core_encoder.torch.attention import choose_backend
from core_encoder.torch.device import PRECISIONS
from core_encoder.torch.runtime import TorchRuntime


class EncoderModule(nn.Module):
    """Both towers as a child module, and `encoder`, which moves with them to another device or precision.

    There is one copy of the weights: the encoder computes with the same parameters that the host moves.
    """

    def __init__(self, encoder: JinaClipEncoder, *, attention: AttentionChoice = "auto") -> None:
        """Wrap an encoder; usually call `load` instead.

        Raises:
            ConfigError: the encoder does not run on torch.
        """
        super().__init__()
        if not isinstance(encoder.runtime, TorchRuntime):
            raise ConfigError(
                f"`encoder` runs on {encoder.runtime.name!r}, and a torch module needs torch: load it with "
                "`runtime='torch'`"
            )
        self.towers = encoder.runtime.model
        self._attention: AttentionChoice = attention
        self.encoder = encoder
        self.eval()

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        attention: AttentionChoice = "auto",
        local_files_only: bool = False,
    ) -> Self:
        """Load a checkpoint as `JinaClipEncoder.load` does, with the same arguments and errors."""
        encoder = JinaClipEncoder.load(
            source,
            revision=revision,
            device=device,
            precision=precision,
            attention=attention,
            runtime="torch",
            local_files_only=local_files_only,
        )
        return cls(encoder, attention=attention)

    def forward(self) -> NoReturn:
        """Refuse: a host calls `encoder` or `towers`."""
        raise NotImplementedError("EncoderModule computes nothing itself: call `encoder` or `towers`")

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Refuse training: the weights have their adapters merged and take no gradients.

        Raises:
            NotImplementedError: `mode` is true.
        """
        if mode:
            raise NotImplementedError(
                "this model encodes and cannot be trained: its adapters are merged into the weights"
            )
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Move the parameters and the encoder; `.to`, `.cuda`, `.float` and the like all call this.

        Raises:
            ConfigError: the new type of the parameters is neither float32 nor bfloat16; nothing is moved.
        """
        probe = fn(torch.empty(0, dtype=self.towers.logit_scale.dtype, device=self.towers.logit_scale.device))
        if probe.dtype not in PRECISIONS:
            raise ConfigError(f"{probe.dtype} is not supported: choose one of {sorted(map(str, PRECISIONS))}")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        scale, text = self.towers.logit_scale, self.towers.config.text
        biased, head_width = text.position == "alibi", text.width // text.num_heads
        backend = choose_backend(self._attention, scale.device, scale.dtype, biased=biased, head_width=head_width)
        before = self.encoder
        runtime = TorchRuntime(self.towers, before.preprocessing, backend=backend)
        self.encoder = JinaClipEncoder(runtime, before.tokenizer, before.preprocessing, name=before.name)
        self.encoder.origin = before.origin
        return self
