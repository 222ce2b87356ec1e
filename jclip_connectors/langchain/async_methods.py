"""The async methods of the vector store."""

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore

from jclip_connectors.langchain.documents import documents_as_items, images_as_items, texts_as_items, to_document
from jclip_connectors.langchain.operations import Operations
from jclip_connectors.langchain.scores import as_cosine, scored, with_relevance, without_scores
from jclip_connectors.langchain.searching import image_query, text_query, vector_query
from jclip_connectors.port import ImageSource


class AsyncMethods(VectorStore):
    """The async versions of the methods of `JinaClipVectorStore`, with the same arguments, results and errors.

    On an asyncio store they await its methods; on a blocking store they run in threads.
    """

    _operations: Operations

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """`add_texts`, awaited."""
        # A large call takes seconds to check: the event loop goes on meanwhile.
        items, options = await run_in_executor(None, texts_as_items, texts, metadatas, ids, kwargs)
        return await self._operations.aadd(items, **options)

    async def aadd_images(
        self,
        uris: Iterable[ImageSource],
        metadatas: list[dict[str, Any]] | None = None,
        ids: list[str] | None = None,
        **kwargs: object,
    ) -> list[str]:
        """`add_images`, awaited."""
        items, options = await run_in_executor(None, images_as_items, uris, metadatas, ids, kwargs)
        return await self._operations.aadd(items, **options)

    async def aadd_documents(self, documents: list[Document], **kwargs: object) -> list[str]:
        """`add_documents`, awaited."""
        items, options = await run_in_executor(None, documents_as_items, documents, kwargs)
        return await self._operations.aadd(items, **options)

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids`, awaited."""
        return [to_document(record) for record in await self._operations.arun(self._operations.get(ids))]

    async def adelete(self, ids: list[str] | None = None, **kwargs: object) -> bool:
        """`delete`, awaited."""
        await self._operations.arun(self._operations.delete(ids, kwargs))
        return True

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: object) -> list[Document]:
        """`similarity_search`, awaited."""
        return without_scores(await self.asimilarity_search_with_score(query, k, **kwargs))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score`, awaited."""
        return scored(await self._operations.arun(self._operations.searcher.nearest(text_query(query), k, kwargs)))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: object
    ) -> list[Document]:
        """`similarity_search_by_vector`, awaited."""
        return without_scores(await self.asimilarity_search_with_score_by_vector(embedding, k, **kwargs))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_score_by_vector`, awaited."""
        return scored(
            await self._operations.arun(self._operations.searcher.nearest(vector_query(embedding), k, kwargs))
        )

    async def asimilarity_search_by_image(self, uri: ImageSource, k: int = 4, **kwargs: object) -> list[Document]:
        """`similarity_search_by_image`, awaited."""
        return without_scores(await self.asimilarity_search_by_image_with_score(uri, k, **kwargs))

    asimilarity_search_image = asimilarity_search_by_image

    async def asimilarity_search_by_image_with_score(
        self, uri: ImageSource, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """`similarity_search_by_image_with_score`, awaited."""
        return scored(await self._operations.arun(self._operations.searcher.nearest(image_query(uri), k, kwargs)))

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """`max_marginal_relevance_search`, awaited."""
        flow = self._operations.searcher.diverse(text_query(query), k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult)
        return [to_document(hit) for hit in await self._operations.arun(flow)]

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_vector`, awaited."""
        flow = self._operations.searcher.diverse(
            vector_query(embedding), k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult
        )
        return [to_document(hit) for hit in await self._operations.arun(flow)]

    async def amax_marginal_relevance_search_by_image(
        self, uri: ImageSource, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: object
    ) -> list[Document]:
        """`max_marginal_relevance_search_by_image`, awaited."""
        flow = self._operations.searcher.diverse(image_query(uri), k, kwargs, fetch_k=fetch_k, lambda_mult=lambda_mult)
        return [to_document(hit) for hit in await self._operations.arun(flow)]

    async def asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: object
    ) -> list[tuple[Document, float]]:
        """`similarity_search_with_relevance_scores`, awaited."""
        flow = self._operations.searcher.nearest(text_query(query), k, as_cosine(kwargs))
        return with_relevance(await self._operations.arun(flow))
