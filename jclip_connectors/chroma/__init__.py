"""Chroma: stores of collections, and an embedding function and a loader of image files for collections of your own.

Importing this module registers the function with chromadb, so that a collection that was made with it opens again
without naming it.
"""

from jclip_connectors.errors import MissingDependencyError

try:
    from chromadb.utils.embedding_functions import register_embedding_function

    from jclip_connectors.chroma.store import CANDIDATES, AsyncChromaStore, ChromaStore, stored_fingerprint
except ModuleNotFoundError as error:
    raise MissingDependencyError("chromadb", extra="chroma") from error

from jclip_connectors.chroma.embedding_function import JinaClipEmbeddingFunction
from jclip_connectors.chroma.image_loader import JinaClipImageLoader

register_embedding_function(JinaClipEmbeddingFunction)  # type: ignore[no-untyped-call]  # chromadb's

__all__ = [
    "CANDIDATES",
    "AsyncChromaStore",
    "ChromaStore",
    "JinaClipEmbeddingFunction",
    "JinaClipImageLoader",
    "stored_fingerprint",
]
