"""JinaClipVectorStore: LangChain's `VectorStore` over every store of this package."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.langchain.async_methods import AsyncMethods
from jclip_connectors.langchain.documents import documents_as_items, images_as_items, texts_as_items, to_document
from jclip_connectors.langchain.embeddings import JinaClipEmbeddings
from jclip_connectors.langchain.operations import Operations
from jclip_connectors.langchain.retriever import SEARCH_TYPES, JinaClipRetriever
from jclip_connectors.langchain.scores import as_cosine, relevance, scored, with_relevance, without_scores
from jclip_connectors.langchain.searching import image_query, text_query, vector_query
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import AsyncVectorStore, ImageSource, VectorStore


class JinaClipVectorStore(AsyncMethods):
    """Documents in one of our stores, searched by text or by image; for images see `image_document`.

    Every search has these options in addition to `k`, and refuses others:
        filter: on metadata, like `{"year": {"gte": 2020}}` (see `jclip_connectors.filters`), or a `NativeFilter`.
        modality: "image" or "text" to find only images or only texts. Their cosines are on different scales: if both
            are found, they are ordered by how unusual each cosine is for this query in its modality.
        tiles: compare the nearest tile of each image; the default is true if the store has tiles.
        score_threshold: the smallest score of a document.

    The score of a document is always its cosine.

    Every method has an async version, `a...`. With an asyncio store, the async methods await the store, and the
    blocking methods are refused; with a blocking store, the async methods run in threads.
    """

    def __init__(self, store: VectorStore | AsyncVectorStore, embedding: Embeddings) -> None:
        """Combine a store and embeddings.

        Args:
            store: stores the vectors, blocking or asyncio; the caller closes it.
            embedding: makes the vectors: `JinaClipEmbeddings`, or any other. Images need `embed_images`.

        Raises:
            CollectionMismatchError: the store's vectors were made with another configuration than `embedding`'s. With
                other embeddings than `JinaClipEmbeddings`, only the store checks the length of the vectors.
        """
        self._operations = Operations(store, embedding)
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings that make the vectors."""
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        store: VectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """Make a vector store and add texts.

        Args:
            texts: the texts.
            embedding: makes the vectors.
            metadatas: a JSON object for each text, or `None`.
            ids: an id for each item, or `None`.
            store: stores the vectors; `None` keeps them in memory.
            **kwargs: options of `add_texts`.

        Raises:
            EmbedInputError: an item is invalid; nothing is written.
            PartialFailureError: some items could not be added.
        """
        made = cls(_in_memory(embedding) if store is None else store, embedding)
        made.add_texts(texts, metadatas, ids=ids, **kwargs)
        return made

    @classmethod
    def from_documents(
        cls,
        documents: list[Document],
        embedding: Embeddings,
        *,
        store: VectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """Make a vector store and add documents.

        Args:
            documents: the documents.
            embedding: makes the vectors.
            store: stores the vectors; `None` keeps them in memory.
            **kwargs: options of `add_documents`.

        Raises:
            EmbedInputError: a document is invalid; nothing is written.
            PartialFailureError: some items could not be added.
        """
        made = cls(_in_memory(embedding) if store is None else store, embedding)
        made.add_documents(documents, **kwargs)
        return made

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        store: VectorStore | AsyncVectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """`from_texts`, awaited."""
        made = cls(_in_memory(embedding) if store is None else store, embedding)
        await made.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return made

    @classmethod
    async def afrom_documents(
        cls,
        documents: list[Document],
        embedding: Embeddings,
        *,
        store: VectorStore | AsyncVectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """`from_documents`, awaited."""
        made = cls(_in_memory(embedding) if store is None else store, embedding)
        await made.aadd_documents(documents, **kwargs)
        return made

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """Add texts; a document with the same id is replaced.

        Args:
            texts: the texts.
            metadatas: a JSON object for each text; `None` means empty metadata.
            ids: an id for each text. A missing id is made from the text and its metadata, so adding both again changes
                nothing.
            **kwargs: `batch_size`, the number of items that are embedded and written at a time.

        Returns:
            The ids, in the order of `texts`.

        Raises:
            EmbedInputError: an item is invalid; nothing is written.
            PartialFailureError: some items could not be added; `kept` has the ids of the added items.
        """
        items, options = texts_as_items(texts, metadatas, ids, kwargs)
        return self._operations.add(items, **options)

    def add_images(
        self,
        uris: Iterable[ImageSource],
        metadatas: list[dict[str, Any]] | None = None,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """Add images; results and errors are as for `add_texts`.

        Args:
            uris: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays; URLs are refused. A path is
                stored as the document's `uri`; the image itself is not stored.
            metadatas: a JSON object for each image, without the reserved keys of an image's document.
            ids: an id for each item, or `None`.
            **kwargs: `batch_size`.
        """
        items, options = images_as_items(uris, metadatas, ids, kwargs)
        return self._operations.add(items, **options)

    def add_documents(self, documents: list[Document], **kwargs: object) -> list[str]:
        """Add documents: texts, and images that `image_document` makes.

        Args:
            documents: the documents; they are not changed.
            **kwargs: `ids`, an id for each document, which overrides the document's own; and `batch_size`.

        Returns:
            The ids, in the order of `documents`.

        Raises:
            EmbedInputError: a document is invalid; nothing is written.
            PartialFailureError: some items could not be added; `kept` has the ids of the added items.
        """
        items, options = documents_as_items(documents, kwargs)
        return self._operations.add(items, **options)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Fetch documents by id, in the order of `ids`; unknown ids are left out."""
        return [to_document(record) for record in self._operations.run(self._operations.get(ids))]

    def delete(self, ids: list[str] | None = None, **kwargs: object) -> bool:
        """Delete by `ids` or by a `filter`; without both, delete everything.

        Returns:
            `True`: a failure raises an error, and unknown ids are ignored.
        """
        self._operations.run(self._operations.delete(ids, kwargs))
        return True

    def similarity_search(self, query: str, k: int = 4, **kwargs: object) -> list[Document]:
        """Find the `k` documents nearest to the text `query`."""
        return without_scores(self.similarity_search_with_score(query, k, **kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: object) -> list[tuple[Document, float]]:
        """Find the `k` documents nearest to the text `query`, with scores: higher is nearer."""
        return scored(self._operations.run(self._operations.searcher.nearest(text_query(query), k, kwargs)))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: object) -> list[Document]:
        """Find the `k` documents nearest to the vector `embedding`, (E,) numbers."""
        return without_scores(self.similarity_search_with_score_by_vector(embedding, k, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """Find the `k` documents nearest to the vector `embedding`, (E,) numbers, with scores: higher is nearer."""
        return scored(self._operations.run(self._operations.searcher.nearest(vector_query(embedding), k, kwargs)))

    def similarity_search_by_image(self, uri: ImageSource, k: int = 4, **kwargs: object) -> list[Document]:
        """Find the `k` documents nearest to the image `uri`: a path, a data URI, bytes, an image or an array."""
        return without_scores(self.similarity_search_by_image_with_score(uri, k, **kwargs))

    similarity_search_image = similarity_search_by_image  # the name in other LangChain stores with images

    def similarity_search_by_image_with_score(
        self, uri: ImageSource, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """Find the `k` documents nearest to the image `uri`, with scores: higher is nearer."""
        return scored(self._operations.run(self._operations.searcher.nearest(image_query(uri), k, kwargs)))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """Find diverse documents near to a text.

        Args:
            query: the text.
            k: the largest number of documents.
            fetch_k: the number of nearest documents to choose from.
            lambda_mult: 1 uses only the similarity to the query, 0 only diversity.
            **kwargs: the options of the class. Similarity is the cosine, so use one `modality`.
        """
        flow = self._operations.searcher.diverse(text_query(query), k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult)
        return [to_document(hit) for hit in self._operations.run(flow)]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """Find diverse documents near to a vector; see `max_marginal_relevance_search`."""
        flow = self._operations.searcher.diverse(
            vector_query(embedding), k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult
        )
        return [to_document(hit) for hit in self._operations.run(flow)]

    def max_marginal_relevance_search_by_image(
        self, uri: ImageSource, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """Find diverse documents near to an image; see `max_marginal_relevance_search`."""
        flow = self._operations.searcher.diverse(image_query(uri), k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult)
        return [to_document(hit) for hit in self._operations.run(flow)]

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:  # noqa: ANN401 (as the base)
        """Search with a search type.

        Args:
            query: a text, or the path of an image for a search type with images.
            search_type: one of LangChain's types, or of `SEARCH_TYPES`.
            **kwargs: `k` and the options of the class.

        Raises:
            EmbedInputError: the search type or an option is unknown, or the query cannot be embedded.
        """
        if search_type not in SEARCH_TYPES:
            _check_search_type(search_type)
            return super().search(query, search_type, **kwargs)
        wanted = SEARCH_TYPES[search_type]
        by = self.similarity_search if wanted.query == "text" else self.similarity_search_by_image
        return by(query, **wanted.options(), **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:  # noqa: ANN401 (as the base)
        """`search`, awaited."""
        if search_type not in SEARCH_TYPES:
            _check_search_type(search_type)
            return await super().asearch(query, search_type, **kwargs)
        wanted = SEARCH_TYPES[search_type]
        by = self.asimilarity_search if wanted.query == "text" else self.asimilarity_search_by_image
        return await by(query, **wanted.options(), **kwargs)

    def as_retriever(self, **kwargs: Any) -> JinaClipRetriever:  # noqa: ANN401 (as the base)
        """Make a retriever.

        Args:
            **kwargs: `search_type`: "similarity" (default), "similarity_score_threshold", "mmr", or one of
                `SEARCH_TYPES`: "text_to_image", "image_to_image" (the query is a path), "tiles", ...; `k`;
                `search_kwargs`, options of the search; and the options of every `Runnable`.
        """
        tags = kwargs.pop("tags", None)
        return JinaClipRetriever(vectorstore=self, tags=self._get_retriever_tags() if tags is None else tags, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance

    def similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """Find the `k` documents nearest to the text `query`, with relevances.

        Args:
            query: the text.
            k: the largest number of documents.
            **kwargs: the options of the class; here `score_threshold` is the smallest relevance, 0 to 1.

        Returns:
            Documents and their relevances, (1 + cosine) / 2, in the order of `similarity_search`.
        """
        flow = self._operations.searcher.nearest(text_query(query), k, as_cosine(kwargs))
        return with_relevance(self._operations.run(flow))


def _check_search_type(search_type: str) -> None:
    if search_type not in JinaClipRetriever.allowed_search_types:
        allowed = ", ".join(JinaClipRetriever.allowed_search_types)
        raise EmbedInputError(f"`search_type` is {search_type!r}; use one of {allowed}")


def _in_memory(embedding: Embeddings) -> InMemoryStore:
    if isinstance(embedding, JinaClipEmbeddings):
        return InMemoryStore(embedding.config)
    # For other embeddings only the name is known; the first vector sets the length.
    return InMemoryStore(EmbeddingConfig(model=type(embedding).__name__))
