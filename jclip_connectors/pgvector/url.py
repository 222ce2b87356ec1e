"""The place that `postgresql://HOST:PORT/DATABASE/COLLECTION` names, and `postgres://`."""

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote

import psycopg

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.pgvector.errors import translate
from jclip_connectors.pgvector.reconnecting import Reconnecting
from jclip_connectors.pgvector.store import PgVectorStore, stored_fingerprint
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.places import DEFAULTS, Place, ServerUrl, StoreScheme, connect


def _place(url: ServerUrl, stack: ExitStack) -> Place:
    database, slash, collection = (unquote(part) for part in url.path.strip("/").partition("/"))
    if not database or not slash or not collection or "/" in collection:
        raise EmbedInputError(
            f"{url.argument} names no database and collection; write {url.scheme}://{url.address}/DATABASE/COLLECTION"
        )
    url.numbers()
    timeouts: dict[str, Any] = {}
    if url.timeout_s is not None:
        # `options` takes the place of PGOPTIONS, so what the variable says is repeated first.
        options = f"{os.environ.get('PGOPTIONS', '')} -c statement_timeout={math.ceil(url.timeout_s * 1000)}ms"
        timeouts = {"connect_timeout": math.ceil(url.timeout_s), "options": options.strip()}

    def make() -> psycopg.Connection:
        # Not as a URL, because psycopg's errors would repeat it.
        return psycopg.connect(host=url.host, port=url.port or 5432, dbname=database, autocommit=True, **timeouts)

    connection = connect(lambda: Reconnecting(make), translate)
    stack.callback(connection.close)

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        return PgVectorStore.open(connection, collection, config, dimensions=dimensions, **search)

    return Place(
        name=url.name,
        fingerprint=lambda: stored_fingerprint(connection, collection),
        open=open_store,
        search_options=("candidates",),
        client=connection,
        collection=collection,
    )


SCHEME = StoreScheme(server=_place)
