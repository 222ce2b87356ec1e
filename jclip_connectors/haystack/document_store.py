"""JinaClipDocumentStore: Haystack's document store over every store of this package."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar, cast

from haystack import Document, default_from_dict, default_to_dict
from haystack.core.errors import SerializationError
from haystack.document_stores.types import DuplicatePolicy

from core_encoder.errors import ConfigError
from jclip_connectors.collection.async_hosts import AsyncHost, is_asyncio
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError
from jclip_connectors.haystack.async_methods import AsyncMethods
from jclip_connectors.haystack.documents import Conversion
from jclip_connectors.haystack.homes import DOCUMENT_STORES
from jclip_connectors.haystack.image_embedders import JinaClipImageDocumentEmbedder
from jclip_connectors.haystack.opening import Collection, check_url, leave_collection, open_collection
from jclip_connectors.haystack.operations import Operations
from jclip_connectors.haystack.serialising import config_to_dict, parameters
from jclip_connectors.haystack.tiles import TileMaker
from jclip_connectors.port import AsyncVectorStore, Modality, VectorStore
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_fingerprint

_Result = TypeVar("_Result")
_METHODS = ("upsert", "search", "get", "delete", "scroll", "count")


class JinaClipDocumentStore(AsyncMethods):
    """Documents in one of our stores: `JinaClipDocumentStore(url="edge:photos.jclip", config=embedder.config)`.

    A document must have an `embedding`, and its `meta` must be JSON; dates become ISO 8601 text. Its `score`, and the
    bytes of its `blob`, are not stored. Records of other programs, such as `jclip index`, are documents too.

    Vectors are kept at unit length in float32, so an `embedding` comes back with rounding. Documents come in no
    particular order.

    Every method has an async version, `..._async`. With an asyncio store, these await the store, and the blocking
    methods are refused; with a blocking store, they run in threads.
    """

    __module__ = DOCUMENT_STORES

    def __init__(
        self,
        store: VectorStore | AsyncVectorStore | None = None,
        *,
        url: str | None = None,
        config: EmbeddingConfig | None = None,
        read_only: bool = False,
        image_embedder: JinaClipImageDocumentEmbedder | None = None,
        allow_unembedded: bool = False,
        drop_blobs: bool = False,
    ) -> None:
        """Use an open store, or the collection that a URL names; give one of `store` and `url`.

        Args:
            store: an open store, blocking or asyncio; the caller closes it, and it cannot be saved in a pipeline.
            url: a URL as of `jclip --store`, like "edge:photos.jclip" or "qdrant://localhost:6333/photos"; keys come
                from the environment. The collection is opened by the first use, and made if there is none; document
                stores of one process with one URL share it.
            config: the configuration of the vectors, for `url`; `None` is that of the existing collection.
            read_only: for `url`: read a collection in a folder that another process may be writing to.
            image_embedder: makes the tiles of images that are written to a collection with tiles.
            allow_unembedded: store documents without an `embedding` too. No search of this class finds them, but other
                programs that search the collection can.
            drop_blobs: store documents without their `blob`; else a document with a `blob` is refused.

        Raises:
            EmbedInputError: not one of `store` and `url`, an option that has no effect, or credentials in the URL.
            ConfigError: `config` is no EmbeddingConfig.
            CollectionMismatchError: `image_embedder` has another configuration than `store`.
        """
        if (store is None) == (url is None):
            raise EmbedInputError("give one of `store`, an open store, and `url`, the name of a collection")
        if url is not None:
            check_url(url)
        if store is not None and (config is not None or read_only):
            raise EmbedInputError("`config` and `read_only` are for a `url`: the open `store` has its own")
        missing = [] if store is None else [name for name in _METHODS if not callable(getattr(store, name, None))]
        if missing:
            raise EmbedInputError(f"`store` is a {type(store).__name__}, which has no {missing[0]}; give an open store")
        if config is not None and not isinstance(config, EmbeddingConfig):
            raise ConfigError(f"`config` is {type(config).__name__}; use an EmbeddingConfig")
        self._given = store
        self._url, self._config, self._read_only = url, config, read_only
        self._image_embedder = image_embedder
        self._allow_unembedded, self._drop_blobs = allow_unembedded, drop_blobs
        self._collection: Collection | None = None
        if store is not None:
            self._check(store)

    @property
    def store(self) -> VectorStore | AsyncVectorStore:
        """The store; a collection that a URL names is opened now.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreUnavailableError: the database cannot be reached, or the collection is in use.
            EmbedInputError: the URL has no known form, or there is no collection and no `config` to make it.
        """
        if self._given is not None:
            return self._given
        if self._collection is None:
            collection = open_collection(self, str(self._url), self._config, read_only=self._read_only)
            try:
                self._check(collection.store)
            except CollectionMismatchError:
                leave_collection(self, collection)
                raise
            self._collection = collection
        return self._collection.store

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self.store.fingerprint

    def warm_up(self) -> None:
        """Open the collection; see `store`."""
        _ = self.store

    async def warm_up_async(self) -> None:
        """`warm_up` in a thread."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Let the collection of a `url` go: the last of the document stores that share it closes it.

        A later call of another method opens it again. An open `store` is left open.
        """
        collection, self._collection = self._collection, None
        if collection is not None:
            leave_collection(self, collection)

    async def close_async(self) -> None:
        """`close` in a thread."""
        await asyncio.to_thread(self.close)

    def count_documents(self) -> int:
        """Count the documents."""
        return self._run(self._operations.count(None))

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Count the documents that match `filters`.

        Raises:
            FilterInputError: the filters are not valid; it is a FilterError.
        """
        return self._run(self._operations.count(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that match `filters`, with their vectors; `None` and `{}` match all.

        Raises:
            FilterInputError: the filters are not valid; it is a FilterError.
        """
        return self._run(self._operations.filter(filters))

    def get_documents(self, document_ids: Sequence[str]) -> list[Document]:
        """The documents with `document_ids`, in this order and with their vectors; unknown ids are left out."""
        return self._run(self._operations.get(document_ids))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents; all of them are checked first.

        Args:
            documents: the documents; they are not changed.
            policy: what is done with an id that is stored already, or given twice. NONE is FAIL: nothing is written.
                The ids are looked up before the write, so another program can write one of them in between.

        Returns:
            How many documents were written.

        Raises:
            EmbedInputError: a document cannot be kept as it is; nothing is written. It is a ValueError.
            DuplicateDocumentError: with FAIL or NONE, an id is stored already or given twice; nothing is written.
            PartialFailureError: the store refused some documents; `failed` and `kept` are by position.
        """
        return self._run(self._operations.write(documents, policy))

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete the documents with `document_ids`; unknown ids are ignored."""
        self._run(self._operations.delete(document_ids))

    def delete_all_documents(self) -> None:
        """Delete every record of the collection, also those of other programs."""
        self._run(self._operations.delete_where(None))

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match `filters`; how many matched just before.

        Raises:
            FilterInputError: the filters are not valid; it is a FilterError.
        """
        return self._run(self._operations.delete_where(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Change the metadata of the documents that match; what other programs write to them meanwhile is lost.

        Args:
            filters: which documents.
            meta: the values to set; other keys keep their values.

        Returns:
            How many documents were changed.

        Raises:
            FilterInputError: the filters are not valid; it is a FilterError.
            EmbedInputError: `meta` is not JSON, or has a reserved key.
        """
        return self._run(self._operations.update_where(filters, meta))

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        *,
        modality: Modality | None = None,
        tiles: bool | None = None,
    ) -> list[Document]:
        """Find the documents nearest to a vector; their vectors are not read.

        Args:
            query_embedding: E numbers.
            filters: only documents that match.
            top_k: the largest number of documents.
            modality: "text" or "image" to find only texts or only images; `None` finds both.
            tiles: compare the nearest tile of each image, whose box becomes `meta["box"]`; `None` does so where the
                collection has tiles.

        Returns:
            Documents, nearest first. Their score is the cosine. The cosines of texts and of images are on different
            scales: if both are found, the score is that of the reciprocal rank fusion, 1 / (60 + rank in the modality).

        Raises:
            EmbedInputError: the vector has another length, or no direction, or an option is bad.
            FilterInputError: the filters are not valid; it is a FilterError.
        """
        return self._run(self._operations.search(query_embedding, filters, top_k=top_k, modality=modality, tiles=tiles))

    def to_dict(self) -> dict[str, Any]:
        """The document store for a saved pipeline: its URL and options, and no key.

        Raises:
            SerializationError: it was made of an open store, which cannot be saved.
        """
        if self._url is None:
            raise SerializationError(
                f"this JinaClipDocumentStore has an open {type(self._given).__name__}, which cannot be saved: make it "
                "with the `url` of the collection"
            )
        return default_to_dict(
            self,
            url=self._url,
            config=None if self._config is None else config_to_dict(self._config),
            read_only=self._read_only,
            image_embedder=self._image_embedder,
            allow_unembedded=self._allow_unembedded,
            drop_blobs=self._drop_blobs,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the document store of a saved pipeline; `data` is what `to_dict` gave. Nothing is opened yet."""
        return default_from_dict(cls, {**data, "init_parameters": parameters(data)})

    def _run(self, flow: Flow[_Result]) -> _Result:
        if is_asyncio(self.store):
            raise StoreRequestError("the store is asyncio: call the async version of this method, `..._async`")
        return BlockingHost(store=cast("VectorStore", self.store)).run(flow)

    async def _arun(self, flow_of: Callable[[Operations], Flow[_Result]]) -> _Result:
        if self._given is not None and is_asyncio(self._given):
            return await AsyncHost(store=self._given).run(flow_of(self._operations))
        return await asyncio.to_thread(lambda: self._run(flow_of(self._operations)))

    @property
    def _operations(self) -> Operations:
        fingerprint = self.fingerprint
        dimensions = fingerprint.get("dimensions")
        embedder = self._image_embedder
        return Operations(
            conversion=Conversion(
                dimensions=dimensions if isinstance(dimensions, int) else None,
                allow_unembedded=self._allow_unembedded,
                drop_blobs=self._drop_blobs,
            ),
            tiled=fingerprint.get("tiling") is not None,
            tile_maker=None if embedder is None else TileMaker.of(embedder),
        )

    def _check(self, store: VectorStore | AsyncVectorStore) -> None:
        if self._image_embedder is not None:
            made = self._image_embedder.config.fingerprint()
            check_fingerprint(store.fingerprint, made, collection="the collection")
