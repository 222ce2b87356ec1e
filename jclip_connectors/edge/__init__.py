"""Qdrant's engine inside this process: each collection is a folder, and no server is needed."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.edge.optimize import OptimizeReport, optimize_collection
    from jclip_connectors.edge.store import QdrantEdgeStore
except ModuleNotFoundError as error:
    raise MissingDependencyError("qdrant-edge-py", extra="edge") from error

__all__ = ["OptimizeReport", "QdrantEdgeStore", "optimize_collection"]
