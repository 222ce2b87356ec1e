"""A query of 16 tokens, v2's text tower on one CPU thread, against the published way (B0) and a careful user's (B1).

    python -m benchmarks.query_cpu --quick | --full

All sides have the weights of one checkpoint; processor time.
"""

from functools import partial

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.ours import claims, runtimes
from benchmarks.text_sides import PaddedText, encode, query

_FULL = Size(image_layers=1)
_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_TOKENS = 16


def run(bench: Bench) -> None:
    """B0 and B1 one after the other, so that both are not in memory together."""
    folder = kept(_QUICK if bench.quick else _FULL)
    mine = runtimes(folder, threads=bench.threads)
    rows = query(_TOKENS, mine["torch"].config.text.vocab_size)
    sides = {name: partial(encode, runtime, rows) for name, runtime in mine.items()}
    for name, load, bars in (
        ("B0", PaddedText.published, {"torch": (9.0, 15.0)}),
        ("B1", PaddedText.merged, {"torch": None}),
    ):
        theirs = {name: partial(load(folder).one_batch, rows)}
        bench.compare(theirs | sides, claims(f"{_TOKENS}-token query", name, bars), clock="process")


if __name__ == "__main__":
    main("query_cpu", __doc__, run)
