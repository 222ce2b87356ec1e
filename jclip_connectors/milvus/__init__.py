"""Milvus stores: a server, or Milvus Lite in a folder."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.milvus.store import AsyncMilvusStore, MilvusStore, stored_fingerprint
except ModuleNotFoundError as error:
    raise MissingDependencyError("pymilvus", extra="milvus") from error

__all__ = ["AsyncMilvusStore", "MilvusStore", "stored_fingerprint"]
