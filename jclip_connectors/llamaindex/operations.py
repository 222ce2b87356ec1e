"""The operations of LlamaIndex's vector store, as flows for blocking and asyncio stores."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from jclip_connectors.collection.diversity import choose_diverse
from jclip_connectors.collection.samples import SampleCache
from jclip_connectors.collection.searching import Query, Request, modalities_of, nearest
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.llamaindex.filters import to_filter
from jclip_connectors.llamaindex.nodes import BOX, NODE_ID, REF_DOC_ID, to_node, to_record, with_tiles
from jclip_connectors.port import Embedder, FloatArray, Modality, Record, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_embedding, check_id, check_ids

_MMR_THRESHOLD, _MMR_PREFETCH = 0.5, 4  # LlamaIndex's defaults
_NOT_ASKED = ("alpha", "sparse_top_k", "hybrid_top_k", "output_fields", "embedding_field")


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations behind the methods of `JinaClipVectorStore`; see there.

    Attributes:
        modality: "text" or "image" to use only texts or only images.
        tiled: whether the store has tiles.
        embedder: embeds the tiles of added images, or `None`.
        samples: samples of the store's records.
    """

    modality: Modality | None
    tiled: bool
    embedder: Embedder | None
    samples: SampleCache

    def add(self, nodes: Sequence[BaseNode], kwargs: Mapping[str, Any]) -> Flow[list[str]]:
        """Write nodes with embeddings."""
        _refuse(kwargs)
        given: object = nodes
        if isinstance(given, BaseNode):
            raise EmbedInputError("`nodes` is one node; write [node]")
        records: list[Record] = yield lambda host: host.work(lambda: self._records(nodes))
        yield lambda host: host.store.upsert(records)
        self.samples.note_written(len(records))
        return [node.node_id for node in nodes]

    def query(
        self,
        query: VectorStoreQuery,
        mmr_threshold: float | None,
        mmr_prefetch_k: int | None,
        kwargs: Mapping[str, Any],
    ) -> Flow[VectorStoreQueryResult]:
        """Find the nodes nearest to the query's embedding."""
        _refuse(kwargs)
        _check_query(query)
        embedding = check_embedding(query.query_embedding, dimensions=None, name="`query_embedding`")
        where = _where(query)
        limit = query.similarity_top_k
        if query.mode is VectorStoreQueryMode.MMR:
            threshold = query.mmr_threshold if mmr_threshold is None else mmr_threshold
            hits = yield from self._search_diverse(embedding, limit, where, threshold, mmr_prefetch_k)
        elif (query.mmr_threshold, mmr_threshold, mmr_prefetch_k) != (None, None, None):
            raise EmbedInputError("`mmr_threshold` and `mmr_prefetch_k` are for the mode 'mmr'")
        else:
            hits = yield from self._search(embedding, limit, where)
        nodes: list[BaseNode] = yield lambda host: host.work(lambda: [_found_node(hit) for hit in hits])
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[hit.score for hit in hits], ids=[node.node_id for node in nodes]
        )

    def get(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> Flow[list[BaseNode]]:
        """Fetch nodes with their embeddings."""
        where = to_filter(filters)
        records: list[Record]
        if node_ids is None:
            records = yield lambda host: host.records(where=where, modality=self.modality)
        else:
            condition = parse_filter(where)
            ids = [self._record_id(node_id) for node_id in check_ids(node_ids)]
            found: list[Record] = yield lambda host: host.store.get(ids)
            records = [record for record in found if matches(condition, record.metadata)]
        nodes: list[BaseNode] = yield lambda host: host.work(lambda: [_whole_node(record) for record in records])
        return nodes

    def delete(self, ref_doc_id: str, kwargs: Mapping[str, Any]) -> Flow[None]:
        """Delete the nodes of a document."""
        _refuse(kwargs)
        check_id(ref_doc_id, name="`ref_doc_id`")
        yield from self.delete_where({REF_DOC_ID: ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None, filters: MetadataFilters | None, kwargs: Mapping[str, Any]
    ) -> Flow[None]:
        """Delete nodes by ids, by filters, or by both."""
        _refuse(kwargs)
        where = to_filter(filters)
        if node_ids is None and not where:
            raise EmbedInputError("give `node_ids` or `filters` to delete; `clear()` deletes everything")
        if node_ids is None:
            yield from self.delete_where(where)
        elif where:
            yield from self.delete_where({"and": [{NODE_ID: {"in": check_ids(node_ids)}}, where]})
        else:
            ids = [self._record_id(node_id) for node_id in check_ids(node_ids)]
            yield lambda host: host.store.delete(ids)
            self.samples.note_deleted(ids)

    def delete_where(self, where: dict[str, Any]) -> Flow[None]:
        """Delete the matching records of this modality."""
        if self.modality is None:
            yield lambda host: host.store.delete(where=where)
            self.samples.note_deleted(None)
            return
        # A filter cannot select a modality.
        records: list[Record] = yield lambda host: host.records(where=where, modality=self.modality)
        yield lambda host: host.store.delete([record.record_id for record in records])
        self.samples.note_deleted(None)

    def _records(self, nodes: Sequence[BaseNode]) -> list[Record]:
        records = [to_record(node, position=at, modality=self.modality) for at, node in enumerate(nodes)]
        if self.tiled:
            records = with_tiles(records, nodes, self.embedder)
        return [dataclasses.replace(record, record_id=self._record_id(record.record_id)) for record in records]

    def _record_id(self, node_id: str) -> str:
        # A multimodal index adds an image node with a text to both stores, with the same id.
        return node_id if self.modality is None else f"{self.modality}:{node_id}"

    def _search(self, embedding: FloatArray, limit: int, where: dict[str, Any]) -> Flow[list[SearchHit]]:
        request = Request(limit=limit, where=where, modalities=modalities_of(self.modality), tiles=self.tiled)
        return (yield from nearest([Query(vector=embedding)], request, self.samples))[0]

    def _search_diverse(
        self, embedding: FloatArray, limit: int, where: dict[str, Any], threshold: float | None, prefetch: int | None
    ) -> Flow[list[SearchHit]]:
        threshold = _MMR_THRESHOLD if threshold is None else threshold
        if not 0 <= threshold <= 1:
            raise EmbedInputError(f"`mmr_threshold` is {threshold!r}; use 0 to 1")
        prefetch = _MMR_PREFETCH * limit if prefetch is None else prefetch
        if prefetch < limit:
            raise EmbedInputError(f"`mmr_prefetch_k` is {prefetch!r}; use at least `similarity_top_k`, {limit}")
        hits = yield from self._search(embedding, prefetch, where)
        found: list[Record] = yield lambda host: host.store.get([hit.record_id for hit in hits])
        vectors = {record.record_id: record.embedding for record in found}
        hits = [hit for hit in hits if hit.record_id in vectors]  # without records that were deleted in the meantime
        relevance = np.array([hit.score for hit in hits], dtype=np.float32)  # (N,)
        rows = np.array([vectors[hit.record_id] for hit in hits], dtype=np.float32)  # (N, E)
        return [hits[at] for at in choose_diverse(relevance, rows, limit=limit, threshold=threshold)]


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise EmbedInputError(f"unknown argument {next(iter(kwargs))!r}")


def _check_query(query: VectorStoreQuery) -> None:
    if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        raise EmbedInputError(f"`mode` is {str(query.mode.value)!r}; use 'default' or 'mmr'")
    for name in _NOT_ASKED:
        if getattr(query, name) is not None:
            raise EmbedInputError(f"`{name}` is {getattr(query, name)!r}, which a vector search does not support")
    if query.query_embedding is None:
        raise EmbedInputError("`query_embedding` is None: search with an index or retriever that embeds the query")
    check_count(query.similarity_top_k, name="similarity_top_k")


def _where(query: VectorStoreQuery) -> dict[str, Any]:
    parts = [to_filter(query.filters)] if query.filters is not None else []
    if query.node_ids:
        parts.append({NODE_ID: {"in": check_ids(query.node_ids)}})
    if query.doc_ids:
        parts.append({REF_DOC_ID: {"in": check_ids(query.doc_ids)}})
    return {"and": parts} if parts else {}


def _whole_node(record: Record) -> BaseNode:
    node = to_node(record)
    node.embedding = record.embedding.tolist()
    return node


def _found_node(hit: SearchHit) -> BaseNode:
    node = to_node(hit)
    if hit.box is not None:
        node.metadata[BOX] = list(hit.box)
    return node
