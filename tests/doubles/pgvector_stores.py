"""Collections in the PostgreSQL at POSTGRES_URL (postgresql://USER:PASSWORD@HOST/DATABASE), or in the tests' own."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg import sql

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.port import VectorStore
from jclip_connectors.testing.store_contract import E
from tests.doubles.postgres_server import postgres
from tests.every_store.live_stores import OpenStore


def address() -> dict[str, Any]:
    """Where the server is, as the options of `psycopg.connect`."""
    url = os.environ.get("POSTGRES_URL")
    return {"conninfo": url, "autocommit": True} if url else postgres().address()


@contextmanager
def schema() -> Iterator[tuple[psycopg.Connection[Any], str]]:
    """A connection, and a new schema."""
    name = f"jclip_test_{secrets.token_hex(6)}"
    with closing(psycopg.connect(**address())) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        try:
            yield connection, name
        finally:
            with contextlib.suppress(psycopg.OperationalError):  # the test has ended the connection
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@contextmanager
def stores() -> Iterator[OpenStore]:
    opened: dict[EmbeddingConfig, PgVectorStore] = {}
    with schema() as (connection, name):

        def open_store(config: EmbeddingConfig) -> VectorStore:
            if config not in opened:
                dimensions = E if config.embedding_dim is None else None
                opened[config] = PgVectorStore.open(
                    connection, f"photos {len(opened)}", config, schema=name, dimensions=dimensions
                )
            opened[config].delete(where={})
            return opened[config]

        yield open_store
