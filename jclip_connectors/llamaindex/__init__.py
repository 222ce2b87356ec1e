"""LlamaIndex: an embedding model and a vector store for every store of this package."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
    from jclip_connectors.llamaindex.filters import JinaClipMetadataFilter
    from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
except ModuleNotFoundError as error:
    raise MissingDependencyError("llama-index-core", extra="llamaindex") from error

__all__ = ["JinaClipEmbedding", "JinaClipMetadataFilter", "JinaClipVectorStore"]
