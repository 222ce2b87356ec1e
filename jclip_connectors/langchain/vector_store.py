"""LangChain's `VectorStore` over any store of this package: texts, images and tiles side by side."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore

from jclip_connectors import port
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.langchain.adding import Adder
from jclip_connectors.langchain.documents import (
    Item,
    as_list,
    document_item,
    image_document,
    image_item,
    known_options,
    one_each,
    text_item,
    to_document,
)
from jclip_connectors.langchain.embeddings import JinaClipEmbeddings
from jclip_connectors.langchain.retriever import SEARCH_TYPES, JinaClipRetriever
from jclip_connectors.langchain.searching import Searcher, as_vector
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import ImageSource, SearchHit
from jclip_connectors.store_kit.validation import check_fingerprint

__all__ = ["SEARCH_TYPES", "JinaClipRetriever", "JinaClipVectorStore", "image_document"]


class JinaClipVectorStore(VectorStore):
    """Documents in one of our stores, found by text or by image; `langchain_documents` tells how images are documents.

    Every search takes these options, beside `k`, and refuses others:
        filter: on metadata, like `{"year": {"gte": 2020}}` (see `jclip_connectors.filters`), or a `NativeFilter`.
        modality: "image" or "text" to find only these. Cosines of the two are on different scales: where both are
            found they are ranked apart and fused by reciprocal rank, which is then the score; else it is the cosine.
        tiles: whether an image is as near as its nearest tile; by default where the store keeps tiles.

    Every method has an asynchronous twin, `a...`, that does its work in a thread.
    """

    def __init__(self, store: port.VectorStore, embedding: Embeddings) -> None:
        """Put a store and embeddings together.

        Args:
            store: keeps the vectors; closing it stays with the caller.
            embedding: makes them: `JinaClipEmbeddings`, or any other. Images need one with `embed_images`.

        Raises:
            CollectionMismatchError: the store's vectors were made with another configuration than `embedding`'s. Of
                others than `JinaClipEmbeddings` only the length of their vectors can be compared, by the store.
        """
        if not isinstance(embedding, Embeddings):
            raise EmbedInputError(f"`embedding` is {type(embedding).__name__}, not one of LangChain's `Embeddings`")
        if isinstance(embedding, JinaClipEmbeddings):
            check_fingerprint(store.fingerprint, embedding.config.fingerprint(), collection="the store")
        self._store = store
        self._embedding = embedding
        tiled = store.fingerprint.get("tiling") is not None
        self._adder = Adder(store, embedding, tiled=tiled)
        self._searcher = Searcher(store, embedding, tiled=tiled)

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        store: port.VectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """Make a vector store and add texts; without a `store` they are kept in memory. See `add_texts`."""
        made = cls(_in_memory(embedding) if store is None else store, embedding)
        made.add_texts(texts, metadatas, ids=ids, **kwargs)
        return made

    @classmethod
    def from_documents(
        cls,
        documents: list[Document],
        embedding: Embeddings,
        *,
        store: port.VectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """Make a vector store and add documents; without a `store` they are kept in memory. See `add_documents`."""
        made = cls(_in_memory(embedding) if store is None else store, embedding)
        made.add_documents(documents, **kwargs)
        return made

    @classmethod
    async def afrom_documents(
        cls,
        documents: list[Document],
        embedding: Embeddings,
        *,
        store: port.VectorStore | None = None,
        **kwargs: object,
    ) -> Self:
        """`from_documents` in a thread."""
        return await run_in_executor(None, cls.from_documents, documents, embedding, store=store, **kwargs)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """Add texts, each in place of the document with its id.

        Args:
            texts: the texts.
            metadatas: a JSON object for each; `None` gives all an empty one.
            ids: an id for each. Without one it is made of the text and its metadata, so that adding both again
                changes nothing.
            **kwargs: `batch_size`, how many are embedded and written at a time.

        Returns:
            The ids, in the order of `texts`.

        Raises:
            EmbedInputError: an item that cannot be accepted; nothing has been written then.
            PartialFailureError: some could not be added; `kept` has the ids of those that were.
        """
        return self._add_each("texts", texts, metadatas, ids, text_item, kwargs)

    def add_images(
        self,
        uris: Iterable[ImageSource],
        metadatas: list[dict[str, Any]] | None = None,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """Add images; what `add_texts` says goes for them too.

        Args:
            uris: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays. A path is kept as the
                document's `uri`; the image itself is not kept, and nothing is downloaded.
            metadatas: a JSON object for each, without the keys that an image's document needs for itself.
            ids: an id for each, or `None`.
            **kwargs: `batch_size`.
        """
        return self._add_each("uris", uris, metadatas, ids, image_item, kwargs)

    def add_documents(self, documents: list[Document], **kwargs: object) -> list[str]:
        """Add documents: texts, and images by their metadata; `image_document` makes one of an image.

        Args:
            documents: the documents, which stay as they are.
            **kwargs: `ids`, an id for each, which counts more than the document's own; and `batch_size`.

        Returns:
            The ids, in the order of `documents`.

        Raises:
            EmbedInputError: a document that cannot be accepted; nothing has been written then.
            PartialFailureError: some could not be added; `kept` has the ids of those that were.
        """
        options = known_options(kwargs, "ids", "batch_size")
        given = as_list(documents, name="documents")
        ids = one_each(options.pop("ids", None), len(given), name="ids")
        items = [
            document_item(document, record_id, name=f"`documents`[{position}]")
            for position, (document, record_id) in enumerate(zip(given, ids, strict=True))
        ]
        return self._adder.add(items, **options)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Fetch the documents that exist, in the order of `ids`; an id that is not there is no error."""
        return [to_document(record) for record in self._store.get(ids)]

    def delete(self, ids: list[str] | None = None, **kwargs: object) -> bool:
        """Delete by `ids`, or by a `filter`; everything, where neither is given.

        Returns:
            `True`: a failure is an error, and an id that is not there is none.
        """
        where = known_options(kwargs, "filter").get("filter")
        self._store.delete(ids, where={} if ids is None and where is None else where)
        return True

    def similarity_search(self, query: str, k: int = 4, **kwargs: object) -> list[Document]:
        """Find what is nearest to a text."""
        return _documents(self.similarity_search_with_score(query, k, **kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: object) -> list[tuple[Document, float]]:
        """Find what is nearest to a text, with scores: higher is nearer."""
        return _scored(self._searcher.nearest(self._searcher.embed_text, query, k, kwargs))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: object) -> list[Document]:
        """Find what is nearest to a vector."""
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """Find what is nearest to a vector, with scores: higher is nearer."""
        return _scored(self._searcher.nearest(as_vector, embedding, k, kwargs))

    def similarity_search_by_image(self, uri: ImageSource, k: int = 4, **kwargs: object) -> list[Document]:
        """Find what is nearest to an image."""
        return _documents(self.similarity_search_by_image_with_score(uri, k, **kwargs))

    similarity_search_image = similarity_search_by_image  # what stores with images in LangChain's field call it

    def similarity_search_by_image_with_score(
        self, uri: ImageSource, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """Find what is nearest to an image, with scores: higher is nearer."""
        return _scored(self._searcher.nearest(self._searcher.embed_image, uri, k, kwargs))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """Find what is near to a text and unlike one another.

        Args:
            query: the text.
            k: at most this many documents.
            fetch_k: how many of the nearest they are chosen from.
            lambda_mult: 1 weighs only nearness, 0 only difference.
            **kwargs: the class's options. Nearness is compared by cosine: ask for one `modality`.
        """
        hits = self._searcher.diverse(
            self._searcher.embed_text, query, k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult
        )
        return [to_document(hit) for hit in hits]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """Find what is near to a vector and unlike one another."""
        hits = self._searcher.diverse(as_vector, embedding, k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult)
        return [to_document(hit) for hit in hits]

    def max_marginal_relevance_search_by_image(
        self, uri: ImageSource, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """Find what is near to an image and unlike one another."""
        hits = self._searcher.diverse(
            self._searcher.embed_image, uri, k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult
        )
        return [to_document(hit) for hit in hits]

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:  # noqa: ANN401 (as the base)
        """Search in the way that `search_type` names: one of LangChain's, or of `SEARCH_TYPES`."""
        if search_type not in JinaClipRetriever.allowed_search_types:
            allowed = ", ".join(JinaClipRetriever.allowed_search_types)
            raise EmbedInputError(f"`search_type` is {search_type!r}; use one of {allowed}")
        wanted = SEARCH_TYPES.get(search_type)
        if wanted is None:
            return super().search(query, search_type, **kwargs)
        tiles = {} if wanted.tiles is None else {"tiles": wanted.tiles}
        by = self.similarity_search if wanted.query == "text" else self.similarity_search_by_image
        return by(query, modality=wanted.modality, **tiles, **kwargs)

    def as_retriever(self, **kwargs: Any) -> JinaClipRetriever:  # noqa: ANN401 (as the base)
        """Make a retriever.

        Args:
            **kwargs: `search_type`: "similarity" if left out, "similarity_score_threshold", "mmr", or one of
                `SEARCH_TYPES`: "text_to_image", "image_to_image" (the query is a path), "tiles", ...; `k`;
                `search_kwargs`, options of the search; and what every `Runnable` takes.
        """
        tags = kwargs.pop("tags", None)
        return JinaClipRetriever(vectorstore=self, tags=self._get_retriever_tags() if tags is None else tags, **kwargs)

    async def aadd_images(
        self,
        uris: Iterable[ImageSource],
        metadatas: list[dict[str, Any]] | None = None,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """`add_images` in a thread."""
        return await run_in_executor(None, self.add_images, uris, metadatas, ids, **kwargs)

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score_by_vector` in a thread."""
        return await run_in_executor(None, self.similarity_search_with_score_by_vector, embedding, k, **kwargs)

    async def asimilarity_search_by_image(self, uri: ImageSource, k: int = 4, **kwargs: object) -> list[Document]:
        """`similarity_search_by_image` in a thread."""
        return await run_in_executor(None, self.similarity_search_by_image, uri, k, **kwargs)

    asimilarity_search_image = asimilarity_search_by_image

    async def asimilarity_search_by_image_with_score(
        self, uri: ImageSource, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """`similarity_search_by_image_with_score` in a thread."""
        return await run_in_executor(None, self.similarity_search_by_image_with_score, uri, k, **kwargs)

    async def amax_marginal_relevance_search_by_image(
        self, uri: ImageSource, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_image` in a thread."""
        search = self.max_marginal_relevance_search_by_image
        return await run_in_executor(None, search, uri, k, fetch_k, lambda_mult, **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: object) -> list[Document]:
        """`search` in a thread."""
        return await run_in_executor(None, self.search, query, search_type, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _relevance

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        # A threshold needs cosines: nothing is fused here.
        hits = self._searcher.by_cosine(self._searcher.embed_text, query, k, kwargs)
        return [(to_document(hit), _relevance(hit.score)) for hit in hits]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        return await run_in_executor(None, self._similarity_search_with_relevance_scores, query, k, **kwargs)

    def _add_each(
        self,
        name: str,
        sources: Iterable[Any],
        metadatas: object,
        ids: object,
        check: Callable[..., Item],
        kwargs: Mapping[str, object],
    ) -> list[str]:
        options = known_options(kwargs, "batch_size")
        given = as_list(sources, name=name)
        metadatas = one_each(metadatas, len(given), name="metadatas")
        ids = one_each(ids, len(given), name="ids")
        each = enumerate(zip(given, metadatas, ids, strict=True))
        return self._adder.add([check(*fields, name=f"`{name}`[{position}]") for position, fields in each], **options)


def _in_memory(embedding: Embeddings) -> InMemoryStore:
    if isinstance(embedding, JinaClipEmbeddings):
        return InMemoryStore(embedding.config)
    # Of others no more than the name is known; the first vector tells their length.
    return InMemoryStore(EmbeddingConfig(model=type(embedding).__name__))


def _scored(hits: list[SearchHit]) -> list[tuple[Document, float]]:
    return [(to_document(hit), hit.score) for hit in hits]


def _documents(found: list[tuple[Document, float]]) -> list[Document]:
    return [document for document, _ in found]


def _relevance(cosine: float) -> float:
    """A cosine on LangChain's scale of 0 to 1."""
    return float(np.clip((1 + cosine) / 2, 0, 1))
