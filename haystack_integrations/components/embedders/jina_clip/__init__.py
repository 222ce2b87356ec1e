"""Embedders for Haystack; `jclip_connectors.haystack` has all of its classes."""

from jclip_connectors.haystack.image_embedders import JinaClipImageDocumentEmbedder, JinaClipImageEmbedder
from jclip_connectors.haystack.text_embedders import JinaClipDocumentEmbedder, JinaClipTextEmbedder

__all__ = [
    "JinaClipDocumentEmbedder",
    "JinaClipImageDocumentEmbedder",
    "JinaClipImageEmbedder",
    "JinaClipTextEmbedder",
]
