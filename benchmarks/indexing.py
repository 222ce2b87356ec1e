"""A whole `jclip index` of photographs over the slower of its two large parts: decoding alone, and encoding alone.

    python -m benchmarks.indexing --quick | --full

1.0 is an ideal overlap. It needs idle processors: decoding takes `min(8, processors)` threads, and the model takes
`--threads` of its own. Two kinds of model are measured:

- one that computes on this machine, on one thread. Its weights are random, of v1's width, with so few layers that a
  picture costs it about as much processor time as its photograph costs the decoder. Together they fill two processors,
  and the row "what the processors allow" is the least that any order of the work could reach.
- one that computes elsewhere, as on a GPU: it waits as long as decoding takes alone.

Reading, hashing, the store's look-ups and writes are in the whole, and in neither part. Wall time: run it on a quiet
machine.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import Size, kept
from benchmarks.image_decoding import photograph
from benchmarks.ours import keep_graphs_apart
from core_encoder import JinaClipEncoder
from core_encoder.runtime import Runtime
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.indexing import index_files
from jclip_connectors.local import LocalEmbedder

_FULL = (96, (4000, 3000), 8)  # photographs, their size, files of a chunk
_QUICK = (6, (400, 300), 2)
_MODEL = Size(model="v1", text_layers=1, image_layers=1, vocab_size=8192)
_CONFIG = EmbeddingConfig(model="benchmarks/random", revision="0" * 40)
_BAR, _HOPE = 1.10, 1.03


class Elsewhere:
    """A runtime that computes on another device: this machine only waits."""

    def __init__(self, ours: Runtime, seconds: float) -> None:
        """Wait so many seconds for each picture."""
        self._ours = ours
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (any of the runtime's attributes)
        """Everything else is as it is."""
        return getattr(self._ours, name)

    def image_features(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) -> (B, E), not all of it zero."""
        time.sleep(self._seconds * len(squares))
        return np.ones((len(squares), self._ours.config.embedding_dim), np.float32)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write photographs of equal pixels and different content: each has another number behind its end mark."""
    data = photograph(*size)
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(data + number.to_bytes(4, "big"))
    return paths


def with_runtime(encoder: JinaClipEncoder, runtime: Runtime) -> JinaClipEncoder:
    """An encoder with another model, named so that no weights are hashed for a collection's fingerprint."""
    return JinaClipEncoder(runtime, encoder.tokenizer, encoder.preprocessing, name=_CONFIG.model)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The same photographs for a whole run and for its two parts.

    Attributes:
        encoder: the model.
        paths: the photographs.
        chunk: how many of them a run takes at a time.
    """

    encoder: JinaClipEncoder
    paths: Sequence[Path]
    chunk: int

    def decode(self) -> None:
        """Decode as an indexing run does, for a model that takes no time."""
        instant = with_runtime(self.encoder, Elsewhere(self.encoder.runtime, 0))
        for _ in instant.stream_images(self.paths, at_once=self.chunk, rendering="as_seen"):
            pass

    def encode(self) -> None:
        """Encode as many pictures that are decoded already."""
        side = self.encoder.image_size
        squares = np.random.default_rng(0).integers(0, 256, (self.chunk, side, side, 3), np.uint8)
        for _ in range(0, len(self.paths), self.chunk):
            self.encoder.runtime.image_features(squares)

    def index(self) -> None:
        """Index into a new collection in a folder."""
        with (
            tempfile.TemporaryDirectory(prefix="indexing-") as folder,
            QdrantEdgeStore.open(Path(folder) / "c.jclip", _CONFIG) as store,
        ):
            collection = MultimodalCollection(LocalEmbedder(_CONFIG, encoder=self.encoder), store)
            done = index_files(collection, self.paths, chunk_size=self.chunk)
            if done.indexed != len(self.paths):
                raise SystemExit(f"not every photograph was indexed, so the times mean nothing: {done}")


def processor_seconds(run_once: Callable[[], object]) -> float:
    """Processor time of all threads."""
    start = time.process_time()
    run_once()
    return time.process_time() - start


def measure(bench: Bench, what: str, work: Work) -> None:
    """Add the rows of one kind of model."""
    work.index()
    needed = (processor_seconds(work.decode) + processor_seconds(work.encode)) / (os.cpu_count() or 1)
    seconds = bench.interleave({"decoding": work.decode, "encoding": work.encode, "whole": work.index})
    slower = [max(parts) for parts in zip(seconds["decoding"], seconds["encoding"], strict=True)]
    bench.record(
        f"indexing over the slower of decoding and encoding, {what}",
        [whole / part for whole, part in zip(seconds["whole"], slower, strict=True)],
        bar=_BAR,
        hope=_HOPE,
        at_most=True,
        seconds=seconds,
    )
    bench.record("the same, what the processors allow", [max(1.0, needed / part) for part in slower], at_most=True)


def run(bench: Bench) -> None:
    """Measure both kinds of model."""
    keep_graphs_apart()
    count, size, chunk = _QUICK if bench.quick else _FULL
    loaded = JinaClipEncoder.load(kept(_MODEL), runtime="onnx", precision="fp32", threads=bench.threads)
    with tempfile.TemporaryDirectory(prefix="photographs-") as folder:
        paths = write_photographs(Path(folder), count, size)
        here = Work(encoder=with_runtime(loaded, loaded.runtime), paths=paths, chunk=chunk)
        measure(bench, "a model on this machine", here)
        start = time.perf_counter()
        here.decode()
        elsewhere = Elsewhere(loaded.runtime, (time.perf_counter() - start) / count)
        measure(bench, "a model elsewhere", Work(encoder=with_runtime(loaded, elsewhere), paths=paths, chunk=chunk))


if __name__ == "__main__":
    main("indexing", __doc__, run)
