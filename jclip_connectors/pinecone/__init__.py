"""Pinecone stores: indexes of the Documents API, and older vector indexes."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.pinecone.store import DEFAULT_NAMESPACE, AsyncPineconeStore, PineconeStore, stored_fingerprint
except ModuleNotFoundError as error:
    raise MissingDependencyError("pinecone", extra="pinecone") from error

__all__ = ["DEFAULT_NAMESPACE", "AsyncPineconeStore", "PineconeStore", "stored_fingerprint"]
