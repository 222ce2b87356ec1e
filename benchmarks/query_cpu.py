"""A query of 16 tokens, v2's text tower on one CPU thread, against the published way, a careful user, and a peer.

    python -m benchmarks.query_cpu --quick | --full

B0 applies the adapters at every forward, B1 has merged them, B2 is ONNX Runtime's `quantize_dynamic` of our float32
graph. All sides have the weights of one checkpoint; processor time.
"""

from functools import partial

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.ours import claims, runtimes
from benchmarks.quantised_peer import quantised_peer
from benchmarks.text_sides import PaddedText, encode, query

_FULL = Size(image_layers=1)
_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_TOKENS = 16


def run(bench: Bench) -> None:
    """B0 first and alone with ours: its weights and B1's need not be in memory together."""
    folder = kept(_QUICK if bench.quick else _FULL)
    mine = runtimes(folder, threads=bench.threads)
    rows = query(_TOKENS, mine["fp32"].config.text.vocab_size)
    sides = {name: partial(encode, runtime, rows) for name, runtime in mine.items()}
    what = f"{_TOKENS}-token query"
    bench.compare(
        {"B0": partial(PaddedText.published(folder).one_batch, rows)} | sides,
        claims(what, "B0", {"fp32": (22, 27), "int8": (50, 70), "torch": None}),
        clock="process",
    )
    sides["B1"] = partial(PaddedText.merged(mine["torch"]).one_batch, rows)
    sides["B2"] = partial(encode, quantised_peer(folder, threads=bench.threads), rows)
    bench.compare(
        sides,
        [
            *claims(what, "B1", {"fp32": (1.5, 2), "int8": (3.5, 5), "torch": None}),
            *claims(what, "B2", {"int8": (0.9, 1)}),
        ],
        clock="process",
    )


if __name__ == "__main__":
    main("query_cpu", __doc__, run)
