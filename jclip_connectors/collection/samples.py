"""Samples of a collection's own vectors: they tell what cosine a query has with any text and with any image.

Cosines of texts and of images are on different scales (the modality gap), and both scales depend on the query. Results
of both modalities are compared by how unusual each cosine is for this query in its modality: (cosine - mean) /
deviation, over a sample. `benchmarks/mixed_gallery.py` measures it.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jclip_connectors.port import MODALITIES, FloatArray, IntArray, Modality, Record
from jclip_connectors.store_kit.flows import Flow

SAMPLE_RECORDS = 256
"""The largest number of records in the sample of a modality: more do not order results better."""
MAX_TILES = 4096  # of a sample: 16 MB of vectors of 1024 values
_MAX_AGE_S = 300.0  # then the sample is taken again, since other processes may have written
_LEAST_DEVIATION = 0.01  # for equal vectors, whose deviation is zero

# The mean and deviation of a few records say little. Below `_FEW` records they are combined with those of other
# vectors, which count like `_PRIOR_WEIGHT` records if there is no record, and less the more there are. What is known
# little must also be more unusual, so that unrelated texts do not come between related pictures.
_FEW = 64
_PRIOR_WEIGHT = 16.0
_CAUTION = 0.75  # the deviation is up to this part larger

REFERENCE_TEXTS = (
    "a dog on a beach",
    "an old street at night",
    "a cup of coffee and a newspaper",
    "instructions for assembling a shelf",
    "the minutes of a meeting about the budget",
    "a birthday party in a garden",
    "how to reset a forgotten password",
    "a mountain lake in autumn",
    "quarterly sales by region",
    "a portrait of an elderly woman",
    "ein Zug fährt in den Bahnhof ein",
    "une recette de soupe aux légumes",
    "un mapa del centro de la ciudad",
    "一只猫在窗台上睡觉",
    "red and white stripes",
    "The weather was fine, so we walked along the river until the evening and talked about the new house.",
)
"""Texts about many things, for collections with few texts: a query is related to hardly any of them."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The cosines of one query with the records of one modality.

    Attributes:
        mean: of the cosines.
        deviation: the standard deviation of the cosines; positive.
    """

    mean: float
    deviation: float

    def rank_score(self, cosine: float) -> float:
        """How unusual a cosine is: its distance from the mean, in deviations."""
        return (cosine - self.mean) / self.deviation


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """The vectors of some records of one modality.

    Attributes:
        rows: (N, E) float32 of unit length, the vectors of the whole records.
        tile_rows: (S, E) the tiles of all records, one record after another; a record without tiles has its own vector.
        starts: (N,) the position of each record's first tile in `tile_rows`.
    """

    rows: FloatArray
    tile_rows: FloatArray
    starts: IntArray

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Sample":
        """Keep the vectors of `records`, up to `MAX_TILES` tiles."""
        tiles = [r.embedding[None] if r.tile_embeddings is None else r.tile_embeddings for r in records]
        counts = np.array([len(each) for each in tiles], dtype=np.int64)
        kept = max(1, int((counts.cumsum() <= MAX_TILES).sum())) if records else 0
        if not kept:
            nothing = np.empty((0, 0), dtype=np.float32)
            return cls(rows=nothing, tile_rows=nothing, starts=np.empty(0, dtype=np.int64))
        rows = np.array([record.embedding for record in records[:kept]], dtype=np.float32)
        tiled = any(record.tile_embeddings is not None for record in records[:kept])
        tile_rows = np.concatenate(tiles[:kept], dtype=np.float32) if tiled else rows
        return cls(rows=rows, tile_rows=tile_rows, starts=counts[:kept].cumsum() - counts[:kept])

    def __len__(self) -> int:
        """N, the number of records."""
        return len(self.starts)

    def cosines(self, queries: FloatArray, *, tiles: bool) -> FloatArray:
        """The scores of the records for unit vectors (B, E): (B, N); with tiles, those of the nearest tiles."""
        if not len(self):
            return np.empty((len(queries), 0), dtype=np.float32)
        if not tiles:
            return np.asarray(queries @ self.rows.T)
        cosines: FloatArray = np.maximum.reduceat(queries @ self.tile_rows.T, self.starts, axis=1)
        return cosines


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """A sample of each modality, and reference texts.

    Attributes:
        by_modality: the samples.
        reference: (R, E) vectors of `REFERENCE_TEXTS`; (0, 0) if they are not needed or cannot be made.
    """

    by_modality: Mapping[Modality, Sample]
    reference: FloatArray
    _of_any_text: dict[bool, Scale | None] = field(default_factory=dict)

    def scales(self, query: FloatArray, *, tiles: bool) -> dict[Modality, Scale]:
        """The scale of each modality for a query.

        Args:
            query: (E,) float32 of any length.
            tiles: whether the scores are those of the nearest tiles.
        """
        unit = (query / np.linalg.norm(query))[None]  # (1, E)
        own = {modality: sample.cosines(unit, tiles=tiles)[0] for modality, sample in self.by_modality.items()}
        references = _scale((self.reference @ unit[0]) if len(self.reference) else np.empty(0, dtype=np.float32))
        priors: dict[Modality, Scale | None] = {"text": references, "image": self._any_text_with_images(tiles=tiles)}
        return {
            modality: _combine(cosines, prior=priors[modality], other=own[_other(modality)])
            for modality, cosines in own.items()
        }

    def _any_text_with_images(self, *, tiles: bool) -> Scale | None:
        """The cosines of the images with texts that stand for any query; computed once."""
        if tiles not in self._of_any_text:
            images, texts = self.by_modality["image"], self.by_modality["text"]
            some = [rows for rows in (self.reference, texts.rows[:_FEW]) if len(rows)]
            few = bool(some) and 0 < len(images) < _FEW
            self._of_any_text[tiles] = _scale(images.cosines(np.concatenate(some), tiles=tiles)) if few else None
        return self._of_any_text[tiles]


class SampleCache:
    """The samples of one collection: taken when they are first needed, and again when the collection has changed."""

    def __init__(self, *, embeds_texts: bool) -> None:
        """Nothing is read yet; `embeds_texts` says whether the host's embedder has `embed_texts`."""
        self._embeds_texts = embeds_texts
        self._lock = threading.Lock()  # of the counters; `_samples` is replaced as a whole
        self._samples: Samples | None = None
        self._reference: FloatArray | None = None
        self._written = 0  # records, since the collection was opened
        self._due = 0  # the value of `_written` at which the samples are taken again
        self._taken_s = 0.0

    def note_written(self, count: int) -> None:
        """Count records that were written."""
        with self._lock:
            self._written += count

    def note_deleted(self, ids: Sequence[str] | None) -> None:
        """Count records that were deleted by id; after a delete by filter the samples are taken again."""
        if ids is None:
            self._samples = None
        else:
            self.note_written(len(ids))

    def samples(self) -> Flow[Samples]:
        """The samples, for a query that has found records of both modalities."""
        kept = self._samples
        if kept is not None and not self._is_stale(kept):
            return kept
        with self._lock:
            written = self._written
        found: list[list[Record]] = yield lambda host: host.sample_each(MODALITIES, SAMPLE_RECORDS)
        by_modality = {modality: Sample.of(records) for modality, records in zip(MODALITIES, found, strict=True)}
        nothing = np.empty((0, 0), dtype=np.float32)
        reference = (yield from self._embed_reference()) if len(by_modality["text"]) < _FEW else nothing
        made = Samples(by_modality=by_modality, reference=reference)
        whole = [len(sample) for sample in by_modality.values() if len(sample) < SAMPLE_RECORDS]
        # A sample that is all of its modality follows it closely; a full one until the collection has doubled.
        patience = max(1, min(whole) // 4) if whole else max(SAMPLE_RECORDS, written)
        with self._lock:
            self._due = written + patience
            self._taken_s = time.monotonic()
        self._samples = made
        return made

    def _is_stale(self, kept: Samples) -> bool:
        missing = not all(len(sample) for sample in kept.by_modality.values())
        with self._lock:
            return missing or self._written >= self._due or time.monotonic() - self._taken_s > _MAX_AGE_S

    def _embed_reference(self) -> Flow[FloatArray]:
        if self._reference is None and self._embeds_texts:
            rows = yield lambda host: host.embedder.embed_texts(list(REFERENCE_TEXTS))
            array = np.asarray(rows, dtype=np.float32)  # (R, E)
            self._reference = array / np.linalg.norm(array, axis=1, keepdims=True)
        return np.empty((0, 0), dtype=np.float32) if self._reference is None else self._reference


def _other(modality: Modality) -> Modality:
    return "text" if modality == "image" else "image"


def _scale(cosines: FloatArray) -> Scale | None:
    return Scale(mean=float(cosines.mean()), deviation=float(cosines.std())) if cosines.size else None


def _combine(cosines: FloatArray, *, prior: Scale | None, other: FloatArray) -> Scale:
    """The scale of some cosines (N,); of few cosines, together with `prior`, or the deviation of the other modality."""
    count, unknown = len(cosines), max(0.0, 1 - len(cosines) / _FEW)
    weight = _PRIOR_WEIGHT * unknown
    own = _scale(cosines)
    if prior is None:
        prior = Scale(mean=0.0 if own is None else own.mean, deviation=float(other.std()) if len(other) else 0.0)
    if own is None:
        own = prior
    mean = (count * own.mean + weight * prior.mean) / (count + weight)
    # The two means may differ for a good reason, all records of a few being related to the query, so the distance
    # between them is not part of the deviation.
    variance = (count * own.deviation**2 + weight * prior.deviation**2) / (count + weight)
    deviation = float(np.sqrt(variance)) * (1 + _CAUTION * unknown)
    return Scale(mean=mean, deviation=max(_LEAST_DEVIATION, deviation))
