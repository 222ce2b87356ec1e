"""Whether a store has a record as it was written, and a sample of the records that pass by."""

import dataclasses
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from core_encoder.matryoshka import normalize
from jclip_connectors.port import FloatArray, Record

_EXACT = 1e-6  # of a value of a vector of unit length: what two roundings to float32 can make
_FIELDS = ("modality", "content", "uri", "content_hash")
_SAMPLED = 256


@runtime_checkable
class RoundsVectors(Protocol):
    """A store that may keep vectors with fewer bits than float32 has."""

    @property
    def vector_tolerance(self) -> float:
        """The most that a value of a stored vector of unit length may differ from what was written."""


def tolerance_of(store: object) -> float:
    """The most that a value of a vector may differ from what was written to `store`, at unit length."""
    return store.vector_tolerance if isinstance(store, RoundsVectors) else _EXACT


@dataclass(kw_only=True)
class Comparison:
    """Compares records, and keeps the largest difference of their vectors.

    Attributes:
        tolerance: the most that a value may differ.
        largest: the largest difference of a value so far, among vectors of equal shape.
    """

    tolerance: float
    largest: float = 0.0

    def difference(self, wanted: Record, found: Record | None) -> str | None:
        """What differs, in words; `None` for equal records."""
        if found is None:
            return "it is missing"
        for name in _FIELDS:
            if getattr(wanted, name) != getattr(found, name):
                return f"`{name}` differs"
        if wanted.metadata != found.metadata or json_text(wanted.metadata) != json_text(found.metadata):
            return "`metadata` differs"
        if not _equal_boxes(wanted, found):
            return "`tile_boxes` differ"
        vectors = [("embedding", wanted.embedding[None], found.embedding[None])]
        if wanted.tile_embeddings is not None and found.tile_embeddings is not None:
            vectors.append(("tile_embeddings", wanted.tile_embeddings, found.tile_embeddings))
        for name, rows, other in vectors:
            if rows.shape != other.shape:
                return f"`{name}` differs: {other.shape[-1]} values, not {rows.shape[-1]}"
            distance = _distance(rows, other)
            self.largest = max(self.largest, distance)
            if not distance <= self.tolerance:
                return f"`{name}` differs by {distance:.1e}"
        return None


class Sample:
    """Some of the records that pass by, each with the same chance.

    Source: Vitter, Random Sampling with a Reservoir, 1985, algorithm R.
    """

    def __init__(self, size: int = _SAMPLED) -> None:
        """Keep `size` records."""
        self._size = size
        self._passed = 0
        self._random = random.Random(0)  # noqa: S311 (a sample of a test of ours)
        self._kept: list[Record] = []

    @property
    def records(self) -> list[Record]:
        """The sample; of several records with one id, the last one."""
        return list(self._kept)

    def add(self, records: Iterable[Record]) -> None:
        """Let records pass by."""
        places = {record.record_id: place for place, record in enumerate(self._kept)}
        for record in records:
            self._passed += 1
            place = places.get(record.record_id)  # a later record of one id takes the place of the former
            if place is None and len(self._kept) < self._size:
                places[record.record_id] = len(self._kept)
                self._kept.append(owned(record))
                continue
            if place is None:
                place = self._random.randrange(self._passed)
            if place < self._size:
                places.pop(self._kept[place].record_id)
                places[record.record_id] = place
                self._kept[place] = owned(record)


def owned(record: Record) -> Record:
    """The record with vectors of its own: they may be views of the memory of a whole batch."""
    return dataclasses.replace(
        record,
        embedding=record.embedding.copy(),
        tile_embeddings=None if record.tile_embeddings is None else record.tile_embeddings.copy(),
        tile_boxes=None if record.tile_boxes is None else record.tile_boxes.copy(),
    )


def json_text(value: object) -> str:
    """JSON with sorted keys: 1, 1.0 and true are equal in Python."""
    return json.dumps(value, sort_keys=True)


def _equal_boxes(wanted: Record, found: Record) -> bool:
    if (wanted.tile_embeddings is None) != (found.tile_embeddings is None):
        return False
    if wanted.tile_boxes is None or found.tile_boxes is None:
        return wanted.tile_boxes is found.tile_boxes
    return np.array_equal(wanted.tile_boxes, found.tile_boxes)


def _distance(rows: FloatArray, other: FloatArray) -> float:
    """The largest difference of two values, at unit length."""
    return float(np.abs(normalize(rows) - normalize(other)).max(initial=0.0))
