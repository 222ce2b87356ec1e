"""Vectors from an endpoint with the hosted API's protocol, without torch."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.remote.async_embedder import AsyncRemoteEmbedder
    from jclip_connectors.remote.embedder import RemoteEmbedder
except ModuleNotFoundError as error:
    raise MissingDependencyError("httpx", extra="remote") from error

__all__ = ["AsyncRemoteEmbedder", "RemoteEmbedder"]
