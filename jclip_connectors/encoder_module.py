"""The encoder as a torch module, for hosts that move, count and print a model through `nn.Module`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from jclip_connectors.port import MissingDependencyError

try:
    import torch
    from torch import Tensor, nn

    from core_encoder.attention import AttentionChoice, choose_backend
    from core_encoder.checkpoint import find_checkpoint, load_model
    from core_encoder.config import read_config, read_json
    from core_encoder.device import PRECISIONS, Precision, resolve_device
    from core_encoder.encoder import JinaClipEncoder
    from core_encoder.errors import ConfigError
    from core_encoder.image_preprocess import PreprocessConfig
    from core_encoder.tokenization import TextTokenizer
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="local") from error

if TYPE_CHECKING:
    from core_encoder.model import JinaClip


class EncoderModule(nn.Module):
    """Both towers as a child module, and `encoder`, which follows them to another device or precision.

    The weights are there once: the encoder computes with the same parameters that the host moves.
    """

    def __init__(
        self,
        towers: "JinaClip",
        tokenizer: TextTokenizer,
        preprocessing: PreprocessConfig,
        *,
        name: str,
        attention: AttentionChoice = "auto",
    ) -> None:
        """Put the parts together; `load` is the usual way."""
        super().__init__()
        self.towers = towers
        self._parts = (tokenizer, preprocessing)
        self._name = name
        self._attention: AttentionChoice = attention
        self.encoder = self._make_encoder()
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
        place, dtype = resolve_device(device, precision)
        folder = find_checkpoint(source, revision=revision, local_files_only=local_files_only)
        config = read_config(folder)
        choose_backend(attention, place, dtype, biased=config.text.position == "alibi")  # refuse before loading
        return cls(
            load_model(folder, config, device=place, dtype=dtype),
            TextTokenizer.load(folder, vocab_size=config.text.vocab_size),
            PreprocessConfig.from_json(read_json(folder / "preprocessor_config.json")),
            name=str(source),
            attention=attention,
        )

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
        """Move the parameters, which is what `.to`, `.cuda`, `.float` and the like come down to, and the encoder.

        Raises:
            ConfigError: the new type of the parameters is neither float32 nor bfloat16; nothing is moved.
        """
        probe = fn(torch.empty(0, dtype=self.towers.logit_scale.dtype, device=self.towers.logit_scale.device))
        if probe.dtype not in PRECISIONS:
            raise ConfigError(f"{probe.dtype} is not supported: choose one of {sorted(map(str, PRECISIONS))}")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.encoder = self._make_encoder()
        return self

    def _make_encoder(self) -> JinaClipEncoder:
        scale = self.towers.logit_scale
        biased = self.towers.config.text.position == "alibi"
        backend = choose_backend(self._attention, scale.device, scale.dtype, biased=biased)
        return JinaClipEncoder(self.towers, *self._parts, name=self._name, backend=backend)
