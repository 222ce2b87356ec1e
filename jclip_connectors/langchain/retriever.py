"""LangChain's retriever with search types for images and tiles."""

from collections.abc import Collection
from typing import Any, ClassVar, Literal, NamedTuple

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import ConfigDict, PositiveInt

from jclip_connectors.langchain.documents import with_record_id
from jclip_connectors.port import Modality


class SearchType(NamedTuple):
    """The meaning of a search type.

    Attributes:
        query: whether the query is a text, or the path of an image.
        modality: the modality of the results.
        tiles: whether to search tiles; `None` searches them if the store has tiles.
    """

    query: Literal["text", "image"]
    modality: Modality
    tiles: bool | None = None

    def options(self) -> dict[str, Any]:
        """The options of the search."""
        return {"modality": self.modality} if self.tiles is None else {"modality": self.modality, "tiles": self.tiles}


SEARCH_TYPES: dict[str, SearchType] = {
    "text_to_text": SearchType("text", "text"),
    "text_to_image": SearchType("text", "image"),
    "image_to_text": SearchType("image", "text"),
    "image_to_image": SearchType("image", "image"),
    "tiles": SearchType("text", "image", tiles=True),
}
"""The values of `as_retriever(search_type=...)` in addition to LangChain's own, with their meaning."""


class JinaClipRetriever(VectorStoreRetriever):
    """A retriever with LangChain's search types and those of `SEARCH_TYPES`; the store's `as_retriever` makes it.

    The metadata of each document has its id as `record_id`, of texts and images alike: with `id_key="record_id"`,
    EnsembleRetriever tells apart documents of equal content.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)  # an unknown value may be a key

    allowed_search_types: ClassVar[Collection[str]] = (*VectorStoreRetriever.allowed_search_types, *SEARCH_TYPES)

    k: PositiveInt | None = None
    """The number of documents; `None` uses `search_kwargs`, or the store's default of 4."""

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 (LangChain passes it)
        **kwargs: object,
    ) -> list[Document]:
        found = self.vectorstore.search(query, self.search_type, **self._options(kwargs))
        return [with_record_id(document) for document in found]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 (LangChain passes it)
        **kwargs: object,
    ) -> list[Document]:
        found = await self.vectorstore.asearch(query, self.search_type, **self._options(kwargs))
        return [with_record_id(document) for document in found]

    def _options(self, kwargs: dict[str, object]) -> dict[str, Any]:
        own = {} if self.k is None else {"k": self.k}
        return {**self.search_kwargs, **own, **kwargs}
