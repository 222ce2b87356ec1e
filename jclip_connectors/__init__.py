"""jina-clip embeddings in your vector database: one configuration and one collection interface for every store.

Importing this package loads neither torch nor an SDK; importing a store's or an embedder's package loads its SDK.
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
