"""The runtime on torch: both towers as torch modules, on a CPU or a GPU."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core_encoder.config import ModelConfig
from core_encoder.image_preprocess import PreprocessConfig, pixel_values
from core_encoder.models import AttentionChoice, Precision
from core_encoder.tokenization import PackedTexts
from core_encoder.torch.attention import Backend, choose_backend
from core_encoder.torch.device import PRECISIONS, resolve_device
from core_encoder.torch.gpu import GpuTowers
from core_encoder.torch.loading import load_model
from core_encoder.torch.model import JinaClip

_TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}


class TorchRuntime:
    """Both towers in one `JinaClip`, which a host may move."""

    def __init__(self, model: JinaClip, preprocessing: PreprocessConfig, *, backend: Backend) -> None:
        """Use a loaded model.

        Args:
            model: both towers, on their device and in their precision.
            preprocessing: of the same checkpoint; its mean and standard deviation normalise the pictures.
            backend: how the text tower computes attention.
        """
        model.text.backend = backend
        self.model = model
        self._preprocessing = preprocessing
        self._device, self._dtype = model.logit_scale.device, model.logit_scale.dtype
        self._gpu = (
            GpuTowers(model, preprocessing, tokens_per_batch=self.tokens_per_batch)
            if self._device.type == "cuda"
            else None
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        config: ModelConfig,
        preprocessing: PreprocessConfig,
        *,
        device: str | None,
        precision: Precision,
        attention: AttentionChoice,
    ) -> "TorchRuntime":
        """Load the weights in `folder`.

        Raises:
            CheckpointError, ConfigError: as `JinaClipEncoder.load`.
        """
        place, dtype = resolve_device(device, precision)
        biased, head_width = config.text.position == "alibi", config.text.width // config.text.num_heads
        backend = choose_backend(attention, place, dtype, biased=biased, head_width=head_width)
        return cls(load_model(folder, config, device=place, dtype=dtype), preprocessing, backend=backend)

    @property
    def name(self) -> Literal["torch"]:
        """Which library computes."""
        return "torch"

    @property
    def config(self) -> ModelConfig:
        """The sizes of the model."""
        return self.model.config

    @property
    def device(self) -> str:
        """Where the towers compute: "cpu", "cuda:0", ..."""
        return str(self._device)

    @property
    def precision(self) -> str:
        """The towers' precision: "fp32" or "bf16"."""
        return PRECISIONS[self._dtype]

    @property
    def attention(self) -> Backend:
        """How the text tower computes attention."""
        return self.model.text.backend

    @property
    def tokens_per_batch(self) -> int:
        """The most tokens, or patches, that are computed together."""
        return _TOKENS_PER_BATCH.get(self._device.type, _TOKENS_PER_BATCH["cpu"])

    def check_process(self) -> None:
        """Raise a `ConfigError` if the model is on a GPU and this process was forked after it was loaded."""
        self.model.place()

    def text_features(self, batch: PackedTexts) -> NDArray[np.float32]:
        """Run the text tower on B texts: (B, E) raw features, not normalised."""
        if self._gpu is not None:
            return self._gpu.text_features(batch)
        with torch.inference_mode():
            return np.asarray(packed_features(self.model, batch).cpu().numpy())

    def image_features(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the image tower on (B, S, S, 3) pictures in RGB: (B, E) raw features, not normalised."""
        if self._gpu is not None:
            return self._gpu.image_features(squares)
        pixels = torch.from_numpy(pixel_values(squares, self._preprocessing))  # (B, 3, S, S)
        with torch.inference_mode():
            return np.asarray(self.model.vision(pixels.to(self._device, self._dtype)).cpu().numpy())


def packed_features(model: JinaClip, batch: PackedTexts) -> Tensor:
    """Run the text tower on B packed texts: (B, D) float32 raw features on the device of the model.

    Raises:
        ConfigError: the model is on a GPU, and this process was forked after it was loaded.
    """
    ids, positions = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.positions)
    features: Tensor = model.text(ids.to(model.place()), batch.lengths, positions)
    return features
