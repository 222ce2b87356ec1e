"""A store in memory with exact search: the reference that every other store must agree with."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core_encoder.tiling import Box
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.filters import And, matches, parse_filter
from jclip_connectors.port import (
    Filter,
    FloatArray,
    IntArray,
    Modality,
    Record,
    SearchHit,
    Verification,
    record_uuid,
)
from jclip_connectors.store_kit.clients import check_config
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_embeddings,
    check_ids,
    check_modality,
    check_records,
    check_tiles,
)
from jclip_connectors.store_kit.verification import verify_in_process

__all__ = ["InMemoryStore"]

_ROUNDING = 1e-5  # more than two sums of one product can differ


class InMemoryStore:
    """The reference `VectorStore`: a dict with exact search in numpy; its records are lost when the process ends.

    A search keeps all vectors in one array, until the next write: 20,000 records are searched in milliseconds.
    """

    def __init__(self, config: EmbeddingConfig) -> None:
        """Make an empty collection for the vectors of `config`."""
        check_config(config)
        self._fingerprint = config.fingerprint()
        self._dimensions = config.embedding_dim
        self._tiled = config.tiling is not None
        self._records: dict[str, Record] = {}
        self._version = 0  # of the records; each write counts
        self._matrix: _Matrix | None = None

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._fingerprint

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records; a record replaces the stored record with the same id."""
        checked = check_records(records, dimensions=self._dimensions, tiled=self._tiled)
        for record in checked:
            self._dimensions = record.embedding.shape[0]
            self._records[record.record_id] = record
        self._version += 1

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties are in the order of ids."""
        query = check_embedding(embedding, dimensions=self._dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        node = _parse(where, modality)
        hits = [_hit(record, query, tiles=tiles) for record in self._nearest(query, node, modality, limit, tiles=tiles)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))[:limit]

    def search_many(
        self,
        embeddings: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for each row of `embeddings` (B, E): B lists of results, in order."""
        queries = check_embeddings(embeddings, dimensions=self._dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        _parse(where, modality)
        return [self.search(query, limit=limit, where=where, modality=modality, tiles=tiles) for query in queries]

    def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        found = [self._records[record_id] for record_id in check_ids(ids) if record_id in self._records]
        return [_copy(record, vectors=vectors) for record in found]

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one."""
        check_delete(ids, where)
        doomed = [record.record_id for record in self._matching(where, None)] if ids is None else check_ids(ids)
        for record_id in doomed:
            self._records.pop(record_id, None)
        self._version += 1

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        return len(self._matching(where, modality))

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """Iterate over the matching records, in the order of `record_uuid`."""
        found = sorted(self._matching(where, modality), key=lambda record: record_uuid(record.record_id))
        return (_copy(record, vectors=vectors) for record in found)

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[str]:
        """Iterate over the ids of the matching records."""
        return (record.record_id for record in self._matching(where, modality))

    def verify(self, *, repair: bool = False) -> Verification:
        """Search for each record by its own vectors."""
        return verify_in_process(self, repair=repair)

    def close(self) -> None:
        """Do nothing: the records exist as long as the store."""

    def _matching(self, where: Filter | None, modality: Modality | None) -> list[Record]:
        node = _parse(where, modality)
        records = list(self._records.values())  # a copy: another thread may be writing
        return [record for record in records if _is_wanted(record, node, modality)]

    def _nearest(
        self, query: FloatArray, node: And, modality: Modality | None, limit: int, *, tiles: bool
    ) -> list[Record]:
        """The `limit` matching records that are nearest, and those that rounding could put among them."""
        matrix = self._matrix
        if matrix is None or matrix.version != self._version or (tiles and matrix.tiles is None):
            version = self._version  # before the records: a write in another thread makes the matrix old
            matrix = self._matrix = _Matrix.of(list(self._records.values()), version, tiles=tiles)
        records = matrix.records
        if not records:
            return []
        scores = matrix.scores(query, tiles=tiles)  # (N,)
        if node.nodes or modality is not None:
            wanted = np.array([_is_wanted(record, node, modality) for record in records])
            scores = np.where(wanted, scores, -np.inf)
        if limit < len(records):
            last = np.partition(scores, -limit)[-limit]
            chosen = np.flatnonzero((scores >= last - _ROUNDING) & (scores > -np.inf))
        else:
            chosen = np.flatnonzero(scores > -np.inf)
        return [records[position] for position in chosen]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Matrix:
    """The vectors of all records in one array.

    Attributes:
        version: the version of the records.
        records: N records.
        rows: (N, E), their embeddings.
        tiles: (M, E), all tiles, in the order of the records; of a record without tiles, its embedding. `None` if no
            search over tiles has needed them.
        starts: (N,), the first row of each record in `tiles`.
    """

    version: int
    records: list[Record]
    rows: FloatArray
    tiles: FloatArray | None
    starts: IntArray

    @classmethod
    def of(cls, records: list[Record], version: int, *, tiles: bool) -> "_Matrix":
        rows = np.stack([record.embedding for record in records]) if records else np.empty((0, 0), np.float32)
        groups = [
            record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings for record in records
        ]
        starts = np.cumsum([0, *map(len, groups)], dtype=np.int64)[:-1]
        tile_rows = np.concatenate(groups) if tiles and groups else None
        return cls(version=version, records=records, rows=rows, tiles=tile_rows, starts=starts)

    def scores(self, query: FloatArray, *, tiles: bool) -> FloatArray:
        """The cosine of each record, or of its nearest tile: (N,)."""
        if not tiles or self.tiles is None:
            return np.asarray(self.rows @ query)
        return np.asarray(np.maximum.reduceat(self.tiles @ query, self.starts))


def _parse(where: Filter | None, modality: Modality | None) -> And:
    check_modality(modality)
    return parse_filter(where)


def _is_wanted(record: Record, node: And, modality: Modality | None) -> bool:
    return modality in (None, record.modality) and matches(node, record.metadata)


def _hit(record: Record, query: FloatArray, *, tiles: bool) -> SearchHit:
    score, box = float(record.embedding @ query), None
    if tiles and record.tile_embeddings is not None and record.tile_boxes is not None:
        cosines = record.tile_embeddings @ query  # (T,)
        nearest = int(cosines.argmax())
        score, box = float(cosines[nearest]), Box(*record.tile_boxes[nearest].tolist())
    return SearchHit(
        score=score,
        record_id=record.record_id,
        modality=record.modality,
        metadata=copy.deepcopy(record.metadata),
        box=box,
        content=record.content,
        uri=record.uri,
        content_hash=record.content_hash,
    )


def _copy(record: Record, *, vectors: bool) -> Record:
    metadata = copy.deepcopy(record.metadata)
    if vectors:
        return dataclasses.replace(record, metadata=metadata)
    nothing = np.empty(0, dtype=np.float32)
    return dataclasses.replace(record, metadata=metadata, embedding=nothing, tile_embeddings=None, tile_boxes=None)
