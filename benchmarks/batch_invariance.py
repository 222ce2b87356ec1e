"""The same text or picture alone and in any batch: by how much its int8 vector moves, and a peer's.

    python -m benchmarks.batch_invariance --quick | --full

Unit rows; the largest difference over many batches, of texts from 1 to 512 tokens and of pictures of all kinds. B2 is
ONNX Runtime's `quantize_dynamic`, which has one scale for all values of a batch, as every int8 of this field but ours.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison import Bench, main, unit_difference
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.image_sides import pictures
from benchmarks.ours import runtimes
from benchmarks.quantised_peer import quantised_peer
from core_encoder.runtime import Runtime
from core_encoder.tokenization import pack

_FULL = Size(text_layers=6, image_layers=2, vocab_size=30000)
_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)


def largest_move(count: int, batches: int, features: Callable[[NDArray[np.int64]], NDArray[np.float32]]) -> float:
    """Encode each item alone, then in batches of random items in random order.

    Args:
        count: how many items there are.
        batches: how many batches.
        features: encodes the items of these numbers together.

    Returns:
        The largest difference of a value between the two unit rows of an item.
    """
    alone = np.concatenate([features(np.array([i])) for i in range(count)])
    rng = np.random.default_rng(3)
    sizes = rng.integers(2, count + 1, batches)
    drawn = [rng.permutation(count)[:size] for size in sizes]
    return max(unit_difference(alone[batch], features(batch)) for batch in drawn)


def texts(runtime: Runtime, count: int, longest: int) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Random texts of 1 to `longest` tokens."""
    config = runtime.config.text
    rng = np.random.default_rng(4)
    lengths = np.geomspace(1, longest, count).astype(int)
    rows = [rng.integers(5, config.vocab_size, length).tolist() for length in lengths]
    return lambda batch: runtime.text_features(pack([rows[i] for i in batch], pad_token_id=config.pad_token_id))


def images(runtime: Runtime, count: int) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """Pictures of random colours, of which some are black, white, or noise."""
    side = runtime.config.vision.image_size
    squares = pictures(count, side)
    squares[0], squares[1] = 0, np.random.default_rng(5).integers(0, 256, (side, side, 3), np.uint8)
    squares[2:3] = 255
    return lambda batch: runtime.image_features(squares[batch])


def run(bench: Bench) -> None:
    """Texts, then pictures."""
    folder = kept(_QUICK if bench.quick else _FULL)
    int8 = runtimes(folder, threads=bench.threads)["int8"]
    num_texts, longest, num_images, batches = (4, 12, 2, 2) if bench.quick else (24, 512, 4, 5)
    for name, runtime, bar, hope in (
        ("int8", int8, 1e-6, 0.0),
        ("B2", quantised_peer(folder, threads=bench.threads), None, None),
    ):
        for what, moved in (
            ("text", largest_move(num_texts, batches, texts(runtime, num_texts, longest))),
            ("picture", largest_move(num_images, batches, images(runtime, num_images))),
        ):
            row = f"the same {what} in any batch, {name}: largest difference"
            bench.record(row, [moved], unit="", bar=bar, hope=hope, at_most=True)


if __name__ == "__main__":
    main("batch_invariance", __doc__, run)
