"""What the tests of the store in LanceDB share."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import Record

ROOT = Path(__file__).parents[2]
E = 16
CONFIG = EmbeddingConfig(model="lancedb", revision="1", dimensions=E)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))
UNSIZED = dataclasses.replace(CONFIG, dimensions=None)


def vectors(number, *, seed=0, length=E):
    """(number, length) float32 rows of unit length."""
    rows = np.random.default_rng(seed).normal(size=(number, length))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def records(start, stop, *, tiles=0, **fields):
    rows = vectors(stop - start, seed=start)
    if tiles:
        boxes = np.arange(4 * tiles).reshape(-1, 4)
        return [
            dataclasses.replace(each, tile_embeddings=vectors(tiles, seed=10**6 + start + i), tile_boxes=boxes)
            for i, each in enumerate(records(start, stop, **fields))
        ]
    return [
        Record(record_id=str(i), modality="image", embedding=row, **fields)
        for i, row in zip(range(start, stop), rows, strict=True)
    ]


def ids_of(found):
    return [each.record_id for each in found]


def program(text: str, *arguments: str) -> Sequence[str]:
    """The command that runs a program in a process of its own, with the tests' modules."""
    return [sys.executable, "-c", text, *arguments]


def start(text: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 (this program)
        program(text, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


QUERY = vectors(1, seed=999)[0]
