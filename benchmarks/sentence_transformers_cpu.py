"""Texts on one CPU thread against sentence-transformers with its ONNX backend, on the shape that it knows.

    python -m benchmarks.sentence_transformers_cpu --quick | --full

Its model is an XLM-R of the size of v2's text tower, with learned positions in the place of rotary ones: as many and
as large matrix products, but another model, so the outputs cannot be compared. It runs in an environment and a process
of its own (benchmarks/peers/), which is made at the first start, and takes turns with ours. 6 of the 24 layers: ratios
hold. Processor time of both processes.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uv
from numpy.typing import NDArray

from benchmarks.comparison import Bench, Claim, main
from benchmarks.environment import instruction_sets
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.ours import runtimes
from benchmarks.text_sides import Rows, encode, query, sorted_batches

_FULL = Size(text_layers=6, image_layers=1, vocab_size=30000)
_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_PEERS = Path(__file__).parent / "peers"
_FIRST_LETTER = 0x3400  # as in the peer's program


def peer_python() -> Path:
    """The interpreter of the peer's environment, which is kept in the folder for temporary files."""
    listed = _PEERS / "sentence-transformers.txt"
    digest = hashlib.sha256(listed.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = Path(tempfile.gettempdir()) / f"jclip-peer-sentence-transformers-{digest}"
    if not home.exists():
        unfinished, uv_bin = home.with_suffix(".tmp"), uv.find_uv_bin()
        python = str(unfinished / "bin" / "python")
        for command in (
            ["venv", "--clear", "--relocatable", "--python", sys.executable, str(unfinished)],
            ["pip", "install", "--python", python, "--requirement", str(listed)],
        ):
            subprocess.run([uv_bin, "--quiet", *command], check=True)  # noqa: S603 - our own arguments
        unfinished.rename(home)
    return home / "bin" / "python"


class SentenceTransformers:
    """The other process: texts go in, one call at a time."""

    def __init__(self, *, layers: int, vocab_size: int, threads: int) -> None:
        """Start it and wait until it has its models."""
        found = instruction_sets()
        instructions = "avx512_vnni" if "avx512_vnni" in found else "avx2" if "avx2" in found else "arm64"
        folder = Path(tempfile.gettempdir()) / f"jclip-peer-xlmr-{layers}-{vocab_size}-{instructions}"
        command = [str(peer_python()), str(_PEERS / "sentence_transformers_onnx.py"), str(folder)]
        for name, value in (("layers", layers), ("vocab-size", vocab_size), ("threads", threads)):
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments
            [*command, "--instructions", instructions], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seconds = 0.0  # processor time in all calls so far
        self._answer()

    def __call__(self, precision: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode B texts with the "fp32" or "int8" model; zeros in the shape of what came out."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(json.dumps({"model": precision, "texts": texts}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.seconds += answer["seconds"]
        return np.zeros(answer["shape"], np.float32)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def processor_time(self) -> float:
        """Of both processes."""
        return time.process_time() + self.seconds

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise SystemExit(f"the process of sentence-transformers ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def as_texts(rows: Rows) -> list[str]:
    """Texts of which the peer's tokenizer makes the same number of tokens, two of them its own at both ends."""
    return ["".join(chr(_FIRST_LETTER + token) for token in row[1:-1]) for row in rows]


def shape_difference(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    """0 where both sides give as many vectors of the same length; the models are not the same."""
    return float(expected.shape != actual.shape)


def run(bench: Bench) -> None:
    """A query, then one batch, as the peer makes them of many texts in three languages that it sorts by characters."""
    size = _QUICK if bench.quick else _FULL
    mine = runtimes(kept(size), threads=bench.threads)
    config = mine["torch"].config.text
    peer = SentenceTransformers(layers=config.num_layers, vocab_size=config.vocab_size, threads=bench.threads)
    one = query(16, config.vocab_size)
    batches = sorted_batches(["chinese", "english", "german"], config.vocab_size)
    mix = batches[-1][:2] if bench.quick else batches[1]
    for name, rows in (("16-token query", one), (f"a batch of {len(mix)}, Chinese, English, German", mix)):
        texts = as_texts(rows)
        sides = {side: partial(encode, runtime, rows) for side, runtime in mine.items()}
        claims = []
        for side in mine:
            precision = "int8" if side == "int8" else "fp32"
            theirs = f"sentence-transformers {precision}"
            sides[theirs] = partial(peer, precision, texts)
            what = f"{name}, {side} / {theirs}"
            claims.append(Claim(what=what, baseline=theirs, ours=side, difference=shape_difference, tolerance=0))
        bench.compare(sides, claims, clock=peer.processor_time)
    peer.close()


if __name__ == "__main__":
    main("sentence_transformers_cpu", __doc__, run)
