"""LanceDB stores: a folder, or a bucket of an object storage, without a server (lancedb 0.40).

The caller makes the connection. A collection is one table. A batch is written in one commit: as a whole or not at all.
"""

from datetime import timedelta
from typing import Self

import pyarrow as pa
from lancedb.db import AsyncConnection, DBConnection, LanceDBConnection

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.lancedb.clients import AsyncClient, BlockingClient
from jclip_connectors.lancedb.errors import translate
from jclip_connectors.lancedb.operations import ATTEMPTS, LanceFlows, LanceReport
from jclip_connectors.lancedb.schema import MOST_DIMENSIONS, Layout, check_name, read_schema, to_schema
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.clients import check_client, check_config
from jclip_connectors.store_kit.flows import BlockingStore, Flow, run
from jclip_connectors.store_kit.patience import check_patience
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, require_dimensions, resolve_dimensions

__all__ = [
    "AsyncLanceStore",
    "LanceReport",
    "LanceStore",
    "async_lance_optimize",
    "lance_optimize",
    "stored_fingerprint",
]

_REFINE = 10
_PARTITIONS = 64
_KEEP = timedelta(days=7)


class LanceStore(BlockingStore):
    """A collection in LanceDB."""

    _flows: LanceFlows

    @classmethod
    def open(
        cls,
        connection: DBConnection,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        exact: bool = False,
        refine_factor: int = _REFINE,
        nprobes: int = _PARTITIONS,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection.

        Args:
            connection: your `lancedb.connect(...)`, to a folder or to an object storage.
            collection_name: the name of the table: letters from A to Z, digits, "_", "-" and ".".
            config: the configuration of the vectors.
            exact: compare all vectors also where `lance_optimize` has made an index: slower.
            refine_factor: how many times as many results an index gives as are asked for; their whole vectors are then
                compared. More is slower and more exact.
            nprobes: how many parts of an index are searched, at least; an index has one for about a million records.
            dimensions: length of the vectors of a new collection, if `config` does not set it.
            patience_s: how long each call waits while LanceDB cannot write, in seconds without any success. `None`
                tries again twice. Opening waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: another program made the table, or LanceDB refuses the request.
            StoreUnavailableError: there are too many writers, the disk is full, or the storage cannot be reached.
            EmbedInputError: a bad connection or option, or an option differs from the setting of the collection.
        """
        limit_s = check_patience(patience_s)
        _check_connection(connection, asyncio=False)
        client = BlockingClient(connection, check_name(collection_name))
        opening = _open(
            collection_name,
            config,
            exact=exact,
            refine_factor=refine_factor,
            nprobes=nprobes,
            dimensions=dimensions,
        )
        flows = run(opening, client, translate=translate, attempts=ATTEMPTS)
        return cls(client, flows, patience_s=limit_s)


class AsyncLanceStore(AsyncStore):
    """A collection in LanceDB, through an asyncio connection."""

    _flows: LanceFlows

    @classmethod
    async def open(
        cls,
        connection: AsyncConnection,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        exact: bool = False,
        refine_factor: int = _REFINE,
        nprobes: int = _PARTITIONS,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection; see `LanceStore.open`."""
        limit_s = check_patience(patience_s)
        _check_connection(connection, asyncio=True)
        client = AsyncClient(connection, check_name(collection_name))
        opening = _open(
            collection_name,
            config,
            exact=exact,
            refine_factor=refine_factor,
            nprobes=nprobes,
            dimensions=dimensions,
        )
        # In threads: the fingerprint of a model in a folder needs the hash of its weights.
        flows = await run_async(opening, client, translate=translate, attempts=ATTEMPTS, in_threads=True)
        return cls(client, flows, patience_s=limit_s)


def lance_optimize(store: LanceStore, *, keep: timedelta = _KEEP) -> LanceReport:
    """Make searches of a collection fast: merge its small files, and make or update its indexes.

    Each write adds a file, and a search reads them all. A collection of more than 4,096 records gets an index of its
    vectors (HNSW); records that are written later are compared one by one until the next call. Others may write
    meanwhile.

    Args:
        store: the collection.
        keep: versions of the table that are older are removed. Less than an hour may take files from programs that
            read them now.

    Raises:
        StoreUnavailableError: the disk is full, or others write too much: call it again.
        EmbedInputError: `store` is of another kind, or `keep` is no duration.
    """
    if not isinstance(store, LanceStore):
        raise EmbedInputError(f"`store` is {type(store).__name__}: pass a LanceStore")
    return store._run(store._flows.optimize(_check_keep(keep)))


async def async_lance_optimize(store: AsyncLanceStore, *, keep: timedelta = _KEEP) -> LanceReport:
    """The asyncio version of `lance_optimize`.

    Args:
        store: the collection.
        keep: versions of the table that are older are removed.

    Raises:
        StoreUnavailableError: the disk is full, or others write too much: call it again.
        EmbedInputError: `store` is of another kind, or `keep` is no duration.
    """
    if not isinstance(store, AsyncLanceStore):
        raise EmbedInputError(f"`store` is {type(store).__name__}: pass an AsyncLanceStore")
    return await store._run(store._flows.optimize(_check_keep(keep)))


def stored_fingerprint(connection: DBConnection, collection_name: str) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if there is no such collection.

    Args:
        connection: your `lancedb.connect(...)`.
        collection_name: the name of the table.

    Raises:
        StoreRequestError: another program made the table, or LanceDB refuses the request.
        StoreUnavailableError: the storage cannot be reached.
    """
    _check_connection(connection, asyncio=False)
    client = BlockingClient(connection, check_name(collection_name))
    schema: pa.Schema | None = run(_find(), client, translate=translate, attempts=ATTEMPTS)
    return None if schema is None else read_schema(schema, collection_name)[0]


def _check_connection(connection: object, *, asyncio: bool) -> None:
    other = isinstance(connection, DBConnection) and not isinstance(connection, LanceDBConnection)
    if other or (isinstance(connection, AsyncConnection) and connection.uri.startswith("db://")):
        raise EmbedInputError(
            "`connection` is one to LanceDB Cloud or Enterprise, which is not supported: pass `lancedb.connect(...)` "
            "of a folder or of an object storage"
        )
    check_client(
        connection,
        kinds=(AsyncConnection,) if asyncio else (DBConnection,),
        needs="open_table",
        asyncio=asyncio,
        twin="LanceStore" if asyncio else "AsyncLanceStore",
        example="await lancedb.connect_async(...)" if asyncio else "lancedb.connect(...)",
        parameter="connection",
    )


def _check_keep(keep: object) -> timedelta:
    if not isinstance(keep, timedelta) or keep < timedelta(0):
        raise EmbedInputError(f"`keep` is {keep!r}: pass a `datetime.timedelta`")
    return keep


def _open(
    name: str, config: EmbeddingConfig, *, exact: bool, refine_factor: int, nprobes: int, dimensions: int | None
) -> Flow[LanceFlows]:
    check_config(config)
    check_count(refine_factor, name="refine_factor")
    check_count(nprobes, name="nprobes")
    length = resolve_dimensions(config, dimensions, most=MOST_DIMENSIONS)
    fingerprint = config.fingerprint()
    schema = yield from _find()
    if schema is None:
        layout = Layout(dimensions=require_dimensions(length), tiled=config.tiling is not None)
        schema = yield from _create(to_schema(layout, fingerprint))
    stored, layout = read_schema(schema, name)
    check_fingerprint(stored, fingerprint, collection=f"the collection {name!r}")
    if dimensions not in (None, layout.dimensions):
        raise EmbedInputError(
            f"`dimensions` is {dimensions!r}, but the collection {name!r} was made with {layout.dimensions!r}: leave "
            "it out, or make a new collection"
        )
    return LanceFlows(name, stored, layout, exact=exact, refine=refine_factor, partitions=nprobes)


def _create(schema: pa.Schema) -> Flow[pa.Schema]:
    try:
        yield lambda client: client.create(schema)
    except StoreRequestError:
        found = yield from _find()
        if found is None:
            raise
        return found  # another process has made it in the meantime
    return schema


def _find() -> Flow[pa.Schema | None]:
    schema: pa.Schema | None = yield lambda client: client.schema()
    return schema
