"""The image tower on one CPU thread, v1's and v2's size, against a careful user's torch (B1: timm's `Eva`).

    python -m benchmarks.images_cpu --quick | --full

From squares of pixels to raw features, normalisation included. v2 with 4 of its 24 layers, v1 whole: ratios hold.
Processor time.
"""

from functools import partial

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import MEAN, STD, Size, kept
from benchmarks.image_sides import TimmImages, pictures
from benchmarks.ours import claims, runtimes
from core_encoder.torch.runtime import TorchRuntime

_FULL = (
    ("v1's size, 224 px", 4, Size(model="v1", text_layers=1, vocab_size=2000)),
    ("v2's size, 512 px", 1, Size(text_layers=1, image_layers=4, vocab_size=2000)),
)
_QUICK = (("v1's size, 224 px", 1, Size(model="v1", text_layers=1, image_layers=1, vocab_size=2000)),)


def run(bench: Bench) -> None:
    """One model after the other."""
    for name, count, size in _QUICK if bench.quick else _FULL:
        mine = runtimes(kept(size), threads=bench.threads)
        in_torch = mine["torch"]
        if not isinstance(in_torch, TorchRuntime):
            raise TypeError(f"{in_torch!r} has no torch tower")
        squares = pictures(count, in_torch.config.vision.image_size)
        sides = {"B1": partial(TimmImages(in_torch.model.vision, MEAN, STD), squares)}
        sides |= {side: partial(runtime.image_features, squares) for side, runtime in mine.items()}
        bench.compare(sides, claims(f"{count} pictures, {name}", "B1", {"torch": (1.0, 1.1)}), clock="process")


if __name__ == "__main__":
    main("images_cpu", __doc__, run)
