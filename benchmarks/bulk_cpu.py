"""Many texts of mixed length, v2's text tower on one CPU thread, against a careful user's padded batches (B1).

    python -m benchmarks.bulk_cpu --quick | --full

B1 sorts by characters, which is close to tokens in one language and far from them in several: a Chinese text has three
times the tokens of an English one of the same length. Three layers of the 24: ratios hold. Processor time.
"""

from functools import partial

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.ours import claims, runtimes
from benchmarks.text_sides import PaddedText, encode, mixed_texts

_FULL = Size(text_layers=3, image_layers=1, vocab_size=30000)
_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)


def run(bench: Bench) -> None:
    """The mix is what is claimed; English alone shows what B1 can do at best."""
    folder = kept(_QUICK if bench.quick else _FULL)
    mine = runtimes(folder, threads=bench.threads)
    theirs = PaddedText.merged(folder)
    vocab_size, count = mine["torch"].config.text.vocab_size, 4 if bench.quick else 64
    for name, languages, bars in (
        ("Chinese, English, German", ["chinese", "english", "german"], {"torch": (1.8, 2.0)}),
        ("English", ["english"], {"torch": (1.15, 1.5)}),
    ):
        rows, characters = mixed_texts(languages, count, vocab_size)
        sides = {"B1": partial(theirs.sorted_batches, rows, characters)}
        sides |= {side: partial(encode, runtime, rows) for side, runtime in mine.items()}
        bench.compare(sides, claims(f"{count} texts, {name}", "B1", bars), clock="process")


if __name__ == "__main__":
    main("bulk_cpu", __doc__, run)
