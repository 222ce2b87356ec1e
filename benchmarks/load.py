"""Memory of loading a full-size v2 checkpoint into torch on a CPU, each side in a process of its own.

    python -m benchmarks.load --quick | --full

The baseline reads the whole file, converts it to float32 and merges the adapters matrix by matrix, as one would first
write it. Both sides print a sum over every weight, which must agree.
"""

import json

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import V2, Size, kept
from benchmarks.memory import watch

_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)


def run(bench: Bench) -> None:
    """Peak memory over the float32 weights."""
    folder = str(kept(_QUICK if bench.quick else V2))
    found = {way: watch("-m", "benchmarks.loading_process", way, folder) for way in ("plain", "torch")}
    printed = {way: json.loads(watched.output) for way, watched in found.items()}
    difference = abs(printed["plain"]["sum"] / printed["torch"]["sum"] - 1)
    print(f"the sums of all weights differ by {difference:.1e}")
    if not difference <= 1e-9:
        raise SystemExit("the two sides do not load the same weights: nothing is compared")
    for way, name, bar in (("plain", "read, convert, merge", None), ("torch", "ours", 1.25)):
        weights = printed[way]["weight_bytes"]
        bench.record(
            f"peak memory of loading v2 into torch over its float32 weights, {name}",
            [found[way].peak_bytes / weights],
            bar=bar,
            at_most=True,
            anonymous=found[way].anonymous_bytes / weights,
        )


if __name__ == "__main__":
    main("load", __doc__, run)
