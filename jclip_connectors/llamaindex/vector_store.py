"""LlamaIndex's vector store over any of our stores: nodes of texts and of images in one collection, or in two."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any, Self, TypeVar, cast

from llama_index.core.bridge.pydantic import ConfigDict, Field, model_validator
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from pydantic import SkipValidation

from jclip_connectors.collection.hosts import AsyncHost, BlockingHost
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.llamaindex.operations import Operations
from jclip_connectors.port import AsyncVectorStore, Embedder, Modality, VectorStore
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_fingerprint

_Result = TypeVar("_Result")
_METHODS = ("upsert", "search", "get", "delete", "scroll")


class JinaClipVectorStore(BasePydanticVectorStore):
    """Nodes in one of our stores: `JinaClipVectorStore(store=QdrantEdgeStore.open("photos.jclip", embedding.config))`.

    A node comes back as it was given, but for the bytes of its image: where the image is (`image_path`, `image_url`) is
    kept, the image is not. Its metadata must be JSON. Records that were written without LlamaIndex, say by
    `jclip index`, are found as `TextNode` and `ImageNode`.

    A search over texts and images ranks each on its own and fuses the two lists by reciprocal rank, as their cosines
    are not comparable; where only one kind is there, or asked for with `modality`, scores are cosines.

    With an asyncio store the asynchronous methods await it, and the others are refused; with a blocking one the
    asynchronous methods work in threads.

    In a collection with tiling, images are added with their tiles, for which `embedder` must be given, and found by
    their nearest tile: `node.metadata["box"]` of a node that was found is its box in pixels of the image.

    One store serves both parts of a `MultiModalVectorStoreIndex`: give it one of these with `modality="text"` and one
    with `modality="image"`. Each of the two sees and deletes only its own records.

    What `to_dict` gives has no store; `from_dict(data, store=...)` brings one back.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    stores_text: bool = True
    is_embedding_query: bool = True
    store: SkipValidation[VectorStore | AsyncVectorStore] = Field(
        exclude=True, repr=False, frozen=True, description="Where records are: a blocking store or an asyncio one."
    )
    embedder: SkipValidation[Embedder | None] = Field(
        default=None, exclude=True, repr=False, frozen=True, description="Embeds the tiles of images that are added."
    )
    modality: Modality | None = Field(default=None, frozen=True, description="'text' or 'image': only these.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = [name for name in _METHODS if not callable(getattr(self.store, name, None))]
        if missing:
            raise EmbedInputError(
                f"`store` is a {type(self.store).__name__}, which has no {missing[0]}; give a store that is open"
            )
        if self.embedder is not None:
            check_fingerprint(self.store.fingerprint, self.embedder.config.fingerprint(), collection="the collection")
        return self

    @classmethod
    def class_name(cls) -> str:
        """The name in what `to_dict` gives."""
        return "JinaClipVectorStore"

    @property
    def client(self) -> VectorStore | AsyncVectorStore:
        """The store."""
        store: VectorStore | AsyncVectorStore = self.store
        return store

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:  # noqa: ANN401 (LlamaIndex's signature)
        """Write nodes that have their embeddings, each in place of the one with its id; all are checked first.

        Returns:
            Their ids.

        Raises:
            EmbedInputError: a node that cannot be kept; nothing was written.
            PartialFailureError: the store refused some; positions are those in `nodes`.
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
                "mmr" is the cosine: over texts and images together ask for one `modality`.
            mmr_threshold: with mode "mmr", 0..1: 1 looks at relevance only, 0 at diversity only; `None` is 0.5.
            mmr_prefetch_k: with mode "mmr", how many are chosen from; `None` is four times `similarity_top_k`.
            kwargs: none are known.

        Raises:
            EmbedInputError: another mode, an argument of another mode, a filter that no store has, or no embedding.
        """
        return self._run(self._operations.query(query, mmr_threshold, mmr_prefetch_k, kwargs))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Fetch nodes with their embeddings: by ids, in their order; by filters; by both; or all.

        Args:
            node_ids: of the nodes, or `None` for all.
            filters: only nodes that match them.

        Raises:
            EmbedInputError: an id or filter that cannot be.
        """
        return self._run(self._operations.get(node_ids, filters))

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ANN401 (LlamaIndex's signature)
        """Delete the nodes of a document.

        Args:
            ref_doc_id: the id of the document.
            **delete_kwargs: none are known.

        Raises:
            EmbedInputError: `ref_doc_id` is no id.
        """
        self._run(self._operations.delete(ref_doc_id, delete_kwargs))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> None:
        """Delete nodes by ids, by filters, or those of the ids that match the filters.

        Args:
            node_ids: of the nodes, or `None`.
            filters: only nodes that match them, or `None`.
            **delete_kwargs: none are known.

        Raises:
            EmbedInputError: neither is given, or an id or filter that cannot be.
        """
        self._run(self._operations.delete_nodes(node_ids, filters, delete_kwargs))

    def clear(self) -> None:
        """Delete everything, or everything of this `modality`."""
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
        """Refuse: a store may hold a connection and its credentials."""
        raise TypeError("a JinaClipVectorStore cannot be pickled: open its store again where it is needed")

    @property
    def _operations(self) -> Operations:
        tiled = self.store.fingerprint.get("tiling") is not None
        return Operations(modality=self.modality, tiled=tiled, embedder=self.embedder)

    @property
    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.store.upsert)

    def _run(self, flow: Flow[_Result]) -> _Result:
        if self._is_async:
            raise StoreRequestError("the store is asyncio: call the asynchronous twin of this method")
        host = BlockingHost(store=cast("VectorStore", self.store))
        return host.run(flow)

    async def _arun(self, flow: Flow[_Result]) -> _Result:
        if not self._is_async:
            return await asyncio.to_thread(self._run, flow)
        return await AsyncHost(store=cast("AsyncVectorStore", self.store)).run(flow)
