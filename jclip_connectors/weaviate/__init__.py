"""Weaviate stores: your own server, Weaviate Cloud, or Embedded Weaviate."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.weaviate.store import AsyncWeaviateStore, Hybrid, Quantizer, WeaviateStore, stored_fingerprint
except ModuleNotFoundError as error:
    raise MissingDependencyError("weaviate-client", extra="weaviate") from error

__all__ = ["AsyncWeaviateStore", "Hybrid", "Quantizer", "WeaviateStore", "stored_fingerprint"]
