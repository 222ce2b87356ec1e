"""What the tests of the store in Milvus share."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import textwrap

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import ConnectorError, StoreRequestError
from jclip_connectors.milvus import MilvusStore
from jclip_connectors.port import Record

E = 16
CONFIG = EmbeddingConfig(model="milvus", revision="1", dimensions=E)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))


def vectors(number, *, seed=0, length=E):
    """(number, length) float32 rows of unit length."""
    rows = np.random.default_rng(seed).normal(size=(number, length))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def records(start, stop, **fields):
    rows = vectors(stop - start, seed=start)
    return [
        Record(record_id=str(i), modality="image", embedding=row, **fields)
        for i, row in zip(range(start, stop), rows, strict=True)
    ]


def tiled_record(record_id, tiles, **fields):
    """A record whose embedding is its first tile's."""
    boxes = np.array([[number, 0, number + 1, 1] for number in range(len(tiles))])
    return Record(
        record_id=record_id, modality="image", embedding=tiles[0], tile_embeddings=tiles, tile_boxes=boxes, **fields
    )


def ids_of(found):
    return [each.record_id for each in found]


@contextlib.contextmanager
def opened(path, config=CONFIG, name="photos", **options):
    with contextlib.closing(MilvusStore.open(path, name, config, **options)) as store:
        yield store


def attempt(path):
    """Open a collection and keep it open; says what has happened."""
    try:
        KEPT.append(MilvusStore.open(path, "photos", CONFIG))
    except ConnectorError as error:
        return f"{type(error).__name__}: {error}"
    return "opened"


KEPT: list[MilvusStore] = []


def refusal(call):
    """The message of the request error that a call raises; empty if it raises none."""
    try:
        call()
    except StoreRequestError as error:
        return str(error)
    return ""


def run_python(code, *arguments):
    """A process of its own, in which everything of this module is there."""
    prelude = "import sys\nfrom tests.milvus.parts import *\n"
    return subprocess.Popen(  # noqa: S603 (our own code)
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


QUERY = vectors(1, seed=999)[0]
