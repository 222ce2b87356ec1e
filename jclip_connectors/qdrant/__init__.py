"""Qdrant stores: a server, a cloud cluster, or qdrant-client's local mode."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.qdrant.store import AsyncQdrantStore, QdrantStore, Quantization, stored_fingerprint
except ModuleNotFoundError as error:
    raise MissingDependencyError("qdrant-client", extra="qdrant") from error

__all__ = ["AsyncQdrantStore", "QdrantStore", "Quantization", "stored_fingerprint"]
