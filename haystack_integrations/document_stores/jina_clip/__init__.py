"""The document store for Haystack; `jclip_connectors.haystack` has all of its classes."""

from jclip_connectors.haystack.document_store import JinaClipDocumentStore

__all__ = ["JinaClipDocumentStore"]
