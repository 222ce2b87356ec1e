"""LanceDB stores: a collection is a table in a folder or in an object storage, and no server is needed.

Importing this module registers the embedding function "jclip" with lancedb, so that a table that was made with it can
be opened.
"""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.lancedb.embedding_function import JinaClipEmbeddings
    from jclip_connectors.lancedb.store import (
        AsyncLanceStore,
        LanceReport,
        LanceStore,
        async_lance_optimize,
        lance_optimize,
        stored_fingerprint,
    )
except ModuleNotFoundError as error:
    raise MissingDependencyError("lancedb", extra="lancedb") from error

__all__ = [
    "AsyncLanceStore",
    "JinaClipEmbeddings",
    "LanceReport",
    "LanceStore",
    "async_lance_optimize",
    "lance_optimize",
    "stored_fingerprint",
]
