"""What Ray costs: the same shards embedded by `run_locally` and by `run_on_ray`, in interleaved rounds.

    python -m benchmarks.ray_engine            # in an environment with the extra "ray", on a machine with little else
    python -m benchmarks.ray_engine --quick    # tiny sizes, to see that it runs

It prints the processor time of all processes and of the model alone, their ratios, and the memory of the program that
has 10,000 shards to do.
"""

import argparse
import contextlib
import ctypes
import io
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jclip_connectors.bulk import EmbedJob, Shard, embed_shards, find_shards, run_locally, run_on_ray
from jclip_connectors.config import EmbeddingConfig

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, Source: prctl(2)
_SIDE_PX = 144
_ROWS = 250  # of a shard
_NAMES = 10_000
_SOME = 200  # of these that are embedded


@dataclass(frozen=True, kw_only=True)
class _TimedJob(EmbedJob):
    """A job that adds the processor time of the model to a file for each process."""

    folder: str

    def open_embedder(self) -> Any:  # noqa: ANN401 (it has what an embedder has)
        return _TimedEmbedder(super().open_embedder(), Path(self.folder, f"{os.getpid()}.s"))


class _TimedEmbedder:
    def __init__(self, embedder: Any, path: Path) -> None:  # noqa: ANN401
        self._embedder, self._path, self._seconds = embedder, path, 0.0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._embedder, name)

    def embed_images(self, images: Sequence[Any]) -> Any:  # noqa: ANN401
        start = time.process_time()
        found = self._embedder.embed_images(images)
        self._seconds += time.process_time() - start
        self._path.write_text(str(self._seconds))
        return found


def main() -> None:
    """Run one side in this process, or all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "SOURCE", "FOLDER"))
    arguments = parser.parse_args()
    if arguments.side:
        _run_side(*arguments.side)
        return
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # so that the processes of Ray are counted here
    shards, rounds = (2, 1) if arguments.quick else (12, arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="ray-benchmark-") as name:
        folder = Path(name)
        for at in range(shards):
            _write_shard(folder / "in" / f"{at:02}.tar", at, rows=20 if arguments.quick else _ROWS)
        _measured("local", folder)  # the graphs of the model are written
        seconds: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
        for at in range(rounds):
            for side in ("local", "ray") if at % 2 == 0 else ("ray", "local"):
                seconds[side].append(_measured(side, folder))
        for which, what, bar in ((0, "all processes", 2.2), (1, "the model alone", 1.1)):
            local, ray = ([each[which] for each in seconds[side]] for side in ("local", "ray"))
            ratios = sorted(ours / theirs for ours, theirs in zip(ray, local, strict=True))
            print(
                f"{what}: local {statistics.median(local):.1f} CPU s, Ray {statistics.median(ray):.1f} CPU s, "
                f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f}), bar <= {bar}"
            )
        _measured("names", folder)
        print((folder / "memory").read_text())


def _measured(side: str, folder: Path) -> tuple[float, float]:
    """The processor time of a side in a process of its own: of all processes, and of the model in them."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "benchmarks.ray_engine", "--side", side, str(folder / "in"), name]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S603 (this file)
        with contextlib.suppress(ChildProcessError):
            while True:  # what Ray has left behind
                os.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used, sum(float(path.read_text()) for path in Path(name).glob("*.s"))


def _run_side(side: str, source: str, folder: str) -> None:
    config = EmbeddingConfig(model="nano")
    job = _TimedJob(
        config=config, out=f"{folder}/out", batch_size=64, device="cpu", threads=1, runtime="onnx", folder=folder
    )
    if side == "names":
        _measure_names(job, Path(source).parent / "memory")
        return
    embed_shards(find_shards([source]), job, run=run_locally if side == "local" else _on_ray)


def _on_ray(todo: Sequence[Shard], job: EmbedJob) -> Any:  # noqa: ANN401 (a generator)
    return run_on_ray(todo, job, workers=2, loopback=True)


def _measure_names(job: _TimedJob, told: Path) -> None:
    """The memory of a program with many shards to do, each of one picture, after some of them."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # for loopback, before the import
    import ray  # noqa: F401 (what it takes is not counted)

    imported = _peak_bytes()
    path = Path(job.folder, "picture.png")
    path.write_bytes(_picture(0))
    url = "/a-bucket/a-folder-of-some-length/{at:05}.tar"
    shards = [Shard(kind="files", url=url.format(at=at), state=str(at), paths=(str(path),)) for at in range(_NAMES)]
    results = run_on_ray(shards, job, workers=1, loopback=True)
    for _ in range(_SOME):
        next(results)
    results.close()
    told.write_text(f"{_NAMES} shards to do: {(_peak_bytes() - imported) / 1e6:.0f} MB over `import ray`, bar <= 200")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _write_shard(path: Path, number: int, *, rows: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for at in range(rows):
            content = _picture(number * rows + at)
            member = tarfile.TarInfo(f"{at:05}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _picture(number: int) -> bytes:
    """A PNG of some 30 KB, half of it noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    pixels[:, : _SIDE_PX // 2] = number % 256
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
