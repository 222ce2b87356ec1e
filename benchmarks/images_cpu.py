"""The image tower on one CPU thread, v1's and v2's size, against a careful user's torch (timm's `Eva`), and a peer.

    python -m benchmarks.images_cpu --quick | --full

B2 is ONNX Runtime's `quantize_dynamic` of our float32 graph. From squares of pixels to raw features, normalisation
included. v2 with 3 of its 24 layers, v1 whole: ratios hold. Processor time.
"""

from functools import partial

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import MEAN, STD, Size, kept
from benchmarks.image_sides import TimmImages, pictures
from benchmarks.ours import claims, runtimes
from benchmarks.quantised_peer import quantised_peer

_FULL = (
    ("v1's size, 224 px", 2, Size(model="v1", text_layers=1, vocab_size=2000)),
    ("v2's size, 512 px", 1, Size(text_layers=1, image_layers=3, vocab_size=2000)),
)
_QUICK = (("v1's size, 224 px", 1, Size(model="v1", text_layers=1, image_layers=1, vocab_size=2000)),)


def run(bench: Bench) -> None:
    """One model after the other."""
    for name, count, size in _QUICK if bench.quick else _FULL:
        folder = kept(size)
        mine = runtimes(folder, threads=bench.threads)
        peer = quantised_peer(folder, threads=bench.threads)
        squares = pictures(count, peer.config.vision.image_size)
        sides = {side: partial(runtime.image_features, squares) for side, runtime in (mine | {"B2": peer}).items()}
        sides["B1"] = partial(TimmImages(mine["torch"], MEAN, STD), squares)
        what = f"{name}, {count} at a time"
        bench.compare(
            sides,
            [
                *claims(what, "B1", {"fp32": (1, 1.1), "int8": (1.45, 1.7), "torch": None}),
                *claims(what, "B2", {"int8": None}),
            ],
            clock="process",
        )


if __name__ == "__main__":
    main("images_cpu", __doc__, run)
