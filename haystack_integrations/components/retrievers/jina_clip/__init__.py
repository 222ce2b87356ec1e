"""Retrievers for Haystack; `jclip_connectors.haystack` has all of its classes."""

from jclip_connectors.haystack.retrievers import (
    JinaClipEmbeddingRetriever,
    JinaClipImageRetriever,
    JinaClipTextRetriever,
)

__all__ = ["JinaClipEmbeddingRetriever", "JinaClipImageRetriever", "JinaClipTextRetriever"]
