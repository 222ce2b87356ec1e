"""How documents are ranked where vectors are kept as float32, as int8, or as one bit a value, and what that takes.

`vectors` rounds rows as a database that quantises does. Inner products of rounded rows are exact in float32: they are
sums of whole numbers below 2**24.
"""

import numpy as np
from numpy.typing import NDArray

from core_encoder.matryoshka import encode_int8, encode_ubinary
from jclip_connectors.evaluation.features import finish
from jclip_connectors.evaluation.figures import Variant

RESCORED_PER_RESULT = 4  # candidates for each result that is wanted
_QUERIES_AT_ONCE = 256  # limits the memory of the first stage


def bytes_searched(dimensions: int, variant: Variant) -> int:
    """Return the bytes of a vector that every search reads, so those that belong in memory."""
    return {
        "float32": 4 * dimensions,
        "int8": dimensions,
        "binary": dimensions // 8,
        "binary_rescored": dimensions // 8,
    }[variant]


def bytes_kept(dimensions: int, variant: Variant) -> int:
    """Return the bytes of a vector that are kept at all: rescoring needs the float32 values too, if only on disk."""
    return bytes_searched(dimensions, variant) + (4 * dimensions if variant == "binary_rescored" else 0)


def vectors(raw: NDArray[np.float32], *, dimensions: int, variant: Variant) -> NDArray[np.float32]:
    """Cut rows, scale them to unit length, and round them as `variant` does.

    Inner products of two such rows are their similarity. "binary_rescored" has two stages, which `similarity` does;
    here it gives the rows of its first one.

    Args:
        raw: (N, E) float32, raw features.
        dimensions: how many values of each row are kept, 1..E; for the binary variants a multiple of 8.
        variant: how the rows are kept.

    Returns:
        (N, dimensions) float32: unit rows, whole numbers -127..127 for "int8", -1 and 1 for the binary variants.

    Raises:
        EmbeddingDimError: `dimensions` is not in 1..E, or does not fill whole bytes.
    """
    unit = finish(raw, dimensions)
    if variant == "float32":
        return unit
    if variant == "int8":
        return encode_int8(unit).astype(np.float32)
    bits = np.unpackbits(encode_ubinary(unit), axis=1)  # (N, dimensions)
    return bits.astype(np.float32) * 2 - 1


def similarity(
    queries_raw: NDArray[np.float32],
    documents_raw: NDArray[np.float32],
    *,
    dimensions: int,
    variant: Variant,
    k: int = 10,
) -> NDArray[np.float32]:
    """Score every document for every query; the order of a row is the ranking.

    Both sides are rounded: "int8" multiplies int8 with int8, and "binary" counts the values whose signs agree, sign
    with sign, which is the Hamming distance of the codes. "binary_rescored" takes the first `4 * k` documents by
    these codes (of equal ones the earlier), and orders them by the cosine of the query's and the document's float32
    values; all others come behind them, as they were.

    Args:
        queries_raw: (Q, E) float32, raw features.
        documents_raw: (D, E) float32, raw features.
        dimensions: how many values of each row are kept, 1..E; for the binary variants a multiple of 8.
        variant: how the rows are kept.
        k: how many results are wanted, at least 1; only "binary_rescored" asks.

    Returns:
        (Q, D) float32, larger is better: cosines, or nearly, and with "binary_rescored" less than -1 for documents
        that were no candidates.

    Raises:
        EmbeddingDimError: `dimensions` is not in 1..E, or does not fill whole bytes.
    """
    queries = vectors(queries_raw, dimensions=dimensions, variant=variant)
    documents = vectors(documents_raw, dimensions=dimensions, variant=variant)
    products = np.asarray(queries @ documents.T, np.float32)
    if variant == "float32":
        return products
    scores = products / np.float32(127 * 127 if variant == "int8" else dimensions)
    if variant != "binary_rescored":
        return scores
    exact_queries = finish(queries_raw, dimensions)
    exact_documents = finish(documents_raw, dimensions)
    ranking = scores - 3  # behind every cosine
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        candidates = _first(products[rows], RESCORED_PER_RESULT * k)  # (q, c)
        cosines = np.einsum("qe,qce->qc", exact_queries[rows], exact_documents[candidates])
        np.put_along_axis(ranking[rows], candidates, cosines, axis=1)
    return ranking


def _first(products: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` largest whole numbers of each row, (q, c); of equal ones the earlier."""
    size = products.shape[1]
    if count >= size:
        return np.broadcast_to(np.arange(size), products.shape)
    keys = np.arange(size) - products.astype(np.int64) * size  # (q, D), no two are equal
    return np.argpartition(keys, count - 1, axis=1)[:, :count]
