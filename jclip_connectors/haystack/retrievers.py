"""The components that find documents: by a vector, by a text, by an image."""

from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.dataclasses import ByteStream, ImageContent
from haystack.document_stores.types import FilterPolicy

from jclip_connectors.haystack.document_store import JinaClipDocumentStore
from jclip_connectors.haystack.homes import RETRIEVERS
from jclip_connectors.haystack.image_embedders import JinaClipImageEmbedder
from jclip_connectors.haystack.retrieving import Retriever, Search, checked_embedder
from jclip_connectors.haystack.text_embedders import JinaClipTextEmbedder
from jclip_connectors.port import Modality


@component
class JinaClipEmbeddingRetriever(Retriever):
    """Finds the documents nearest to a vector, texts and images."""

    __module__ = RETRIEVERS

    def __init__(
        self,
        document_store: JinaClipDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        modality: Modality | None = None,
        tiles: bool | None = None,
    ) -> None:
        """Check the options; the collection is opened by `warm_up`, or by the first run.

        Args:
            document_store: has the documents.
            filters: only documents that match.
            top_k: the largest number of documents.
            filter_policy: whether the filters of a run replace `filters`, or are added to them.
            modality: "text" or "image" to find only texts or only images; `None` finds both, in the order of
                `JinaClipDocumentStore.embedding_retrieval`.
            tiles: compare the nearest tile of each image, whose box becomes `meta["box"]`; `None` does so where the
                collection has tiles.

        Raises:
            EmbedInputError: an option has a bad value.
        """
        self.search = Search(
            document_store=document_store,
            filters=filters,
            top_k=top_k,
            filter_policy=filter_policy,
            modality=modality,
            tiles=tiles,
        )

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Find documents.

        Args:
            query_embedding: E numbers.
            filters: of this run; see `filter_policy`.
            top_k: the largest number of documents of this run.

        Returns:
            `documents`, nearest first, with scores as of `JinaClipDocumentStore.embedding_retrieval`.

        Raises:
            EmbedInputError: the vector has another length, or no direction, or an option is bad.
            FilterInputError: the filters are not valid; it is a FilterError.
        """
        return {"documents": self.search.find(query_embedding, filters, top_k)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Do what `run` does with `query_embedding`, `filters` and `top_k`; the event loop goes on meanwhile."""
        return {"documents": await self.search.find_async(query_embedding, filters, top_k)}


@component
class JinaClipTextRetriever(Retriever):
    """Finds the documents nearest to a text, texts and images: an embedder and a retriever in one."""

    __module__ = RETRIEVERS

    def __init__(
        self,
        document_store: JinaClipDocumentStore,
        embedder: JinaClipTextEmbedder,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        modality: Modality | None = None,
        tiles: bool | None = None,
    ) -> None:
        """Check the options; the model is loaded and the collection opened by `warm_up`, or by the first run.

        Args:
            document_store: has the documents; this and the options are as for `JinaClipEmbeddingRetriever`.
            embedder: embeds the query, with the configuration of the collection.
            filters: only documents that match.
            top_k: the largest number of documents.
            filter_policy: whether the filters of a run replace `filters`, or are added to them.
            modality: "text" or "image" to find only texts or only images.
            tiles: compare the nearest tile of each image.

        Raises:
            EmbedInputError: an option has a bad value.
        """
        self.search = Search(
            document_store=document_store,
            filters=filters,
            top_k=top_k,
            filter_policy=filter_policy,
            modality=modality,
            tiles=tiles,
        )
        self.embedder: JinaClipTextEmbedder = checked_embedder(embedder, JinaClipTextEmbedder)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Find documents.

        Args:
            query: a text.
            filters: of this run; see `filter_policy`.
            top_k: the largest number of documents of this run.

        Returns:
            `documents`, nearest first, with scores as of `JinaClipDocumentStore.embedding_retrieval`.

        Raises:
            EmbedInputError: the query cannot be embedded, or an option is bad.
            FilterInputError: the filters are not valid; it is a FilterError.
            CollectionMismatchError: the embedder has another configuration than the collection.
        """
        self.warm_up()
        embedding = self.embedder.run(text=query)["embedding"]
        return {"documents": self.search.find(embedding, filters, top_k)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Do what `run` does with `query`, `filters` and `top_k`; the event loop goes on meanwhile."""
        await self.warm_up_async()
        embedding = (await self.embedder.run_async(text=query))["embedding"]
        return {"documents": await self.search.find_async(embedding, filters, top_k)}


@component
class JinaClipImageRetriever(Retriever):
    """Finds the documents nearest to an image, images and texts: an embedder and a retriever in one."""

    __module__ = RETRIEVERS

    def __init__(
        self,
        document_store: JinaClipDocumentStore,
        embedder: JinaClipImageEmbedder,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        modality: Modality | None = None,
        tiles: bool | None = None,
    ) -> None:
        """Check the options; the model is loaded and the collection opened by `warm_up`, or by the first run.

        Args:
            document_store: has the documents; this and the options are as for `JinaClipEmbeddingRetriever`.
            embedder: embeds the query, with the configuration of the collection.
            filters: only documents that match.
            top_k: the largest number of documents.
            filter_policy: whether the filters of a run replace `filters`, or are added to them.
            modality: "text" or "image" to find only texts or only images.
            tiles: compare the nearest tile of each image.

        Raises:
            EmbedInputError: an option has a bad value.
        """
        self.search = Search(
            document_store=document_store,
            filters=filters,
            top_k=top_k,
            filter_policy=filter_policy,
            modality=modality,
            tiles=tiles,
        )
        self.embedder: JinaClipImageEmbedder = checked_embedder(embedder, JinaClipImageEmbedder)

    @component.output_types(documents=list[Document])
    def run(
        self,
        image: str | Path | ByteStream | ImageContent,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Find documents.

        Args:
            image: a path, a data URI, a ByteStream or an ImageContent.
            filters: of this run; see `filter_policy`.
            top_k: the largest number of documents of this run.

        Returns:
            `documents`, nearest first, with scores as of `JinaClipDocumentStore.embedding_retrieval`.

        Raises:
            EmbedInputError: the query cannot be embedded, or an option is bad.
            FilterInputError: the filters are not valid; it is a FilterError.
            CollectionMismatchError: the embedder has another configuration than the collection.
        """
        self.warm_up()
        embedding = self.embedder.run(image=image)["embedding"]
        return {"documents": self.search.find(embedding, filters, top_k)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        image: str | Path | ByteStream | ImageContent,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does with `image`, `filters` and `top_k`; the event loop goes on meanwhile."""
        await self.warm_up_async()
        embedding = (await self.embedder.run_async(image=image))["embedding"]
        return {"documents": await self.search.find_async(embedding, filters, top_k)}
