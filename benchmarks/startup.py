"""`jclip search` as a whole process, from its start to its answer: ONNX Runtime against torch, and v2's size in int8.

    python -m benchmarks.startup --quick | --full

A collection of 40 pictures with nano, and one of 40 texts with a random checkpoint of v2's size in int8, both indexed
and converted before. Each round starts every side once. Times are of the wall clock, as a person waits; the JSON has
the processor time of the same rounds, which other work on the machine disturbs less.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.comparison import Bench, main
from benchmarks.full_size_checkpoint import V2, Size, kept
from benchmarks.memory import watch
from benchmarks.ours import keep_graphs_apart
from core_encoder.config import read_config
from core_encoder.nano.scenes import draw_scene, random_scene
from core_encoder.onnx.conversion import converted

_QUICK = Size(text_layers=1, image_layers=1, vocab_size=2000)
_FILES = 40
_QUERY = "a red circle"
_JCLIP = ("-m", "jclip_connectors.cli.main")
_TOLERANCE = 1e-4  # of a score, torch against ONNX Runtime
_ALLOWED_S = 1.0  # more for v2's size than 1.5 times nano's time


class _Search:
    """One `jclip search`; keeps its seconds of the wall clock and of processor time."""

    def __init__(self, collection: Path, environment: dict[str, str], *options: str) -> None:
        self.arguments = (*_JCLIP, "search", _QUERY, "--collection", str(collection), "--json", *options)
        self.environment = environment
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def __call__(self) -> dict[str, float]:
        """Search; the score of each file that was found."""
        started, used = time.perf_counter(), _children_s()
        found = _run(*self.arguments, environment=self.environment)
        self.wall_s.append(time.perf_counter() - started)
        self.cpu_s.append(_children_s() - used)
        return {hit["id"]: hit["score"] for hit in json.loads(found)}


def run(bench: Bench) -> None:
    """Prepare the collections, compare the results, and start the sides in turn."""
    cache = keep_graphs_apart()
    # As a user's: Python keeps what it has compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"OMP_NUM_THREADS": str(bench.threads), "JCLIP_CACHE_DIR": str(cache)}
    int8 = environment | {"JCLIP_PRECISION": "int8"}
    checkpoint = kept(_QUICK if bench.quick else V2)
    with tempfile.TemporaryDirectory(prefix="jclip-startup-") as name:
        folder = Path(name)
        small = _indexed(folder, "pictures", "nano", environment)
        large = _indexed(folder, "texts", str(checkpoint), int8)
        torch, onnx, v2 = (
            _Search(small, environment, "--runtime", "torch"),
            _Search(small, environment, "--runtime", "onnx"),
            _Search(large, environment, "--model", str(checkpoint)),
        )
        _check(torch(), onnx())
        if len(v2()) == 0:
            raise SystemExit("v2's collection finds nothing: no times are taken")
        sides = {"torch": torch, "onnx": onnx, "v2": v2}
        for side in sides.values():  # the first run compiles modules and reads files that later ones have at hand
            side.wall_s.clear()
            side.cpu_s.clear()
        bench.interleave(sides)
        watched = watch(*v2.arguments, environment=environment)
    bench.record(
        "`jclip search` with nano, process start to answer: ONNX Runtime over torch",
        _ratios(onnx.wall_s, torch.wall_s),
        bar=0.35,
        hope=0.2,
        at_most=True,
        processor_time=_ratios(onnx.cpu_s, torch.cpu_s),
        seconds={"onnx": onnx.wall_s, "torch": torch.wall_s},
    )
    bench.record(
        f"the same with v2's size in int8, less {_ALLOWED_S:g} s, over nano",
        [max(0.0, large_s - _ALLOWED_S) / small_s for large_s, small_s in zip(v2.wall_s, onnx.wall_s, strict=True)],
        bar=1.5,
        at_most=True,
        processor_time=_ratios(v2.cpu_s, onnx.cpu_s),
        seconds=v2.wall_s,
    )
    weights = (converted(checkpoint, read_config(checkpoint), "int8") / "text.onnx.data").stat().st_size
    bench.record(
        "memory of that search that no file backs, over v2's weights for texts",
        [watched.anonymous_bytes / weights],
        at_most=True,
        peak=watched.peak_bytes / weights,
    )


def _indexed(folder: Path, kind: str, model: str, environment: dict[str, str]) -> Path:
    """Index some files of a kind with a model; the collection."""
    files, collection = folder / kind, folder / f"{kind}.jclip"
    files.mkdir()
    generator = np.random.default_rng(0)
    for number in range(_FILES):
        if kind == "texts":
            (files / f"{number:02}.txt").write_text(f"a text about the number {number}", encoding="utf-8")
        else:
            scene = random_scene(generator, num_objects=1 + number % 3)
            draw_scene(scene, seed=number).image.save(files / f"{number:02}.png")
    _run(*_JCLIP, "index", str(files), "--collection", str(collection), "--model", model, environment=environment)
    return collection


def _check(expected: dict[str, float], found: dict[str, float]) -> None:
    difference = max((abs(expected[name] - found.get(name, np.inf)) for name in expected), default=np.inf)
    print(f"the scores differ by {difference:.1e}, {_TOLERANCE:g} is allowed")
    if not difference <= _TOLERANCE:
        raise SystemExit("the two runtimes do not find the same: no times are taken")


def _run(*arguments: str, environment: dict[str, str]) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment).stdout  # noqa: S603 - our own


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ratios(ours: list[float], baseline: list[float]) -> list[float]:
    return [mine / theirs for mine, theirs in zip(ours, baseline, strict=True)]


if __name__ == "__main__":
    main("startup", __doc__, run)
