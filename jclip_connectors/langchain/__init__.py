"""LangChain: embeddings, a vector store and a retriever over any of the stores."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.langchain.embeddings import JinaClipEmbeddings
    from jclip_connectors.langchain.vector_store import (
        SEARCH_TYPES,
        JinaClipRetriever,
        JinaClipVectorStore,
        image_document,
    )
except ModuleNotFoundError as error:
    raise MissingDependencyError("langchain-core", extra="langchain") from error

__all__ = ["SEARCH_TYPES", "JinaClipEmbeddings", "JinaClipRetriever", "JinaClipVectorStore", "image_document"]
