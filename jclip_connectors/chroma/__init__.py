"""Chroma: an embedding function for texts and images, and a loader of image files.

Importing this module registers the function with chromadb, so that a collection that was made with it opens again
without naming it.
"""

import importlib
import importlib.util

from jclip_connectors.chroma.embedding_function import JinaClipEmbeddingFunction
from jclip_connectors.chroma.image_loader import JinaClipImageLoader

if importlib.util.find_spec("chromadb") is not None:
    importlib.import_module("chromadb.utils.embedding_functions").register_embedding_function(JinaClipEmbeddingFunction)

__all__ = ["JinaClipEmbeddingFunction", "JinaClipImageLoader"]
