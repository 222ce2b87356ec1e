"""The embedded store: Qdrant's own engine in this process, with one folder per collection.

The engine (qdrant-edge-py 0.9) stores NaN and keeps the first part of a batch that fails in the middle, so the whole
batch is checked before it is passed to the engine. The engine has a write-ahead log: after `upsert` has returned, its
records survive a killed process. Every call holds the GIL. See `shard` for the files and `optimize` for the index.
"""

import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import qdrant_edge as qdrant

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.edge.locks import folder_lock, shard_lock
from jclip_connectors.edge.requests import nearest, point_bytes, read_hit, reader, stages, to_condition
from jclip_connectors.edge.shard import (
    DAMAGED,
    check_folder,
    check_room,
    create_vectors,
    engine_errors,
    load_copy,
    open_shard,
)
from jclip_connectors.edge.sidecar import SIDECAR_NAME, Sidecar, read_sidecar, write_sidecar
from jclip_connectors.edge.snapshot import copied_shard
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.filters import parse_filter
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, Verification, record_uuid
from jclip_connectors.store_kit.clients import check_config, check_path
from jclip_connectors.store_kit.coarse import (
    CANDIDATES,
    CoarseDimensions,
    count_at_once,
    count_candidates,
    resolve_coarse,
)
from jclip_connectors.store_kit.payload import to_payload
from jclip_connectors.store_kit.validation import (
    check_count,
    check_delete,
    check_embedding,
    check_embeddings,
    check_fingerprint,
    check_ids,
    check_modality,
    check_records,
    check_tiles,
)
from jclip_connectors.store_kit.verification import verify_in_process

_SCROLL_SIZE, _IDS_SIZE = 256, 4096
# Only filters need the other fields.
_STORED = qdrant.PayloadSelector.Exclude(["terms", "numbers"])
_WRITTEN = 3  # how much room a point takes for each of its bytes: in the log, in its place, in the index of terms
_ID = qdrant.PayloadSelector.Include(["record_id"])


class QdrantEdgeStore:
    """A `VectorStore` in a folder, through Qdrant's engine; use `open`.

    With tiling, the tiles of a record are stored as a multivector (MaxSim). Search is exact in a collection of up to
    `candidates` records. In a larger one, a short prefix of the vectors selects candidates, the full vectors rescore
    them, and the tiles of the best ones are compared. A collection without `coarse_dimensions` is searched exactly
    until `optimize_collection` has made its index.
    """

    def __init__(
        self,
        folder: Path,
        shard: qdrant.EdgeShard,
        sidecar: Sidecar,
        held: ExitStack,
        *,
        tiled: bool,
        candidates: int,
        read_only: bool,
    ) -> None:
        """Use an open shard, and `held`, which is closed with it; call `open` instead."""
        self._folder = folder
        self._opened = shard
        self._process = os.getpid()
        self._sidecar = sidecar
        self._tiled = tiled
        self._candidates = candidates
        self._held = held
        self._read_only = read_only
        self._lock = threading.Lock()  # concurrent first batches must agree on the length of the vectors
        self._changes = threading.Lock()  # a lock on a folder excludes other processes, not other threads

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: EmbeddingConfig,
        *,
        coarse_dimensions: CoarseDimensions = "auto",
        candidates: int = CANDIDATES,
        read_only: bool = False,
    ) -> Self:
        """Open or create the collection in the folder `path`.

        Args:
            path: the folder of a collection, an empty folder, or a new folder.
            config: the configuration of the vectors.
            coarse_dimensions: length of the prefix of the vectors that is searched first in a large collection: faster,
                but correct only for models trained for prefixes. "auto" keeps the setting of an existing collection;
                for a new one it is 64 if the model was trained for prefixes and the vectors have more than 128 values,
                else no prefix. `None` is no prefix.
            candidates: the smallest number of records that each stage of a search passes to the next one: more is
                slower and more exact.
            read_only: read the collection as it is now, from a private copy of its files in the folder of temporary
                files. The collection may be open elsewhere and change there, and its disk may be read-only or full.
                Any number of processes can read.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreUnavailableError: the collection is open elsewhere, or a disk is full.
            StoreRequestError: the folder contains other files, or damaged files, or nothing to read.
            EmbedInputError: a bad argument, or the collection was made with other `coarse_dimensions`.
        """
        check_path(path)
        check_config(config)
        folder = Path(path)
        fingerprint = config.fingerprint()
        coarse = resolve_coarse(coarse_dimensions, config)
        check_count(candidates, name="candidates")
        check_folder(folder)
        with ExitStack() as held, engine_errors(folder):
            if read_only:
                shard = load_copy(held.enter_context(copied_shard(folder)))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(folder_lock(folder))
                shard = open_shard(folder)
            held.callback(shard.close)
            # No other process can make or change the collection now, or it does not matter.
            sidecar = read_sidecar(folder)
            if sidecar is None:
                if read_only or shard.info().points_count:
                    raise StoreRequestError(f"{str(folder)!r} has records but no {SIDECAR_NAME}: {DAMAGED}")
                sidecar = Sidecar(fingerprint=fingerprint, dimensions=None, coarse_dimensions=coarse)
            check_fingerprint(sidecar.fingerprint, fingerprint, collection=f"the collection in {str(folder)!r}")
            if coarse_dimensions not in ("auto", sidecar.coarse_dimensions):
                raise EmbedInputError(
                    f"`coarse_dimensions` is {coarse_dimensions!r}, but {str(folder)!r} was made with "
                    f"{sidecar.coarse_dimensions!r}: leave it out, or make a new collection"
                )
            tiled = config.tiling is not None
            store = cls(folder, shard, sidecar, held, tiled=tiled, candidates=candidates, read_only=read_only)
            if not read_only:
                store._prepare(sidecar.dimensions if sidecar.dimensions is not None else config.embedding_dim)
            store._held = held.pop_all()
        return store

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._sidecar.fingerprint

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, replacing those with the same id; after the return they survive a killed process."""
        self._check_writable()  # before the lock, which a thread of another process may hold for ever
        with self._lock:
            checked = check_records(records, dimensions=self._sidecar.dimensions, tiled=self._tiled)
            if not checked:
                return
            if self._sidecar.dimensions is None:
                with engine_errors(self._folder):
                    self._prepare(checked[0].embedding.shape[0])
        points = [self._point(record) for record in checked]
        with engine_errors(self._folder):
            check_room(self._folder, _WRITTEN * sum(map(point_bytes, points)))
            self._change(qdrant.UpdateOperation.upsert_points(points))

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
        query = check_embedding(embedding, dimensions=self._sidecar.dimensions)
        (hits,) = self._search([query], limit=limit, where=where, modality=modality, tiles=tiles)
        return hits

    def search_many(
        self,
        embeddings: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for each row of `embeddings` (B, E), many rows in one call of the engine: B lists, in order."""
        queries = check_embeddings(embeddings, dimensions=self._sidecar.dimensions)
        return self._search(list(queries), limit=limit, where=where, modality=modality, tiles=tiles)

    def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        wanted = check_ids(ids)
        with engine_errors(self._folder):
            keys: list[Any] = [record_uuid(record_id) for record_id in wanted]
            points = self._shard.retrieve(keys, _STORED, vectors)
        found = {record.record_id: record for record in map(reader(vectors=vectors), points)}
        return [found[record_id] for record_id in wanted if record_id in found]

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one."""
        check_delete(ids, where)
        self._check_writable()
        with engine_errors(self._folder):
            check_room(self._folder, 0)
            if ids is None:
                operation = qdrant.UpdateOperation.delete_points_by_filter(self._condition(where, None))
            else:
                points: list[Any] = [record_uuid(record_id) for record_id in check_ids(ids)]
                operation = qdrant.UpdateOperation.delete_points(points)
            self._change(operation)

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        with engine_errors(self._folder):
            return self._shard.count(qdrant.CountRequest(exact=True, filter=self._condition(where, modality)))

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """Iterate over the matching records, with 256 in memory at a time."""
        with engine_errors(self._folder):
            condition = self._condition(where, modality)
        points = self._scroll(condition, size=_SCROLL_SIZE, with_payload=_STORED, with_vector=vectors)
        return map(reader(vectors=vectors), points)

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[str]:
        """Iterate over the ids of the matching records, with 4096 in memory at a time."""
        with engine_errors(self._folder):
            condition = self._condition(where, modality)
        points = self._scroll(condition, size=_IDS_SIZE, with_payload=_ID, with_vector=False)
        return ((point.payload or {})["record_id"] for point in points)

    def verify(self, *, repair: bool = False) -> Verification:
        """Search for each record by its own vectors; with `repair`, write those again that are not found."""
        return verify_in_process(self, repair=repair)

    def close(self) -> None:
        """Write everything to disk and unlock the folder."""
        if self._process != os.getpid():
            return  # the process that opened the store closes it
        with engine_errors(self._folder):
            if self._read_only:
                self._held.close()
                return
            with self._changes, shard_lock(self._folder):
                self._shard.close()
            self._held.close()

    def __enter__(self) -> Self:
        """Use the store as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    @property
    def _shard(self) -> qdrant.EdgeShard:
        """The open shard.

        Raises:
            StoreRequestError: this process was forked from the one that opened the store. The engine's threads do not
                exist here, so a search would never end, and a write would damage the files of the other process.
        """
        if self._process != os.getpid():
            raise StoreRequestError(
                f"{str(self._folder)!r} was opened before this process was forked: close the store before the fork, "
                "and open it in the process that uses it"
            )
        return self._opened

    def _prepare(self, dimensions: int | None) -> None:
        """Set the length of the vectors, in the sidecar and then in the engine; a second call changes nothing."""
        coarse = self._sidecar.coarse_dimensions
        if dimensions is not None and coarse is not None and not 0 < coarse < dimensions:
            raise EmbedInputError(f"`coarse_dimensions` is {coarse!r}; use an int from 1 to {dimensions - 1}")
        self._sidecar = dataclasses.replace(self._sidecar, dimensions=dimensions)
        write_sidecar(self._folder, self._sidecar)
        if dimensions is None:
            return  # the first record sets the length
        with self._changes, shard_lock(self._folder):
            create_vectors(self._shard, self._sidecar)
            for field in ("modality", "terms"):
                keyword = qdrant.PayloadSchemaType.Keyword
                self._shard.update(qdrant.UpdateOperation.create_field_index(field, keyword))

    def _change(self, operation: qdrant.UpdateOperation) -> None:
        """Change the files of the engine, while no reader copies them."""
        with self._changes, shard_lock(self._folder):
            self._shard.update(operation)

    def _check_writable(self) -> None:
        _ = self._shard  # refused in a process that was forked
        if self._read_only:
            raise StoreRequestError(
                f"{str(self._folder)!r} is open with `read_only=True`: open it without, to change it"
            )

    def _condition(self, where: Filter | None, modality: Modality | None) -> qdrant.Filter:
        check_modality(modality)
        return to_condition(parse_filter(where), modality)

    def _search(
        self, queries: Sequence[FloatArray], *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[list[SearchHit]]:
        check_count(limit, name="limit")
        check_tiles(tiles, tiled=self._tiled)
        with engine_errors(self._folder):
            condition = self._condition(where, modality)
            size = self._shard.info().points_count
            if not size:
                return [[] for _ in queries]
            limit = min(limit, size)
            requests = [
                qdrant.QueryRequest(
                    query=nearest(query, tiles=tiles),
                    filter=condition,
                    prefetches=self._stages(query, condition, tiles=tiles, limit=limit, size=size),
                    # A small collection is searched exactly, also if it has an index.
                    params=qdrant.SearchParams(exact=size <= self._candidates),
                    limit=limit,
                    with_payload=_STORED,
                    with_vector=["tiles"] if tiles else False,
                )
                for query in queries
            ]
            at_once = count_at_once(limit, tiles=tiles)
            found = [
                points
                for start in range(0, len(requests), at_once)
                for points in self._shard.query_batch(qdrant.QueryBatchRequest(requests[start : start + at_once]))
            ]
        return [
            sorted(
                (read_hit(point, query, tiles=tiles) for point in points), key=lambda hit: (-hit.score, hit.record_id)
            )
            for query, points in zip(queries, found, strict=True)
        ]

    def _stages(
        self, query: FloatArray, condition: qdrant.Filter, *, tiles: bool, limit: int, size: int
    ) -> list[qdrant.Prefetch]:
        """The stages before the last one; empty if the search is exact."""
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
            # In a search over tiles, the embedding represents a record without tiles.
            tiles = record.tile_embeddings
            vectors["tiles"] = record.embedding[None] if tiles is None else tiles
        return qdrant.Point(id=record_uuid(record.record_id), vector=vectors, payload=to_payload(record))

    def _scroll(self, condition: qdrant.Filter, *, size: int, **wanted: Any) -> Iterator[qdrant.Record]:  # noqa: ANN401 (options of the engine)
        offset: Any = None
        while True:
            with engine_errors(self._folder):
                points, offset = self._shard.scroll(
                    qdrant.ScrollRequest(offset=offset, limit=size, filter=condition, **wanted)
                )
            yield from points
            if offset is None:
                return
