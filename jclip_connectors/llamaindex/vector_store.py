"""JinaClipVectorStore: LlamaIndex's vector store over every store of this package."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self, TypeVar, cast

from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, model_validator
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from pydantic import SkipValidation

from jclip_connectors.collection.async_hosts import AsyncHost, ThreadedEmbedder, is_asyncio
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.collection.samples import SampleCache
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.llamaindex.operations import Operations
from jclip_connectors.port import AsyncVectorStore, Embedder, Modality, VectorStore
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_fingerprint

_Result = TypeVar("_Result")
_METHODS = ("upsert", "search", "get", "delete", "scroll")


class JinaClipVectorStore(BasePydanticVectorStore):
    """Nodes in one of our stores: `JinaClipVectorStore(store=QdrantEdgeStore.open("photos.jclip", embedding.config))`.

    A node is restored without the bytes of its image; `image_path` and `image_url` are stored. Its metadata must be
    JSON. Records of other programs, such as `jclip index`, are found as `TextNode` and `ImageNode`.

    A similarity is always a cosine. Cosines of texts and of images are not comparable: if both are found, they are
    ordered by how unusual each cosine is for this query in its modality. With few texts, this needs `embedder`.

    With an asyncio store, the async methods await the store, and the blocking methods are refused; with a blocking
    store, the async methods run in threads.

    In a collection with tiling, images are added with their tiles, which needs `embedder`, and found by their nearest
    tile: `node.metadata["box"]` of a result is the box of this tile in pixels of the image.

    One store serves both parts of a `MultiModalVectorStoreIndex`: make one instance with `modality="text"` and one with
    `modality="image"`. Each instance reads and deletes only its own records.

    The result of `to_dict` has no store: use `from_dict(data, store=...)`.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    stores_text: bool = True
    is_embedding_query: bool = True
    store: SkipValidation[VectorStore | AsyncVectorStore] = Field(
        exclude=True, repr=False, frozen=True, description="A blocking or asyncio store."
    )
    embedder: SkipValidation[Embedder | None] = Field(
        default=None,
        exclude=True,
        repr=False,
        frozen=True,
        description="Embeds the tiles of added images, and reference texts.",
    )
    modality: Modality | None = Field(default=None, frozen=True, description="'text' or 'image': use only these.")

    _samples: SampleCache = PrivateAttr()

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = [name for name in _METHODS if not callable(getattr(self.store, name, None))]
        if missing:
            raise EmbedInputError(
                f"`store` is a {type(self.store).__name__}, which has no {missing[0]}; give an open store"
            )
        if self.embedder is not None:
            check_fingerprint(self.store.fingerprint, self.embedder.config.fingerprint(), collection="the collection")
        self._samples = SampleCache(embeds_texts=self.embedder is not None)
        return self

    @classmethod
    def class_name(cls) -> str:
        """The class name in the result of `to_dict`."""
        return "JinaClipVectorStore"

    @property
    def client(self) -> VectorStore | AsyncVectorStore:
        """The store."""
        store: VectorStore | AsyncVectorStore = self.store
        return store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ANN401 (LlamaIndex's signature)
        """Write nodes with embeddings; a node with the same id is replaced. All nodes are checked first.

        Returns:
            Their ids.

        Raises:
            EmbedInputError: a node is invalid; nothing is written.
            PartialFailureError: the store refused some nodes; `failed` and `kept` are by position in `nodes`.
        """
        return self._run(self._operations.add(nodes, kwargs))

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
                "mmr" is the cosine, so use one `modality` if the store has texts and images.
            mmr_threshold: for mode "mmr", 0..1: 1 uses only relevance, 0 only diversity; `None` is 0.5.
            mmr_prefetch_k: for mode "mmr", the number of candidates; `None` is four times `similarity_top_k`.
            kwargs: no keywords are supported.

        Raises:
            EmbedInputError: the mode, an argument or a filter is not supported, or there is no embedding.
        """
        return self._run(self._operations.query(query, mmr_threshold, mmr_prefetch_k, kwargs))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Fetch nodes with their embeddings: by ids, in order; by filters; by both; or all.

        Args:
            node_ids: ids of nodes, or `None` for all.
            filters: only nodes that match the filters.

        Raises:
            EmbedInputError: an id or filter is invalid.
        """
        return self._run(self._operations.get(node_ids, filters))

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ANN401 (LlamaIndex's signature)
        """Delete the nodes of a document.

        Args:
            ref_doc_id: the id of the document.
            **delete_kwargs: no keywords are supported.

        Raises:
            EmbedInputError: `ref_doc_id` is not an id.
        """
        self._run(self._operations.delete(ref_doc_id, delete_kwargs))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> None:
        """Delete nodes by ids, by filters, or by both.

        Args:
            node_ids: ids of nodes, or `None`.
            filters: only nodes that match the filters, or `None`.
            **delete_kwargs: no keywords are supported.

        Raises:
            EmbedInputError: neither is given, or an id or filter is invalid.
        """
        self._run(self._operations.delete_nodes(node_ids, filters, delete_kwargs))

    def clear(self) -> None:
        """Delete all nodes, or all nodes of this `modality`."""
        self._run(self._operations.delete_where({}))

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ANN401 (LlamaIndex's signature)
        """`add`, awaited."""
        return await self._arun(self._operations.add(nodes, kwargs))

    async def aquery(
        self,
        query: VectorStoreQuery,
        *,
        mmr_threshold: float | None = None,
        mmr_prefetch_k: int | None = None,
        **kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> VectorStoreQueryResult:
        """`query`, awaited."""
        return await self._arun(self._operations.query(query, mmr_threshold, mmr_prefetch_k, kwargs))

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """`get_nodes`, awaited."""
        return await self._arun(self._operations.get(node_ids, filters))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ANN401 (LlamaIndex's signature)
        """`delete`, awaited."""
        await self._arun(self._operations.delete(ref_doc_id, delete_kwargs))

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> None:
        """`delete_nodes`, awaited."""
        await self._arun(self._operations.delete_nodes(node_ids, filters, delete_kwargs))

    async def aclear(self) -> None:
        """`clear`, awaited."""
        await self._arun(self._operations.delete_where({}))

    def __getstate__(self) -> dict[str, Any]:
        """Refuse pickling, because a store may contain a connection and its credentials."""
        raise TypeError("a JinaClipVectorStore cannot be pickled: open its store again where it is needed")

    @property
    def _operations(self) -> Operations:
        tiled = self.store.fingerprint.get("tiling") is not None
        return Operations(modality=self.modality, tiled=tiled, embedder=self.embedder, samples=self._samples)

    def _run(self, flow: Flow[_Result]) -> _Result:
        if is_asyncio(self.store):
            raise StoreRequestError("the store is asyncio: call the async version of this method")
        return BlockingHost(store=cast("VectorStore", self.store), embedder=self.embedder).run(flow)

    async def _arun(self, flow: Flow[_Result]) -> _Result:
        if is_asyncio(self.store):
            embedder = None if self.embedder is None else ThreadedEmbedder(self.embedder)
            return await AsyncHost(store=self.store, embedder=embedder).run(flow)
        return await asyncio.to_thread(self._run, flow)
