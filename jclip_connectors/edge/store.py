"""The embedded default: Qdrant's own engine in this process, one folder a collection.

The engine (qdrant-edge-py 0.9) stores NaN and keeps the head of a batch that fails in the middle: so a batch is checked
as a whole before the engine sees it. It has a write-ahead log: what `upsert` has returned from survives a killed
process. Every call holds the GIL. The files are the matter of `edge_shard`, their index that of `edge_optimize`.
"""

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import qdrant_edge as qdrant

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.edge.requests import nearest, stages, to_condition
from jclip_connectors.edge.shard import DAMAGED, check_folder, create_vectors, engine_errors, open_shard
from jclip_connectors.edge.sidecar import SIDECAR_NAME, Sidecar, read_sidecar, write_sidecar
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.filters import compared_fields, parse_filter
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, record_uuid
from jclip_connectors.store_kit.coarse import (
    CANDIDATES,
    CoarseDimensions,
    count_candidates,
    resolve_coarse,
)
from jclip_connectors.store_kit.payload import nearest_box, number_path, to_hit, to_payload, to_record
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_fingerprint,
    check_ids,
    check_modality,
    check_records,
    check_tiles,
)

_SCROLL_SIZE = 256


class QdrantEdgeStore:
    """A `VectorStore` in a folder, through Qdrant's engine; `open` makes one.

    A collection with tiling keeps each record's tiles as a multivector (MaxSim) too. Search is exact in a collection of
    no more than `candidates` records. In a larger one a short prefix of the vectors chooses the records that are
    compared in full, and those the records whose tiles are; one made without `coarse_dimensions` is searched exactly
    all the same until `edge_optimize` has made an index of it.
    """

    def __init__(
        self, folder: Path, shard: qdrant.EdgeShard, sidecar: Sidecar, *, tiled: bool, candidates: int
    ) -> None:
        """Take over an open shard; call `open` instead."""
        self._folder = folder
        self._shard = shard
        self._sidecar = sidecar
        self._tiled = tiled
        self._candidates = candidates
        self._indexed: set[str] = set()
        self._lock = threading.Lock()  # two first batches must agree on the length of the vectors

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: EmbeddingConfig,
        *,
        coarse_dimensions: CoarseDimensions = "auto",
        candidates: int = CANDIDATES,
    ) -> Self:
        """Open the collection in the folder `path`, or make one there.

        Args:
            path: the folder of a collection, an empty folder, or none yet.
            config: what the vectors are made with.
            coarse_dimensions: length of the prefix of the vectors that is searched first in a large collection: faster,
                and right only for models trained so that a prefix means something. "auto" is what the collection was
                made with; for a new one 64 where the model was trained so and the vectors have more than 128 values,
                else none. `None` is no such prefix.
            candidates: how many records, at least, each stage of a search leaves to the next one: more make it slower
                and nearer to exact.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreUnavailableError: it is open elsewhere.
            StoreRequestError: the folder holds something else, or damaged files.
            EmbedInputError: the collection was made with other `coarse_dimensions`, or an option is out of range.
        """
        folder = Path(path)
        fingerprint = config.fingerprint()
        coarse = resolve_coarse(coarse_dimensions, config)
        check_count(candidates, name="candidates")
        check_folder(folder)
        with ExitStack() as undo, engine_errors(folder):
            shard = open_shard(folder)
            undo.callback(shard.close)
            # From here on the engine's lock is ours: nobody else makes or changes this collection.
            sidecar = read_sidecar(folder)
            if sidecar is None:
                if shard.info().points_count:
                    raise StoreRequestError(f"{str(folder)!r} has records but no {SIDECAR_NAME}: {DAMAGED}")
                sidecar = Sidecar(fingerprint=fingerprint, dimensions=None, coarse_dimensions=coarse)
            check_fingerprint(sidecar.fingerprint, fingerprint, collection=f"the collection in {str(folder)!r}")
            if coarse_dimensions not in ("auto", sidecar.coarse_dimensions):
                raise EmbedInputError(
                    f"`coarse_dimensions` is {coarse_dimensions!r}, but {str(folder)!r} was made with "
                    f"{sidecar.coarse_dimensions!r}: leave it out, or make a new collection"
                )
            store = cls(folder, shard, sidecar, tiled=config.tiling is not None, candidates=candidates)
            store._prepare(sidecar.dimensions if sidecar.dimensions is not None else config.embedding_dim)
            undo.pop_all()
        return store

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""
        return self._sidecar.fingerprint

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, each in place of the one with its id; what this returns from survives a killed process."""
        with self._lock:
            checked = check_records(records, dimensions=self._sidecar.dimensions, tiled=self._tiled)
            if not checked:
                return
            if self._sidecar.dimensions is None:
                with engine_errors(self._folder):
                    self._prepare(checked[0].embedding.shape[0])
        points = [self._point(record) for record in checked]
        with engine_errors(self._folder):
            self._shard.update(qdrant.UpdateOperation.upsert_points(points))

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties in the order of ids."""
        query = check_embedding(embedding, dimensions=self._sidecar.dimensions)
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        with engine_errors(self._folder):
            condition = self._condition(where, modality)
            size = self._shard.info().points_count
            if not size:
                return []
            limit = min(limit, size)
            found = self._shard.query(
                qdrant.QueryRequest(
                    query=nearest(query, tiles=tiles),
                    filter=condition,
                    prefetches=self._stages(query, condition, tiles=tiles, limit=limit, size=size),
                    # Without a first stage an index would answer: that of a small collection is not asked.
                    params=qdrant.SearchParams(exact=size <= self._candidates),
                    limit=limit,
                    with_payload=True,
                    with_vector=["tiles"] if tiles else False,
                )
            )
        hits = [_hit(point, query, tiles=tiles) for point in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.record_id))

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""
        wanted = check_ids(ids)
        with engine_errors(self._folder):
            points = self._shard.retrieve([record_uuid(record_id) for record_id in wanted], True, True)  # noqa: FBT003 (the engine takes no keywords)
        found = {record.record_id: record for record in map(_record, points)}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter."""
        check_delete(ids, where)
        with engine_errors(self._folder):
            if ids is None:
                operation = qdrant.UpdateOperation.delete_points_by_filter(self._condition(where, None))
            else:
                points: list[Any] = [record_uuid(record_id) for record_id in check_ids(ids)]
                operation = qdrant.UpdateOperation.delete_points(points)
            self._shard.update(operation)

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""
        with engine_errors(self._folder):
            return self._shard.count(qdrant.CountRequest(exact=True, filter=self._condition(where, modality)))

    def scroll(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[Record]:
        """Go through the records that match, 256 in memory at a time."""
        with engine_errors(self._folder):
            return self._scroll(self._condition(where, modality))

    def close(self) -> None:
        """Write everything to disk and let go of the folder."""
        with engine_errors(self._folder):
            self._shard.close()

    def __enter__(self) -> Self:
        """Use the store as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _prepare(self, dimensions: int | None) -> None:
        """Settle the length of the vectors, in the sidecar and then in the engine; a second time changes nothing."""
        coarse = self._sidecar.coarse_dimensions
        if dimensions is not None and coarse is not None and not 0 < coarse < dimensions:
            raise EmbedInputError(f"`coarse_dimensions` is {coarse!r}; use an int from 1 to {dimensions - 1}")
        self._sidecar = dataclasses.replace(self._sidecar, dimensions=dimensions)
        write_sidecar(self._folder, self._sidecar)
        if dimensions is None:
            return  # the first record will tell
        create_vectors(self._shard, self._sidecar)
        for field in ("modality", "terms"):
            self._create_index(field, qdrant.PayloadSchemaType.Keyword)

    def _create_index(self, field: str, kind: qdrant.PayloadSchemaType) -> None:
        if field not in self._indexed:
            self._shard.update(qdrant.UpdateOperation.create_field_index(field, kind))
            self._indexed.add(field)

    def _condition(self, where: Filter | None, modality: Modality | None) -> qdrant.Filter:
        check_modality(modality)
        tree = parse_filter(where)
        for field in compared_fields(tree):
            # The first comparison of a field makes its index: without one each comparison reads every payload.
            self._create_index(number_path(field), qdrant.PayloadSchemaType.Float)
        return to_condition(tree, modality)

    def _stages(
        self, query: FloatArray, condition: qdrant.Filter, *, tiles: bool, limit: int, size: int
    ) -> list[qdrant.Prefetch]:
        """The stages before the last one: none where the search is exact."""
        candidates = count_candidates(self._candidates, limit=limit)
        coarse = self._sidecar.coarse_dimensions
        if coarse is None or candidates >= size:
            return []
        return stages(query, condition, coarse=coarse, tiles=tiles, candidates=candidates)

    def _point(self, record: Record) -> qdrant.Point:
        vectors: dict[str, Any] = {"full": record.embedding}
        if self._sidecar.coarse_dimensions is not None:
            vectors["coarse"] = record.embedding[: self._sidecar.coarse_dimensions]
        if self._tiled:
            # A record without tiles is found by its embedding when tiles are searched.
            tiles = record.tile_embeddings
            vectors["tiles"] = record.embedding[None] if tiles is None else tiles
        return qdrant.Point(id=record_uuid(record.record_id), vector=vectors, payload=to_payload(record))

    def _scroll(self, condition: qdrant.Filter) -> Iterator[Record]:
        request: dict[str, Any] = {
            "limit": _SCROLL_SIZE,
            "filter": condition,
            "with_payload": True,
            "with_vector": True,
        }
        offset: Any = None
        while True:
            with engine_errors(self._folder):
                points, offset = self._shard.scroll(qdrant.ScrollRequest(offset=offset, **request))
            yield from map(_record, points)
            if offset is None:
                return


def _record(point: qdrant.Record) -> Record:
    vectors = cast("dict[str, Any]", point.vector)
    return to_record(point.payload or {}, embedding=vectors["full"], tile_embeddings=vectors.get("tiles"))


def _hit(point: qdrant.ScoredPoint, query: FloatArray, *, tiles: bool) -> SearchHit:
    payload, vectors = point.payload or {}, cast("dict[str, Any]", point.vector)
    box = nearest_box(payload, tile_embeddings=vectors["tiles"], query=query) if tiles else None
    return to_hit(payload, score=point.score, box=box)
