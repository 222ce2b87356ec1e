"""PostgreSQL stores with the extension pgvector (psycopg >= 3.2, pgvector >= 0.8, PostgreSQL 13 or later).

The caller makes and closes the connection or pool, and sets its credentials and timeouts. A collection is two tables
and a row in `jclip_collections`. A search is one statement; a batch is written in one transaction.
"""

from typing import Self

import psycopg

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.pgvector.clients import AsyncClient, AsyncConnection, BlockingClient, Connection
from jclip_connectors.pgvector.errors import translate
from jclip_connectors.pgvector.opening import find_flow, open_flow
from jclip_connectors.pgvector.operations import ATTEMPTS, PgVectorFlows
from jclip_connectors.pgvector.schema import Hnsw, Quantization, Storage, check_names
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.clients import check_client
from jclip_connectors.store_kit.coarse import CANDIDATES, CoarseDimensions
from jclip_connectors.store_kit.flows import BlockingStore, run
from jclip_connectors.store_kit.patience import check_patience

__all__ = ["AsyncPgVectorStore", "Hnsw", "PgVectorStore", "stored_fingerprint"]

_SCHEMA = "public"


class PgVectorStore(BlockingStore):
    """A collection in PostgreSQL."""

    def __init__(self, client: BlockingClient, flows: PgVectorFlows, *, patience_s: float | None = None) -> None:
        """Keep a connection; call `open` instead."""
        super().__init__(client, flows, patience_s=patience_s)
        self._vector_tolerance = flows.vector_tolerance

    @property
    def vector_tolerance(self) -> float:
        """The most that a value of a stored vector of unit length differs from what was written: more for "halfvec"."""
        return self._vector_tolerance

    @classmethod
    def open(
        cls,
        connection: Connection,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        schema: str = _SCHEMA,
        storage: Storage | None = None,
        coarse_dimensions: CoarseDimensions = "auto",
        quantization: Quantization | None = None,
        hnsw: Hnsw | None = None,
        candidates: int = CANDIDATES,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection.

        Args:
            connection: your `psycopg.Connection`, for one transaction at a time, or your
                `psycopg_pool.ConnectionPool`, for many threads; you close it. If the connection has an open
                transaction, writes are a part of it, and other connections see them after your commit.
            collection_name: up to 52 bytes; the name of the table of the records. The store also has the tables
                `<name>_tiles` and `jclip_collections`.
            config: the configuration of the vectors.
            schema: the schema of the tables.
            storage: the type of the vectors: "vector", 32 bits per value, or "halfvec", 16 bits: half the space, and
                scores that are exact to about 0.001. `None` keeps the setting of an existing collection; for a new
                one it is "vector".
            coarse_dimensions: length of the prefix of the vectors that is searched first: faster, but correct only for
                models trained for prefixes. "auto" keeps the setting of an existing collection; for a new one without
                `quantization` it is 64 if the model was trained for prefixes and the vectors have more than 128
                values, else no prefix. `None` is no prefix.
            quantization: "binary" searches one bit per value first, and rescores the candidates with the full vectors.
                `None` keeps the setting of an existing collection; for a new one it is no quantization.
            hnsw: make an HNSW index on the vectors that are searched first, if there is none. This is slow and blocks
                writes: do it once for a large collection, after the records are written. The index is used for
                searches without a filter in collections of more than ten times `candidates`. `None` changes nothing;
                without an index, the first stage of every search compares all records.
            candidates: the smallest number of records that are compared by their full vectors or tiles: more is
                slower and more exact. Search is exact in a collection of this size.
            dimensions: length of the vectors of a new collection, if `config` does not set it.
            patience_s: how long each call waits for a database that is busy or cannot be reached, in seconds without
                any success. `None` waits up to 60 s for one that says that it is busy, and tries again twice at
                any other failure. Opening waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: another program made a table with this name, the database does not have pgvector, or
                it refuses the request.
            StoreUnavailableError: the database cannot be reached.
            EmbedInputError: a bad connection or option, or an option differs from the setting of the collection.
        """
        limit_s = check_patience(patience_s)
        _check_connection(connection, asyncio=False)
        client = BlockingClient(connection)
        opening = open_flow(
            collection_name,
            config,
            schema=schema,
            storage=storage,
            coarse_dimensions=coarse_dimensions,
            quantization=quantization,
            hnsw=hnsw,
            candidates=candidates,
            dimensions=dimensions,
        )
        flows = run(opening, client, translate=translate, attempts=ATTEMPTS)
        return cls(client, flows, patience_s=limit_s)


class AsyncPgVectorStore(AsyncStore):
    """A collection in PostgreSQL, through an asyncio connection or pool."""

    @classmethod
    async def open(
        cls,
        connection: AsyncConnection,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        schema: str = _SCHEMA,
        storage: Storage | None = None,
        coarse_dimensions: CoarseDimensions = "auto",
        quantization: Quantization | None = None,
        hnsw: Hnsw | None = None,
        candidates: int = CANDIDATES,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection; see `PgVectorStore.open`."""
        limit_s = check_patience(patience_s)
        _check_connection(connection, asyncio=True)
        client = AsyncClient(connection)
        opening = open_flow(
            collection_name,
            config,
            schema=schema,
            storage=storage,
            coarse_dimensions=coarse_dimensions,
            quantization=quantization,
            hnsw=hnsw,
            candidates=candidates,
            dimensions=dimensions,
        )
        # In threads: the fingerprint of a model in a folder needs the hash of its weights.
        flows = await run_async(opening, client, translate=translate, attempts=ATTEMPTS, in_threads=True)
        return cls(client, flows, patience_s=limit_s)


def _check_connection(connection: object, *, asyncio: bool) -> None:
    check_client(
        connection,
        kinds=(psycopg.AsyncConnection,) if asyncio else (psycopg.Connection,),
        needs="connection",  # of a pool
        asyncio=asyncio,
        twin="PgVectorStore" if asyncio else "AsyncPgVectorStore",
        example="await psycopg.AsyncConnection.connect(...)" if asyncio else "psycopg.connect(...)",
        parameter="connection",
    )


def stored_fingerprint(connection: Connection, collection_name: str, *, schema: str = _SCHEMA) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if the collection does not exist.

    Args:
        connection: your connection or pool; you close it.
        collection_name: the name of the collection.
        schema: the schema of its tables.

    Raises:
        StoreRequestError: another program made a table with this name, the database does not have pgvector, or it
            refuses the request.
        StoreUnavailableError: the database cannot be reached.
    """
    _check_connection(connection, asyncio=False)
    finding = find_flow(check_names(collection_name, schema))
    found = run(finding, BlockingClient(connection), translate=translate, attempts=ATTEMPTS)
    return None if found is None else found.fingerprint
