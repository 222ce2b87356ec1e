"""jina-clip embeddings in your vector database: one configuration, one collection, every store.

Importing the package loads no SDK and no torch; a store or an embedder loads its own when its module is imported.
"""

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig

__all__ = ["EmbeddingConfig", "MultimodalCollection"]
