"""PostgreSQL stores with the extension pgvector."""

from jclip_connectors.errors import MissingDependencyError

try:
    from jclip_connectors.pgvector.store import AsyncPgVectorStore, Hnsw, PgVectorStore, stored_fingerprint
except ModuleNotFoundError as error:
    raise MissingDependencyError("psycopg", extra="pgvector") from error

__all__ = ["AsyncPgVectorStore", "Hnsw", "PgVectorStore", "stored_fingerprint"]
