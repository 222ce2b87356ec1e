"""Many texts of mixed length, v2's text tower on one CPU thread, against a careful user's padded batches, and a peer.

    python -m benchmarks.bulk_cpu --quick | --full

B1 sorts by characters, which is close to tokens in one language and far from them in several: a Chinese text has three
times the tokens of an English one of the same length. B2 is ONNX Runtime's `quantize_dynamic` of our float32 graph, in
our batches. Two layers of the 24: ratios hold. Processor time.
"""

from functools import partial

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.ours import Bars, claims, runtimes
from benchmarks.quantised_peer import quantised_peer
from benchmarks.text_sides import PaddedText, encode, mixed_texts

_FULL = Size(text_layers=2, image_layers=1, vocab_size=30000)
_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_MIXES: dict[str, tuple[list[str], Bars]] = {
    "Chinese, English, German": (
        ["chinese", "english", "german"],
        {"fp32": (2, 2.3), "int8": (3.3, 4), "torch": None},
    ),
    "English": (["english"], {"fp32": None, "int8": None}),
}


def run(bench: Bench) -> None:
    """The mix is what is claimed; English alone shows what B1 can do at best."""
    folder = kept(_QUICK if bench.quick else _FULL)
    mine = runtimes(folder, threads=bench.threads)
    careful, peer = PaddedText.merged(mine["torch"]), quantised_peer(folder, threads=bench.threads)
    vocab_size, count = peer.config.text.vocab_size, 4 if bench.quick else 64
    for name, (languages, bars) in _MIXES.items():
        rows, characters = mixed_texts(languages, count, vocab_size)
        sides = {side: partial(encode, mine[side], rows) for side in bars}
        sides |= {"B1": partial(careful.sorted_batches, rows, characters), "B2": partial(encode, peer, rows)}
        what = f"{count} texts, {name}"
        bench.compare(sides, [*claims(what, "B1", bars), *claims(what, "B2", {"int8": None})], clock="process")


if __name__ == "__main__":
    main("bulk_cpu", __doc__, run)
