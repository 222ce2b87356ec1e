"""Haystack: embedders, a document store and retrievers for every store of this package."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.haystack.document_store import JinaClipDocumentStore
    from jclip_connectors.haystack.errors import DocumentsNotEmbeddedError, FilterInputError
    from jclip_connectors.haystack.image_embedders import JinaClipImageDocumentEmbedder, JinaClipImageEmbedder
    from jclip_connectors.haystack.retrievers import (
        JinaClipEmbeddingRetriever,
        JinaClipImageRetriever,
        JinaClipTextRetriever,
    )
    from jclip_connectors.haystack.text_embedders import JinaClipDocumentEmbedder, JinaClipTextEmbedder
except ModuleNotFoundError as error:
    raise MissingDependencyError("haystack-ai", extra="haystack") from error

__all__ = [
    "DocumentsNotEmbeddedError",
    "FilterInputError",
    "JinaClipDocumentEmbedder",
    "JinaClipDocumentStore",
    "JinaClipEmbeddingRetriever",
    "JinaClipImageDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipImageRetriever",
    "JinaClipTextEmbedder",
    "JinaClipTextRetriever",
]
