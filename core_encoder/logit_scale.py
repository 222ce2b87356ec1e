"""The temperature that a checkpoint was trained with: by how much cosines are multiplied before a softmax."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from core_encoder.errors import CheckpointError

_KEY = "logit_scale"
_NUMBERS: Mapping[str, str] = MappingProxyType({"F32": "<f4", "F16": "<f2", "BF16": "<u2"})
_MOST = 50.0  # CLIP's training stops at 4.6; the exponential of such a number is still a number
_MOST_HEADER_BYTES = 2**27  # far beyond any model's list of tensors


def read_logit_scale(path: Path) -> float:
    """Read the natural logarithm of the inverse temperature.

    The number is read from the file's bytes, since numpy alone has no bfloat16, in which v2 is published.

    Args:
        path: the safetensors file of the weights.

    Returns:
        2.66 before a training, and at most 4.61 in CLIP's own.

    Raises:
        CheckpointError: the file is damaged or has no such number.

    Source: the format of safetensors: 8 bytes with the length of a JSON header, the header, the tensors' bytes.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length if length <= _MOST_HEADER_BYTES else 0))[_KEY]
            dtype = np.dtype(_NUMBERS[entry["dtype"]])
            file.seek(8 + length + entry["data_offsets"][0])
            (number,) = np.frombuffer(file.read(dtype.itemsize), dtype)
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged, or has no number {_KEY}: it gives no probabilities"
        ) from error
    if entry["dtype"] == "BF16":  # the upper half of a float32
        number = (number.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if not -_MOST <= number <= _MOST:  # true for NaN
        raise CheckpointError(f"{_KEY} is {number} in {str(path)!r}: it gives no probabilities")
    return float(number)
