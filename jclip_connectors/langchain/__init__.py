"""LangChain: embeddings, a vector store and a retriever for every store of this package."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.langchain.documents import image_document
    from jclip_connectors.langchain.embeddings import JinaClipEmbeddings
    from jclip_connectors.langchain.retriever import SEARCH_TYPES, JinaClipRetriever
    from jclip_connectors.langchain.translator import JinaClipTranslator
    from jclip_connectors.langchain.vector_store import JinaClipVectorStore
except ModuleNotFoundError as error:
    raise MissingDependencyError("langchain-core", extra="langchain") from error

__all__ = [
    "SEARCH_TYPES",
    "JinaClipEmbeddings",
    "JinaClipRetriever",
    "JinaClipTranslator",
    "JinaClipVectorStore",
    "image_document",
]
