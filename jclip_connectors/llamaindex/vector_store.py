"""LlamaIndex's vector store over any of our stores: nodes of texts and of images in one collection, or in two."""

import asyncio
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from llama_index.core.bridge.pydantic import ConfigDict, Field, model_validator
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from pydantic import SkipValidation

from jclip_connectors.collection.searching import fuse_by_rank
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.llamaindex.filters import to_filter
from jclip_connectors.llamaindex.nodes import BOX, NODE_ID, REF_DOC_ID, to_node, to_record, with_tiles
from jclip_connectors.port import MODALITIES, Embedder, FloatArray, Modality, SearchHit, VectorStore
from jclip_connectors.store_kit.validation import check_embedding, check_fingerprint, check_id, check_ids

_METHODS = ("upsert", "search", "get", "delete", "scroll")
_MMR_THRESHOLD, _MMR_PREFETCH = 0.5, 4  # LlamaIndex's defaults
_NOT_ASKED = ("alpha", "sparse_top_k", "hybrid_top_k", "output_fields", "embedding_field")


class JinaClipVectorStore(BasePydanticVectorStore):
    """Nodes in one of our stores: `JinaClipVectorStore(store=QdrantEdgeStore.open("photos.jclip", embedding.config))`.

    A node comes back as it was given, but for the bytes of its image: where the image is (`image_path`, `image_url`) is
    kept, the image is not. Its metadata must be JSON. Records that were written without LlamaIndex, say by
    `jclip index`, are found as `TextNode` and `ImageNode`.

    A search over texts and images ranks each on its own and fuses the two lists by reciprocal rank, as their cosines
    are not comparable; where only one kind is there, or asked for with `modality`, scores are cosines.

    In a collection with tiling, images are added with their tiles, for which `embedder` must be given, and found by
    their nearest tile: `node.metadata["box"]` of a node that was found is its box in pixels of the image.

    One store serves both parts of a `MultiModalVectorStoreIndex`: give it one of these with `modality="text"` and one
    with `modality="image"`. Each of the two sees and deletes only its own records.

    What `to_dict` gives has no store; `from_dict(data, store=...)` brings one back.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    stores_text: bool = True
    is_embedding_query: bool = True
    store: SkipValidation[VectorStore] = Field(exclude=True, repr=False, frozen=True, description="Where records are.")
    embedder: SkipValidation[Embedder | None] = Field(
        default=None, exclude=True, repr=False, frozen=True, description="Embeds the tiles of images that are added."
    )
    modality: Modality | None = Field(default=None, frozen=True, description="'text' or 'image': only these.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        store: object = self.store  # whatever the caller has
        missing = [name for name in _METHODS if not callable(getattr(store, name, None))]
        if missing or inspect.iscoroutinefunction(self.store.upsert):
            found = "has no " + missing[0] if missing else "is an asyncio store"
            raise EmbedInputError(f"`store` is a {type(store).__name__}, which {found}; give a blocking store, opened")
        if self.embedder is not None:
            check_fingerprint(self.store.fingerprint, self.embedder.config.fingerprint(), collection="the collection")
        return self

    @classmethod
    def class_name(cls) -> str:
        """The name in what `to_dict` gives."""
        return "JinaClipVectorStore"

    @property
    def client(self) -> VectorStore:
        """The store."""
        store: VectorStore = self.store
        return store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ANN401 (LlamaIndex's signature)
        """Write nodes that have their embeddings, each in place of the one with its id; all are checked first.

        Returns:
            Their ids.

        Raises:
            EmbedInputError: a node that cannot be kept; nothing was written.
            PartialFailureError: the store refused some; positions are those in `nodes`.
        """
        _refuse(kwargs)
        given: object = nodes  # whatever the caller has
        if isinstance(given, BaseNode):
            raise EmbedInputError("`nodes` is one node; write [node]")
        records = [to_record(node, position=at, modality=self.modality) for at, node in enumerate(nodes)]
        if self._tiled:
            records = with_tiles(records, nodes, self.embedder)
        self.store.upsert([dataclasses.replace(r, record_id=self._record_id(r.record_id)) for r in records])
        return [node.node_id for node in nodes]

    def query(
        self,
        query: VectorStoreQuery,
        *,
        mmr_threshold: float | None = None,
        mmr_prefetch_k: int | None = None,
        **kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> VectorStoreQueryResult:
        """Find the nodes nearest to the query's embedding, nearest first.

        Args:
            query: in mode "default" or "mmr". Empty `node_ids` and `doc_ids` do not restrict it. The relevance in mode
                "mmr" is the cosine: over texts and images together ask for one `modality`.
            mmr_threshold: with mode "mmr", 0..1: 1 looks at relevance only, 0 at diversity only; `None` is 0.5.
            mmr_prefetch_k: with mode "mmr", how many are chosen from; `None` is four times `similarity_top_k`.
            kwargs: none are known.

        Raises:
            EmbedInputError: another mode, an argument of another mode, a filter that no store has, or no embedding.
        """
        _refuse(kwargs)
        _check_query(query)
        embedding = check_embedding(query.query_embedding, dimensions=None, name="`query_embedding`")
        where = _where(query)
        if query.mode is VectorStoreQueryMode.MMR:
            threshold = query.mmr_threshold if mmr_threshold is None else mmr_threshold
            hits = self._search_mmr(embedding, query.similarity_top_k, where, threshold, mmr_prefetch_k)
        elif (query.mmr_threshold, mmr_threshold, mmr_prefetch_k) != (None, None, None):
            raise EmbedInputError("`mmr_threshold` and `mmr_prefetch_k` are for the mode 'mmr'")
        elif self.modality is None:
            ranked = [self._search(embedding, query.similarity_top_k, where, modality) for modality in MODALITIES]
            hits = fuse_by_rank(ranked)[: query.similarity_top_k]
        else:
            hits = self._search(embedding, query.similarity_top_k, where, self.modality)
        nodes = [_found_node(hit) for hit in hits]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[hit.score for hit in hits], ids=[node.node_id for node in nodes]
        )

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Fetch nodes with their embeddings: by ids, in their order; by filters; by both; or all.

        Raises:
            EmbedInputError: an id or filter that cannot be.
        """
        where = parse_filter(to_filter(filters))
        if node_ids is None:
            records = list(self.store.scroll(where=to_filter(filters), modality=self.modality))
        else:
            found = self.store.get([self._record_id(node_id) for node_id in check_ids(node_ids)])
            records = [record for record in found if matches(where, record.metadata)]
        nodes = [to_node(record) for record in records]
        for node, record in zip(nodes, records, strict=True):
            node.embedding = record.embedding.tolist()
        return nodes

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ANN401 (LlamaIndex's signature)
        """Delete the nodes of a document.

        Raises:
            EmbedInputError: `ref_doc_id` is no id.
        """
        _refuse(delete_kwargs)
        check_id(ref_doc_id, name="`ref_doc_id`")
        self._delete_where({REF_DOC_ID: ref_doc_id})

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> None:
        """Delete nodes by ids, by filters, or those of the ids that match the filters.

        Raises:
            EmbedInputError: neither is given, or an id or filter that cannot be.
        """
        _refuse(delete_kwargs)
        where = to_filter(filters)
        if node_ids is None and not where:
            raise EmbedInputError("give `node_ids` or `filters` to delete; `clear()` deletes everything")
        if node_ids is None:
            self._delete_where(where)
        elif where:
            self._delete_where({"and": [{NODE_ID: {"in": check_ids(node_ids)}}, where]})
        else:
            self.store.delete([self._record_id(node_id) for node_id in check_ids(node_ids)])

    def clear(self) -> None:
        """Delete everything, or everything of this `modality`."""
        self._delete_where({})

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ANN401 (LlamaIndex's signature)
        """`add` off the event loop."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:  # noqa: ANN401 (LlamaIndex's signature)
        """`query` off the event loop."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes` off the event loop."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ANN401 (LlamaIndex's signature)
        """`delete` off the event loop."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> None:
        """`delete_nodes` off the event loop."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """`clear` off the event loop."""
        await asyncio.to_thread(self.clear)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse: a store may hold a connection and its credentials."""
        raise TypeError("a JinaClipVectorStore cannot be pickled: open its store again where it is needed")

    @property
    def _tiled(self) -> bool:
        return self.store.fingerprint.get("tiling") is not None

    def _record_id(self, node_id: str) -> str:
        # An image node with a text is in both parts of a multimodal index, under one id.
        return node_id if self.modality is None else f"{self.modality}:{node_id}"

    def _search(
        self, embedding: FloatArray, limit: int, where: dict[str, Any], modality: Modality | None
    ) -> list[SearchHit]:
        return self.client.search(embedding, limit=limit, where=where, modality=modality, tiles=self._tiled)

    def _search_mmr(
        self, embedding: FloatArray, limit: int, where: dict[str, Any], threshold: float | None, prefetch: int | None
    ) -> list[SearchHit]:
        threshold = _MMR_THRESHOLD if threshold is None else threshold
        if not 0 <= threshold <= 1:
            raise EmbedInputError(f"`mmr_threshold` is {threshold!r}; use 0 to 1")
        prefetch = _MMR_PREFETCH * limit if prefetch is None else prefetch
        if prefetch < limit:
            raise EmbedInputError(f"`mmr_prefetch_k` is {prefetch!r}; use at least `similarity_top_k`, {limit}")
        hits = self._search(embedding, prefetch, where, self.modality)
        vectors = {r.record_id: r.embedding for r in self.store.get([hit.record_id for hit in hits])}
        hits = [hit for hit in hits if hit.record_id in vectors]  # of which none was deleted since
        return [hits[at] for at in _diverse(hits, vectors, limit=limit, threshold=threshold)]

    def _delete_where(self, where: dict[str, Any]) -> None:
        if self.modality is None:
            self.store.delete(where=where)
        else:  # a filter does not tell texts from images
            self.store.delete([record.record_id for record in self.store.scroll(where=where, modality=self.modality)])


def _refuse(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise EmbedInputError(f"unknown argument {next(iter(kwargs))!r}")


def _check_query(query: VectorStoreQuery) -> None:
    if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        raise EmbedInputError(f"`mode` is {str(query.mode.value)!r}; use 'default' or 'mmr'")
    for name in _NOT_ASKED:
        if getattr(query, name) is not None:
            raise EmbedInputError(f"`{name}` is {getattr(query, name)!r}, which a search for vectors does not have")
    if query.query_embedding is None:
        raise EmbedInputError("`query_embedding` is None: search with an index or retriever that embeds the query")
    limit: object = query.similarity_top_k  # whatever the caller has
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise EmbedInputError(f"`similarity_top_k` is {limit!r}; use an int of at least 1")


def _where(query: VectorStoreQuery) -> dict[str, Any]:
    parts = [to_filter(query.filters)] if query.filters is not None else []
    if query.node_ids:
        parts.append({NODE_ID: {"in": check_ids(query.node_ids)}})
    if query.doc_ids:
        parts.append({REF_DOC_ID: {"in": check_ids(query.doc_ids)}})
    return {"and": parts} if parts else {}


def _found_node(hit: SearchHit) -> BaseNode:
    node = to_node(hit)
    if hit.box is not None:
        node.metadata[BOX] = list(hit.box)
    return node


def _diverse(
    hits: Sequence[SearchHit], vectors: Mapping[str, FloatArray], *, limit: int, threshold: float
) -> list[int]:
    """Choose hits by maximal marginal relevance, in the order of choice.

    Source: Carbonell and Goldstein 1998.
    """
    if not hits:
        return []
    relevance = np.array([hit.score for hit in hits])  # (N,)
    rows = np.stack([vectors[hit.record_id] for hit in hits])  # (N, E)
    chosen = [0]  # the nearest
    overlap = rows @ rows[0]  # (N,) with the most similar of the chosen
    while len(chosen) < min(limit, len(hits)):
        value = threshold * relevance - (1 - threshold) * overlap
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        overlap = np.maximum(overlap, rows @ rows[chosen[-1]])
    return chosen
