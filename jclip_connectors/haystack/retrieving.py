"""What the retrievers have in common: how a document store is searched, and when it is opened."""

import asyncio
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.haystack.document_store import JinaClipDocumentStore
from jclip_connectors.haystack.model_component import ModelComponent
from jclip_connectors.port import Modality
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, check_modality

_Embedder = TypeVar("_Embedder", bound=ModelComponent)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A document store, and how it is searched.

    Attributes:
        document_store: has the documents.
        filters: of every run, or `None`.
        top_k: the largest number of documents.
        filter_policy: what a run's own filters do to these.
        modality: "text" or "image" to find only texts or only images.
        tiles: whether the nearest tile of each image is compared; `None` does so where the collection has tiles.
    """

    document_store: JinaClipDocumentStore
    filters: dict[str, Any] | None
    top_k: int
    filter_policy: FilterPolicy
    modality: Modality | None
    tiles: bool | None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            EmbedInputError: an option has a bad value.
        """
        store: object = self.document_store
        if not isinstance(store, JinaClipDocumentStore):
            raise EmbedInputError(f"`document_store` is {type(store).__name__}; use a JinaClipDocumentStore")
        policy: object = self.filter_policy
        if not isinstance(policy, FilterPolicy):
            raise EmbedInputError(f"`filter_policy` is {policy!r}; use FilterPolicy.REPLACE or FilterPolicy.MERGE")
        check_count(self.top_k, name="top_k")
        check_modality(self.modality)

    def find(self, embedding: list[float], filters: dict[str, Any] | None, top_k: int | None) -> list[Document]:
        """Search the store, for a run with its own filters and count."""
        return self.document_store.embedding_retrieval(embedding, **self._options(filters, top_k))

    async def find_async(
        self, embedding: list[float], filters: dict[str, Any] | None, top_k: int | None
    ) -> list[Document]:
        """`find`, awaited."""
        return await self.document_store.embedding_retrieval_async(embedding, **self._options(filters, top_k))

    def _options(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "modality": self.modality,
            "tiles": self.tiles,
        }

    def to_dict(self) -> dict[str, Any]:
        """The options for a saved pipeline."""
        return {
            "document_store": self.document_store,
            "filters": self.filters,
            "top_k": self.top_k,
            "filter_policy": self.filter_policy.value,
            "modality": self.modality,
            "tiles": self.tiles,
        }


class Retriever:
    """A retriever, with or without an embedder; methods do not use `super()`, see `ModelComponent`."""

    search: Search
    embedder: ModelComponent | None = None
    _is_checked = False  # whether the embedder and the collection have one configuration

    def warm_up(self) -> None:
        """Open the collection, and load the model of the embedder.

        Raises:
            CollectionMismatchError: the embedder has another configuration than the collection.
            StoreUnavailableError: the database cannot be reached, or the collection is in use.
            CheckpointError: the weights are absent or damaged.
        """
        self.search.document_store.warm_up()
        if self.embedder is None:
            return
        if not self._is_checked:
            made = self.embedder.config.fingerprint()
            check_fingerprint(self.search.document_store.fingerprint, made, collection="the collection")
            self._is_checked = True
        self.embedder.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` in a thread."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Let the collection and the model go; a later run opens and loads them again."""
        self._is_checked = False
        self.search.document_store.close()
        if self.embedder is not None:
            self.embedder.close()

    async def close_async(self) -> None:
        """`close`, also for the connections of this event loop."""
        if self.embedder is not None:
            await self.embedder.close_async()
        await asyncio.to_thread(self.close)

    def to_dict(self) -> dict[str, Any]:
        """The component for a saved pipeline, with the URL of its collection, without weights and keys.

        Raises:
            SerializationError: the document store was made of an open store, which cannot be saved.
        """
        embedder = {} if self.embedder is None else {"embedder": self.embedder}
        return default_to_dict(self, **self.search.to_dict(), **embedder)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component of a saved pipeline; `data` is what `to_dict` gave. Nothing is opened yet."""
        options = dict(data.get("init_parameters", {}))
        if isinstance(options.get("filter_policy"), str):
            options["filter_policy"] = FilterPolicy.from_str(options["filter_policy"])
        return default_from_dict(cls, {**data, "init_parameters": options})


def checked_embedder(embedder: _Embedder, kind: type[_Embedder]) -> _Embedder:
    """Check the embedder of a retriever.

    Raises:
        EmbedInputError: it is not of this kind.
    """
    if not isinstance(embedder, kind):
        raise EmbedInputError(f"`embedder` is {type(embedder).__name__}; use a {kind.__name__}")
    return embedder
