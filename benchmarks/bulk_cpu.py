"""Many texts of mixed length, v2's text tower on one CPU thread, against a careful user's padded batches, and a peer.

    python -m benchmarks.bulk_cpu --quick | --full

B1 sorts 4096 texts by characters into batches of 16, of which four are taken: characters are close to tokens in one
language and far from them in several, as a Chinese text has three times the tokens of an English one of its length.
B2 is ONNX Runtime's `quantize_dynamic` of our float32 graph, in our batches. One layer of the 24: ratios hold.
Processor time.
"""

from functools import partial
from itertools import chain

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.ours import Bars, claims, runtimes
from benchmarks.quantised_peer import quantised_peer
from benchmarks.text_sides import PaddedText, encode, sorted_batches

_FULL = Size(text_layers=1, image_layers=1, vocab_size=30000)
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
    for name, (languages, bars) in _MIXES.items():
        batches = sorted_batches(languages, peer.config.text.vocab_size)
        if bench.quick:
            batches = [rows[:2] for rows in batches[-2:]]
        rows = list(chain.from_iterable(batches))
        sides = {side: partial(encode, mine[side], rows) for side in bars}
        sides |= {"B1": partial(careful.batches, batches), "B2": partial(encode, peer, rows)}
        what = f"{len(rows)} texts, {name}"
        bench.compare(sides, [*claims(what, "B1", bars), *claims(what, "B2", {"int8": None})], clock="process")


if __name__ == "__main__":
    main("bulk_cpu", __doc__, run)
