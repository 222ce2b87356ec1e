"""A collection in memory, and files for it; without a model."""

import os

import numpy as np
from PIL import Image

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.indexing import find_files, find_missing, index_files, reasons_to_keep
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return path


def settled(path, age_s=3600):
    """Make a file as old as files are that nobody changes at the moment."""
    then = path.stat().st_mtime_ns - age_s * 10**9
    os.utime(path, ns=(then, then))
    return path


class Shelf:
    """A collection in memory, and the store behind it."""

    def __init__(self, embedder=None):
        embedder = HashEmbedder() if embedder is None else embedder
        self.store = InMemoryStore(embedder.config)
        self.collection = MultimodalCollection(embedder, self.store)

    def index(self, *roots, allow_gone=False, **options):
        self.found = find_files(roots, allow_gone=allow_gone)
        self.report = index_files(self.collection, self.found.files, **options)
        return self.report.indexed, self.report.unchanged, [bad.path for bad in self.report.failed]

    def missing(self):
        return find_missing(self.store, self.found, self.report)

    def reasons(self):
        return reasons_to_keep(self.missing(), self.found, count=self.store.count())

    def ids(self):
        return sorted(record.record_id for record in self.store.scroll())

    def record(self, path):
        (record,) = self.store.get([str(path)])
        return record


def watch(monkeypatch, place, name):
    """The first argument of each call of a function, which then does what it always does."""
    seen, function = [], getattr(place, name)

    def call(*arguments, **options):
        seen.append(arguments[0])
        return function(*arguments, **options)

    monkeypatch.setattr(place, name, call)
    return seen
