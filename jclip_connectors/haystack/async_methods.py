"""The async methods of the document store."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from jclip_connectors.haystack.operations import Operations
from jclip_connectors.port import Modality
from jclip_connectors.store_kit.flows import Flow

_Result = TypeVar("_Result")


class AsyncMethods:
    """The async versions of the methods of `JinaClipDocumentStore`, with the same arguments, results and errors.

    On an asyncio store they await its methods; on a blocking store they run in threads.
    """

    async def _arun(self, flow_of: Callable[[Operations], Flow[_Result]]) -> _Result:
        raise NotImplementedError

    async def count_documents_async(self) -> int:
        """`count_documents`, awaited."""
        return await self._arun(lambda operations: operations.count(None))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """`count_documents_by_filter`, awaited."""
        return await self._arun(lambda operations: operations.count(filters))

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """`filter_documents`, awaited."""
        return await self._arun(lambda operations: operations.filter(filters))

    async def get_documents_async(self, document_ids: Sequence[str]) -> list[Document]:
        """`get_documents`, awaited."""
        return await self._arun(lambda operations: operations.get(document_ids))

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """`write_documents`, awaited."""
        return await self._arun(lambda operations: operations.write(documents, policy))

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """`delete_documents`, awaited."""
        await self._arun(lambda operations: operations.delete(document_ids))

    async def delete_all_documents_async(self) -> None:
        """`delete_all_documents`, awaited."""
        await self._arun(lambda operations: operations.delete_where(None))

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """`delete_by_filter`, awaited."""
        return await self._arun(lambda operations: operations.delete_where(filters))

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """`update_by_filter`, awaited."""
        return await self._arun(lambda operations: operations.update_where(filters, meta))

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        *,
        modality: Modality | None = None,
        tiles: bool | None = None,
    ) -> list[Document]:
        """`embedding_retrieval`, awaited."""
        return await self._arun(
            lambda operations: operations.search(query_embedding, filters, top_k=top_k, modality=modality, tiles=tiles)
        )
