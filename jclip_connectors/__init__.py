"""jina-clip embeddings in your vector database: one configuration and one collection interface for every store.

Importing this package loads neither torch nor an SDK; importing a store's or an embedder's package loads its SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = (
    "core_encoder.tiling",
    "jclip_connectors.collection",
    "jclip_connectors.config",
    "jclip_connectors.errors",
    "jclip_connectors.port",
)


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562): `jclip` can be interrupted from its first moment."""
    if name in __all__:
        for module in map(import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    if f"{__name__}.{name}" in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, also before their first use."""
    return sorted({*globals(), *__all__})
