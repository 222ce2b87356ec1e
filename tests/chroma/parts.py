"""What the tests of the store in Chroma share."""

import dataclasses

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import Record

E = 16
CONFIG = EmbeddingConfig(model="chroma", revision="1", dimensions=E)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))
UNSIZED = dataclasses.replace(CONFIG, dimensions=None)
QUERY = np.eye(E, dtype=np.float32)[0]


def vectors(number, *, seed=0, length=E):
    """(number, length) float32 rows of unit length."""
    rows = np.random.default_rng(seed).normal(size=(number, length))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def records(start, stop, *, tiles=0, **fields):
    rows = vectors(stop - start, seed=start)
    boxes = np.arange(4 * tiles).reshape(-1, 4)
    return [
        Record(
            record_id=str(i),
            modality="image",
            embedding=row,
            tile_embeddings=vectors(tiles, seed=1000 + i) if tiles else None,
            tile_boxes=boxes if tiles else None,
            **fields,
        )
        for i, row in zip(range(start, stop), rows, strict=True)
    ]


class Watched:
    """A client that counts the calls on its collections, and may fail at some of them."""

    def __init__(self, client):
        self._client = client
        self.calls = []
        self.fail = None  # a function of the name of a collection, of the method and of its arguments

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if name not in ("get_collection", "create_collection"):
            return found
        return lambda *arguments, **options: _Collection(self, found(*arguments, **options))


class _Collection:
    def __init__(self, watched, collection):
        self._watched = watched
        self._collection = collection

    def __getattr__(self, name):
        found = getattr(self._collection, name)
        if name not in ("upsert", "query", "get", "delete", "count"):
            return found

        def call(**options):
            kind = "tiles" if self._collection.name.endswith(".tiles") else "records"
            self._watched.calls.append((kind, name, options))
            if self._watched.fail is not None:
                self._watched.fail(kind, name, options)
            return found(**options)

        return call
