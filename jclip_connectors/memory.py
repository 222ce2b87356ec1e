"""A store in memory with exact search: the reference that every other store must agree with."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from core_encoder.tiling import Box
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.filters import And, matches, parse_filter
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit
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

__all__ = ["InMemoryStore"]

_Result = TypeVar("_Result")


class InMemoryStore:
    """The reference `VectorStore`: a dict with exact search in numpy; its records are lost when the process ends."""

    def __init__(self, config: EmbeddingConfig) -> None:
        """Make an empty collection for the vectors of `config`."""
        check_config(config)
        self._fingerprint = config.fingerprint()
        self._dimensions = config.embedding_dim
        self._tiled = config.tiling is not None
        self._records: dict[str, Record] = {}

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
        hits = [_hit(record, query, tiles=tiles) for record in self._matching(where, modality)]
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
        self._matching(where, modality)
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

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        return len(self._matching(where, modality))

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """Iterate over the matching records."""
        return (_copy(record, vectors=vectors) for record in self._matching(where, modality))

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[str]:
        """Iterate over the ids of the matching records."""
        return (record.record_id for record in self._matching(where, modality))

    def close(self) -> None:
        """Do nothing: the records exist as long as the store."""

    def _matching(self, where: Filter | None, modality: Modality | None) -> list[Record]:
        check_modality(modality)
        node: And = parse_filter(where)
        return [
            record
            for record in list(self._records.values())  # a copy: another thread may be writing
            if modality in (None, record.modality) and matches(node, record.metadata)
        ]


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
