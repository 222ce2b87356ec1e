"""The encodings of vectors in answers, and the JSON around them."""

import base64
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import orjson
from numpy.typing import NDArray

from core_encoder.matryoshka import encode_binary, encode_int8, encode_ubinary

_ENCODERS: Mapping[str, Callable[[NDArray[np.float32]], object]] = MappingProxyType(
    {
        "float": lambda vector: vector.tolist(),
        "base64": lambda vector: base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii"),
        "int8": lambda vector: encode_int8(vector[np.newaxis])[0].tolist(),
        "binary": lambda vector: encode_binary(vector[np.newaxis])[0].tolist(),
        "ubinary": lambda vector: encode_ubinary(vector[np.newaxis])[0].tolist(),
    }
)


def encode_vector(vector: NDArray[np.float32], encoding: str) -> object:
    """Encode a vector (dimensions,) for JSON.

    Args:
        vector: float32; of unit length for "int8", where 127 stands for 1.0.
        encoding: "float", "base64" of little-endian float32, "int8", or one bit per value as "binary" or "ubinary".
    """
    return _ENCODERS[encoding](vector)


def write_json(body: object) -> bytes:
    """Write an answer as JSON; `json` takes ten times as long for vectors, and blocks the other threads meanwhile."""
    return orjson.dumps(body)
