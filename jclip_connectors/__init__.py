"""jina-clip embeddings in your vector database: one configuration, one collection, every store.

Importing this package loads no SDK and no torch; a store or an embedder loads its own when its package is imported.
"""

from core_encoder.tiling import Box, Tiling
from jclip_connectors.collection import AddReport, AsyncMultimodalCollection, MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    MissingDependencyError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.port import NativeFilter, Record, SearchHit

__all__ = [
    "AddReport",
    "AsyncMultimodalCollection",
    "Box",
    "CollectionMismatchError",
    "ConnectorError",
    "EmbedInputError",
    "EmbeddingConfig",
    "MissingDependencyError",
    "MultimodalCollection",
    "NativeFilter",
    "PartialFailureError",
    "Record",
    "SearchHit",
    "StoreRequestError",
    "StoreUnavailableError",
    "Tiling",
]
