"""Milvus stores: a server, and Milvus Lite in a folder (pymilvus >= 3, milvus-lite >= 3.2).

A client is the caller's, who sets its credentials and closes it. For the path of a Milvus Lite database the store makes
a client of its own, and closes that. Milvus Lite was run; facts about a server are from its documentation (2026), its
source and the client.
"""

import asyncio
import os
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Self

from pymilvus import AsyncMilvusClient, MilvusClient

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.milvus.clients import AsyncLiteClient
from jclip_connectors.milvus.errors import translate
from jclip_connectors.milvus.locks import Lease, lite_path
from jclip_connectors.milvus.opening import (
    ASYNC_EXAMPLE,
    TIMEOUT_S,
    Index,
    check_kind,
    client_of,
    connected,
    look_up,
    make_plan,
    open_alone,
    open_collection,
)
from jclip_connectors.milvus.schema import read_fingerprint
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.flows import BlockingStore
from jclip_connectors.store_kit.patience import check_patience

__all__ = ["AsyncMilvusStore", "Index", "MilvusStore", "stored_fingerprint"]


class MilvusStore(BlockingStore):
    """A collection in Milvus, or in Milvus Lite.

    Tiles are rows of a second collection, `<name>_tiles`. A search over tiles asks for more tiles than records, and
    again without the records that it has found, until there are enough. A search returns at most 16,384 records.

    A `NativeFilter` holds an expression as a string, over the fields `record_id`, `modality`, `terms` and `numbers`.
    """

    _closing: ExitStack

    @classmethod
    def open(
        cls,
        client: MilvusClient | str | os.PathLike[str],
        collection_name: str,
        config: EmbeddingConfig,
        *,
        index: Index | None = None,
        hnsw_ef: int | None = None,
        dimensions: int | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection, and bring it into memory.

        Args:
            client: your client, with your credentials; you close it. Or the path of a Milvus Lite database, a folder
                whose name ends in ".db": one process at a time can have it open, and `close` lets it go.
            collection_name: ASCII letters, digits and "_", up to 249 characters.
            config: the configuration of the vectors.
            index: how a new collection is searched: "FLAT" compares all vectors, "HNSW" uses a graph, "AUTOINDEX" is
                the server's own choice (Zilliz Cloud has no other). `None` keeps that of an existing collection; for a
                new one it is "FLAT" in Milvus Lite, and "HNSW" on a server.
            hnsw_ef: how many rows a search in a graph keeps in view: more is slower and more exact. At least as many as
                are asked for; `None` is 128.
            dimensions: length of the vectors of a new collection, if `config` does not set it.
            timeout_s: how long each call may take. The client tries again within this time, at a server that is busy.
            patience_s: how long each call waits for a server that is busy or cannot be reached, in seconds without any
                success. `None` waits up to 60 s for one that says that it is busy, and tries nothing again at any other
                failure. Opening waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: another program made the collection, or the server refuses the request.
            StoreUnavailableError: the server cannot be reached, or another process has the Milvus Lite database open.
            EmbedInputError: a bad client, path or option, or an option differs from that of the collection.
        """
        limit_s = check_patience(patience_s)
        plan = make_plan(
            collection_name, config, index=index, hnsw_ef=hnsw_ef, dimensions=dimensions, timeout_s=timeout_s
        )
        with ExitStack() as undo:
            used, alone = client_of(client, undo)
            flows = open_alone(plan, used, alone)
            store = cls(used, flows, patience_s=limit_s)
            store._closing = undo.pop_all()
        return store

    def close(self) -> None:
        """Let go of a Milvus Lite database, so that another process can open it; a client of yours stays open."""
        self._closing.close()


class AsyncMilvusStore(AsyncStore):
    """A collection in Milvus or Milvus Lite, through an asyncio client; see `MilvusStore`."""

    _closing: AsyncExitStack

    @classmethod
    async def open(
        cls,
        client: AsyncMilvusClient | str | os.PathLike[str],
        collection_name: str,
        config: EmbeddingConfig,
        *,
        index: Index | None = None,
        hnsw_ef: int | None = None,
        dimensions: int | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection; see `MilvusStore.open`."""
        limit_s = check_patience(patience_s)
        options: dict[str, Any] = {"index": index, "hnsw_ef": hnsw_ef, "dimensions": dimensions, "timeout_s": timeout_s}
        # In a thread: the fingerprint of a model in a folder needs the hash of its weights.
        plan = await asyncio.to_thread(make_plan, collection_name, config, **options)
        async with AsyncExitStack() as undo:
            path = lite_path(client, example=ASYNC_EXAMPLE)
            used: Any = client
            if path is None:
                check_kind(client, asyncio=True)
                flows = await run_async(open_collection(plan), used, translate=translate, attempts=1)
            else:
                lease = Lease(path)
                undo.push_async_callback(asyncio.to_thread, lease.release)
                made = await asyncio.to_thread(connected, lease)
                undo.push_async_callback(asyncio.to_thread, made.close)
                flows = await asyncio.to_thread(open_alone, plan, made, lease.alone)
                used = AsyncLiteClient(made)
            store = cls(used, flows, patience_s=limit_s)
            store._closing = undo.pop_all()
        return store

    async def close(self) -> None:
        """Let go of a Milvus Lite database, so that another process can open it; a client of yours stays open."""
        await self._closing.aclose()


def stored_fingerprint(
    client: MilvusClient | str | os.PathLike[str], collection_name: str, *, timeout_s: float = TIMEOUT_S
) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if there is no such collection.

    Args:
        client: your client; you close it. Or the path of a Milvus Lite database.
        collection_name: the name of the collection.
        timeout_s: how long the call may take.

    Raises:
        StoreRequestError: another program made the collection, or the server refuses the request.
        StoreUnavailableError: the server cannot be reached, or another process has the Milvus Lite database open.
    """
    found = look_up(client, collection_name, timeout_s=timeout_s)
    return None if found is None else read_fingerprint(found)
