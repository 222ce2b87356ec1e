"""A second `jclip index` over 20,000 files that have not changed: the walk, the look-ups and the comparison.

    python -m benchmarks.rescan --quick | --full

The collection is in a folder, and its records have vectors of 512 values. The files are a few hundred bytes long, which
favours `--verify-content`, the baseline: it reads them all. The process and the model are not started anew. The row
with the bar is wall time; processor time is what it would be if nothing else ran.
"""

import os
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.comparison import Bench, Claim, main
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.indexing import find_files, index_files
from jclip_connectors.testing import HashEmbedder

_FILES, _QUICK_FILES, _FILES_OF_FOLDER = 20_000, 300, 200
_DIMENSIONS = 512
_WRITTEN_S = 1_600_000_000  # when the files were written


def write_files(folder: Path, count: int) -> None:
    """Write pictures of different content, some hundred to a folder."""
    picture = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save(picture, "JPEG")
    for number in range(count):
        path = folder / f"album {number // _FILES_OF_FOLDER:03}" / f"IMG_{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.getvalue() + number.to_bytes(4, "big"))
        os.utime(path, (_WRITTEN_S + number, _WRITTEN_S + number))


def apart(expected: object, actual: object) -> float:
    """How many files one side has found to be unchanged and the other has not."""
    return float(np.abs(np.subtract(expected, actual)))  # type: ignore[call-overload]  # two ints


def run(bench: Bench) -> None:
    """Compare both kinds of run."""
    count = _QUICK_FILES if bench.quick else _FILES
    embedder = HashEmbedder(EmbeddingConfig(model="hash", revision="1", dimensions=_DIMENSIONS))
    walls: list[float] = []
    with tempfile.TemporaryDirectory(prefix="rescan-") as folder:
        pictures = Path(folder) / "pictures"
        write_files(pictures, count)
        with QdrantEdgeStore.open(Path(folder) / "c.jclip", embedder.config) as store:
            collection = MultimodalCollection(embedder, store)
            index_files(collection, find_files([pictures]).files, chunk_size=256)

            def scan(*, verify_content: bool) -> int:
                start = time.perf_counter()
                found = find_files([pictures])
                unchanged = index_files(collection, found.files, verify_content=verify_content).unchanged
                if not verify_content:
                    walls.append(time.perf_counter() - start)
                return unchanged

            if scan(verify_content=False) != count:
                raise SystemExit("files that have not changed were read: no times are taken")
            del walls[:]
            claim = Claim(
                what=f"re-scan of {count:,} unchanged files, reading all / skipping",
                baseline="reading",
                ours="skipping",
                difference=apart,
                tolerance=0,
            )
            sides = {"reading": lambda: scan(verify_content=True), "skipping": lambda: scan(verify_content=False)}
            seconds = bench.compare(sides, [claim], clock="process")
    bench.record(
        f"re-scan of {count:,} unchanged files",
        [count / wall for wall in walls],
        unit="files/s",
        bar=10_000,
        hope=20_000,
    )
    bench.record("the same, of processor time", [count / each for each in seconds["skipping"]], unit="files/s")


if __name__ == "__main__":
    main("rescan", __doc__, run)
