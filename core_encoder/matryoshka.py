"""Shorten embeddings (keep a prefix, scale to unit length) and round them to int8, binary or ubinary."""

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import EmbeddingDimError


def check_dim(dim: object, embedding_dim: int) -> None:
    """Check a number of dimensions to keep; any from 1 to E is allowed, whether the model was trained for it or not.

    Raises:
        EmbeddingDimError: it is not an integer from 1 to `embedding_dim`.
    """
    if not isinstance(dim, int) or isinstance(dim, bool) or not 1 <= dim <= embedding_dim:
        raise EmbeddingDimError(f"{dim!r} dimensions cannot be kept: use 1..{embedding_dim}")


def truncate(embeddings: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Keep the first values of each row; the rows are no longer of unit length, so call `normalize` next.

    Args:
        embeddings: (B, E) float32.
        dim: how many to keep, 1..E.

    Returns:
        (B, dim) float32, a copy.

    Raises:
        EmbeddingDimError: `dim` is not in 1..E.

    Source: Kusupati et al., Matryoshka Representation Learning, 2022; the reference cuts first, then normalises.
    """
    check_dim(dim, embeddings.shape[1])
    return embeddings[:, :dim].copy()


def normalize(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row to unit L2 norm; a row of zeros stays zero.

    Args:
        embeddings: (B, E) float32, finite.

    Returns:
        (B, E) float32, rows of unit L2 norm.
    """
    # In float64 the square of a large value does not overflow, and that of a small value does not become 0.
    norms = np.sqrt(np.square(embeddings, dtype=np.float64).sum(axis=1, keepdims=True))  # (B, 1)
    norms[norms == 0.0] = 1.0
    unit: NDArray[np.float64] = embeddings / norms
    return unit.astype(np.float32)


def encode_int8(embeddings: NDArray[np.float32]) -> NDArray[np.int8]:
    """Round rows to 8 bits on one symmetric scale: 127 stands for 1.0.

    No calibration is published for these models. One scale for every value keeps inner products in proportion, and a
    unit row has no value beyond 1.0; larger values are clipped.

    Args:
        embeddings: (B, E) float32, rows of unit L2 norm.

    Returns:
        (B, E) int8, -127..127.
    """
    scaled: NDArray[np.float32] = np.rint(embeddings * np.float32(127))
    return scaled.clip(-127, 127).astype(np.int8)


def encode_ubinary(embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Keep one bit per value, set if it is positive; the first value is the highest bit of the first byte.

    Args:
        embeddings: (B, E) float32.

    Returns:
        (B, E / 8) uint8.

    Raises:
        EmbeddingDimError: E is not a multiple of 8.
    """
    dim = embeddings.shape[1]
    if dim % 8:
        raise EmbeddingDimError(f"{dim} dimensions do not fill whole bytes; binary embeddings need a multiple of 8")
    return np.packbits(embeddings > 0, axis=1)


def encode_binary(embeddings: NDArray[np.float32]) -> NDArray[np.int8]:
    """Keep one bit per value like `encode_ubinary`, with 128 subtracted from each byte.

    Returns:
        (B, E / 8) int8.

    Raises:
        EmbeddingDimError: E is not a multiple of 8.

    Source: the hosted API's `embedding_type` "binary", which is "ubinary" in signed bytes.
    """
    return (encode_ubinary(embeddings) ^ np.uint8(128)).view(np.int8)  # flipping the top bit subtracts 128
