"""What the tests of the store in PostgreSQL share."""

import dataclasses

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import Record

E = 16
CONFIG = EmbeddingConfig(model="pgvector", revision="1", dimensions=E)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))
UNSIZED = dataclasses.replace(CONFIG, dimensions=None)


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


def ids_of(found):
    return [each.record_id for each in found]


def column(connection, query, *parameters):
    """The first column of what PostgreSQL answers."""
    return [row[0] for row in connection.execute(query, parameters).fetchall()]


QUERY = vectors(1, seed=999)[0]
