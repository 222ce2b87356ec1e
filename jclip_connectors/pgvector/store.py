"""PostgreSQL with the extension pgvector (psycopg >= 3.2, pgvector >= 0.8, PostgreSQL 13 or later).

The connection, or the pool, is the caller's: its credentials, its timeouts, and whether it is closed. A collection is
two tables and a row in `jclip_collections`; one statement does a whole search, one transaction writes a batch.
"""

from typing import Self

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.pgvector.clients import AsyncClient, AsyncConnection, BlockingClient, Connection
from jclip_connectors.pgvector.errors import translate
from jclip_connectors.pgvector.opening import find_flow, open_flow
from jclip_connectors.pgvector.operations import ATTEMPTS
from jclip_connectors.pgvector.schema import Hnsw, Quantization, Storage, check_names
from jclip_connectors.store_kit.coarse import CANDIDATES, CoarseDimensions
from jclip_connectors.store_kit.flows import AsyncStore, BlockingStore, run, run_async

__all__ = ["AsyncPgVectorStore", "Hnsw", "PgVectorStore", "stored_fingerprint"]

_SCHEMA = "public"


class PgVectorStore(BlockingStore):
    """A collection in PostgreSQL."""

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
    ) -> Self:
        """Open a collection, or make it.

        Args:
            connection: your `psycopg.Connection`, for one transaction at a time, or your
                `psycopg_pool.ConnectionPool`, for many threads; it stays yours to close. In a transaction of yours,
                what the store writes is a part of it: others see it when you commit.
            collection_name: up to 52 bytes; the name of the table of the records, beside which are the tables
                `<name>_tiles` and `jclip_collections`.
            config: what the vectors are made with.
            schema: where the tables are.
            storage: the type of the vectors: "vector", 32 bits a value, or "halfvec", 16 bits: half the room, and
                scores that are right to about 0.001. `None` is what the collection was made with, and "vector" for a
                new one.
            coarse_dimensions: length of the prefix of the vectors that is searched first: faster, and right only for
                models trained so that a prefix means something. "auto" is what the collection was made with; for a new
                one without `quantization` 64 where the model was trained so and the vectors have more than 128 values,
                else none. `None` is no such prefix.
            quantization: "binary" searches a bit of each value first, and compares what it finds by the whole vectors.
                `None` is what the collection was made with, and none for a new one.
            hnsw: make an index, a graph, on what is searched first, if there is none yet. Making it is slow and holds
                up writing: open a large collection with it once, after the records are written. It is used for searches
                without a filter in collections of more than ten times `candidates`. `None` leaves the collection as it
                is, without an index if it is new: then every search compares all records in its first stage.
            candidates: how many records, at least, are compared by their whole vectors or their tiles: more make a
                search slower and nearer to exact. A collection of no more is searched exactly.
            dimensions: length of the vectors of a new collection, where `config` does not know it.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: another program made a table of that name; the database has no pgvector, or refuses.
            StoreUnavailableError: the database cannot be reached.
            EmbedInputError: an option is out of range, or not what the collection was made with.
        """
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
        return cls(client, run(opening, client, translate=translate, attempts=ATTEMPTS))


class AsyncPgVectorStore(AsyncStore):
    """A collection in PostgreSQL, for a program with an event loop."""

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
    ) -> Self:
        """Open a collection, or make it, over an asyncio connection or pool; see `PgVectorStore.open`."""
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
        return cls(client, await run_async(opening, client, translate=translate, attempts=ATTEMPTS))


def stored_fingerprint(connection: Connection, collection_name: str, *, schema: str = _SCHEMA) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if there is no such collection.

    Args:
        connection: your connection or pool; it stays yours to close.
        collection_name: the name that the collection was opened with.
        schema: where its tables are.

    Raises:
        StoreRequestError: another program made a table of that name; the database has no pgvector, or refuses.
        StoreUnavailableError: the database cannot be reached.
    """
    finding = find_flow(check_names(collection_name, schema))
    found = run(finding, BlockingClient(connection), translate=translate, attempts=ATTEMPTS)
    return None if found is None else found.fingerprint
