"""Read the weights of a checkpoint with numpy, some rows at a time, with their adapters merged."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes as _  # noqa: F401 - gives numpy the type bfloat16
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from core_encoder.config import LoraConfig, ModelConfig
from core_encoder.errors import CheckpointError
from core_encoder.models import WEIGHTS_FILE
from core_encoder.weights import Weight, check_tensors, weight_table

FloatArray = NDArray[np.float32]
_PART_BYTES = 8 * 2**20  # of the rows that are read together, as float32


class MergedWeights:
    """The parameters of both towers by name, as torch's towers name them; each is read from the file when asked for."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Check the file's tensors against the configuration; nothing is read yet.

        Raises:
            CheckpointError: the file is damaged; `MissingWeightsError` and `WeightShapeError` name tensors.
        """
        self._path = folder / WEIGHTS_FILE
        self._lora = config.text.lora
        self._weights: dict[str, list[Weight]] = {}
        for weight in weight_table(config):
            self._weights.setdefault(weight.target, []).append(weight)
        with self._errors():
            check_tensors(self._path, config)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a parameter: its parts one under the other."""
        parts = self._weights[name]
        return (sum(part.shape[0] for part in parts), *parts[0].shape[1:])

    def rows(self, name: str) -> Iterator[FloatArray]:
        """Yield the rows of a parameter in order, as float32, a limited number at a time."""
        for weight in sorted(self._weights[name], key=lambda weight: weight.part):
            if weight.adapter is None or self._lora is None:
                yield self._read(weight.key)
            else:
                yield from self._merged(weight, self._lora)

    def whole(self, name: str) -> FloatArray:
        """A parameter as one float32 array."""
        return np.concatenate(list(self.rows(name)))

    def _merged(self, weight: Weight, lora: LoraConfig) -> Iterator[FloatArray]:
        """The rows of a weight with its adapter; no more than a part of it is in memory."""
        a, b = (self._read(f"{weight.key}.0.lora_{letter}", lora.active) for letter in "AB")
        left, right = (b, a) if weight.adapter == "linear" else (a, b)  # (rows, r), (r, columns)
        height, width = weight.shape
        step = max(1, _PART_BYTES // (4 * width))
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            yield self._read(f"{weight.key}.original", rows) + np.float32(lora.scaling) * (left[rows] @ right)

    def _read(self, key: str, index: slice | int | None = None) -> FloatArray:
        """A tensor, or a part of it; closing the file frees the memory of the pages that were read."""
        with self._errors(), safe_open(self._path, framework="np") as file:
            found = file.get_tensor(key) if index is None else file.get_slice(key)[index]
            return np.asarray(found, np.float32)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{str(self._path)!r} is not a complete safetensors file: {error}") from error
