"""The operations of Haystack's document store, as flows for blocking and asyncio stores.

The calls of a flow are made on a host of `jclip_connectors.collection`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from jclip_connectors.collection.searching import modalities_of
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.haystack.documents import Conversion, checked_metadata, to_document, updated
from jclip_connectors.haystack.filters import to_filter
from jclip_connectors.haystack.fusion import in_one_order
from jclip_connectors.haystack.hidden import UNEMBEDDED
from jclip_connectors.haystack.tiles import TileMaker
from jclip_connectors.port import FloatArray, Modality, Record, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_embedding, check_ids

_BATCH = 256  # records that are changed at a time
_NAMED = 5  # ids in a message


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations behind the methods of `JinaClipDocumentStore`; see there.

    Attributes:
        conversion: how documents become records.
        tiled: whether the collection has tiles.
        tile_maker: makes the tiles of images that are written, or `None`.
    """

    conversion: Conversion
    tiled: bool
    tile_maker: TileMaker | None

    def write(self, documents: object, policy: object) -> Flow[int]:
        """Write documents."""
        if not isinstance(documents, list):
            raise EmbedInputError(f"`documents` is {type(documents).__name__}, not a list of documents")
        if not isinstance(policy, DuplicatePolicy):
            raise EmbedInputError(f"`policy` is {policy!r}; use one of {', '.join(map(str, DuplicatePolicy))}")
        given = list(documents)
        records: list[Record] = yield lambda host: host.work(lambda: self._records(given))
        positions = yield from _chosen(records, policy)
        chosen = [records[at] for at in positions]
        if self.tiled:
            chosen = yield from _with_tiles(chosen, given, positions, self.tile_maker)
        if chosen:
            try:
                yield lambda host: host.store.upsert(chosen)
            except PartialFailureError as error:
                raise _by_document(error, positions, chosen) from error
        return len(chosen)

    def _records(self, documents: Sequence[object]) -> list[Record]:
        return [self.conversion.to_record(document, position=at) for at, document in enumerate(documents)]

    def filter(self, filters: object) -> Flow[list[Document]]:
        """The matching documents, with their vectors."""
        where = to_filter(filters)
        records: list[Record] = yield lambda host: host.records(where=where)
        return (yield from _documents(records))

    def get(self, document_ids: Sequence[str]) -> Flow[list[Document]]:
        """Documents by id, with their vectors."""
        ids = check_ids(document_ids)
        records: list[Record] = yield lambda host: host.store.get(ids)
        return (yield from _documents(records))

    def count(self, filters: object) -> Flow[int]:
        """The number of matching documents."""
        where = to_filter(filters)
        count: int = yield lambda host: host.store.count(where=where)
        return count

    def delete(self, document_ids: Sequence[str]) -> Flow[None]:
        """Delete documents by id."""
        ids = check_ids(document_ids)
        yield lambda host: host.store.delete(ids)

    def delete_where(self, filters: object) -> Flow[int]:
        """Delete the matching documents; how many matched before."""
        where = to_filter(filters)
        count: int = yield lambda host: host.store.count(where=where)
        if count:
            yield lambda host: host.store.delete(where=where)
        return count

    def update_where(self, filters: object, meta: object) -> Flow[int]:
        """Change the metadata of the matching documents; how many were changed."""
        where, changes = to_filter(filters), checked_metadata(meta, name="`meta`")
        matching: list[Record] = yield lambda host: host.records(where=where, vectors=False)
        count = 0
        for start in range(0, len(matching), _BATCH):
            ids = [record.record_id for record in matching[start : start + _BATCH]]
            records: list[Record] = yield functools.partial(_get, ids)
            changed = [dataclasses.replace(record, **updated(record, changes)) for record in records]
            yield functools.partial(_upsert, changed)
            count += len(changed)
        return count

    def search(
        self, query_embedding: object, filters: object, *, top_k: int, modality: Modality | None, tiles: bool | None
    ) -> Flow[list[Document]]:
        """The nearest documents, with their scores."""
        check_count(top_k, name="top_k")
        vector = check_embedding(query_embedding, dimensions=None, name="`query_embedding`")
        where, modalities = to_filter(filters), modalities_of(modality)
        options: dict[str, Any] = {"limit": top_k, "tiles": self.tiled if tiles is None else tiles}
        embedded: Mapping[str, Any] = {UNEMBEDDED: {"exists": False}}
        found: list[list[list[SearchHit]]] = []
        # Few collections have documents without a vector: only where one is found is the search made without them.
        for condition in (where, {"and": [where, embedded]}):
            found = yield functools.partial(
                _search_each, vector[np.newaxis], modalities, {**options, "where": condition}
            )
            if not any(UNEMBEDDED in hit.metadata for ranked in found for hits in ranked for hit in hits):
                break
        ranked = in_one_order([hits for (hits,) in found], limit=top_k)
        return [to_document(hit, score=score) for hit, score in ranked]


def _get(ids: Sequence[str], host: Any) -> Any:  # noqa: ANN401 (blocking or asyncio)
    return host.store.get(ids)


def _upsert(records: Sequence[Record], host: Any) -> Any:  # noqa: ANN401 (blocking or asyncio)
    return host.store.upsert(records)


def _search_each(
    embeddings: FloatArray,
    modalities: Sequence[Modality],
    options: Mapping[str, Any],
    host: Any,  # noqa: ANN401 (blocking or asyncio)
) -> Any:  # noqa: ANN401 (results, or an awaitable)
    return host.search_each(embeddings, modalities, **options)


def _documents(records: Sequence[Record]) -> Flow[list[Document]]:
    documents: list[Document] = yield lambda host: host.work(lambda: [to_document(record) for record in records])
    return documents


def _chosen(records: Sequence[Record], policy: DuplicatePolicy) -> Flow[list[int]]:
    """The positions of the records to write."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, record in enumerate(records):
        first.setdefault(record.record_id, at)
        last[record.record_id] = at
    if policy is DuplicatePolicy.OVERWRITE:
        return sorted(last.values())
    if policy is not DuplicatePolicy.SKIP and len(first) < len(records):
        twice = [record.record_id for at, record in enumerate(records) if first[record.record_id] != at]
        raise DuplicateDocumentError(f"nothing was written: given twice are the ids {_named(twice)}")
    stored: list[Record] = (yield lambda host: host.store.get(list(first), vectors=False)) if first else []
    known = {record.record_id for record in stored}
    if known and policy is not DuplicatePolicy.SKIP:
        raise DuplicateDocumentError(
            f"nothing was written: there are documents with the ids {_named(sorted(known))}; write with the policy "
            "DuplicatePolicy.OVERWRITE or SKIP"
        )
    return [at for record_id, at in first.items() if record_id not in known]


def _with_tiles(
    records: Sequence[Record], documents: Sequence[Document], positions: Sequence[int], maker: TileMaker | None
) -> Flow[list[Record]]:
    """The records, with the tiles of images."""
    images = [at for at, record in enumerate(records) if record.modality == "image"]
    if not images:
        return list(records)
    if maker is None:
        raise EmbedInputError(
            "nothing was written: this collection stores the tiles of images, so give the document store an "
            "`image_embedder` to make them"
        )
    chosen = {at: documents[positions[at]] for at in images}
    tiles = yield from maker.tiles(chosen)
    return [
        dataclasses.replace(record, tile_embeddings=tiles[at].vectors, tile_boxes=tiles[at].boxes)
        if at in tiles
        else record
        for at, record in enumerate(records)
    ]


def _by_document(
    error: PartialFailureError, positions: Sequence[int], records: Sequence[Record]
) -> PartialFailureError:
    """A failure of the store by the positions of the documents."""
    failed = {positions[at]: reason for at, reason in error.failed.items()}
    kept = {positions[at]: records[at].record_id for at in error.kept}
    return PartialFailureError("documents", failed=failed, kept=kept)


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{', '.join(map(repr, ids[:_NAMED]))}{more}"
