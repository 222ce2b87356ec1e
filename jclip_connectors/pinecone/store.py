"""Pinecone (pinecone >= 10): indexes with a schema, and the vector indexes from before.

A collection is a namespace of an index, so an index can hold several. The client is the caller's: its key, its timeouts
and its retries. Facts about the service rest on its documentation (2026-07) and on the SDK.
"""

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack
from typing import NoReturn, Self

from pinecone import AsyncPinecone, Pinecone

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.pinecone.errors import translate
from jclip_connectors.pinecone.opening import (
    check_names,
    connect,
    describe_index,
    find_fingerprint,
    make_plan,
    open_collection,
    open_index,
)
from jclip_connectors.store_kit.flows import AsyncStore, BlockingStore, run, run_async

__all__ = ["DEFAULT_NAMESPACE", "AsyncPineconeStore", "PineconeStore", "stored_fingerprint"]

DEFAULT_NAMESPACE = "jclip"
"""The namespace of a collection where none is named."""


class PineconeStore(BlockingStore):
    """A collection in Pinecone.

    Tiles are items beside their record; a search by tiles asks for more of them than records, groups them, and asks
    again without the found ones until there are enough: for up to 10,000 groups. A search gives 10,000 records at most.
    `count` reads the names of all that match, 1,000 to a request, and 100 with an older vector index.

    Pinecone is eventually consistent: what `upsert` and `delete` have returned from is in the next results after
    seconds, with documents up to about a minute. Meanwhile a read gives the former state; where a record is there but
    not all of its tiles, `get` and `scroll` raise `StoreUnavailableError`. A record that is written again before it is
    visible can leave tiles of the version in between, which are never found and go when the record is deleted.

    A `NativeFilter` holds a dict or a `pinecone.Condition` over the fields `record_id`, `modality`, `uri`,
    `content_hash`, `terms`, and `min_...` and `max_...` of metadata with numbers.
    """

    @classmethod
    def open(
        cls,
        client: Pinecone,
        index_name: str,
        config: EmbeddingConfig,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        cloud: str = "aws",
        region: str = "us-east-1",
        dimensions: int | None = None,
    ) -> Self:
        """Open a collection, or make it; and its index, if there is none.

        Args:
            client: of the SDK; it stays yours to close, and the store's own connections close with the store.
            index_name: lower case letters, digits and hyphens.
            config: what the vectors are made with.
            namespace: of the index.
            cloud: where a new index is made: "aws", "gcp" or "azure".
            region: of that cloud.
            dimensions: length of the vectors, where `config` does not know it.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreUnavailableError: Pinecone cannot be reached, or a new index takes longer than a minute.
            StoreRequestError: Pinecone refuses, the index is for other vectors, or the namespace has records of others.
            EmbedInputError: a bad name or option.
        """
        plan = make_plan(index_name, config, namespace=namespace, cloud=cloud, region=region, dimensions=dimensions)
        index = run(open_index(plan, time.sleep), client, translate=translate, attempts=1)
        with ExitStack() as undo:
            handle = run(connect(index), client, translate=translate, attempts=1)
            undo.callback(handle.close)
            store = cls(handle, run(open_collection(plan, index, time.sleep), handle, translate=translate, attempts=1))
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the store's own connections; the client stays open."""
        self._client.close()
        self._client = _Closed()


class _Closed:
    """In place of the SDK's blocking `Index`, which would connect again after it was closed."""

    def close(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what the store asks for."""
        raise RuntimeError(f"cannot call {name}: the client has been closed")


class AsyncPineconeStore(AsyncStore):
    """A collection in Pinecone, for a program with an event loop; see `PineconeStore`."""

    @classmethod
    async def open(
        cls,
        client: AsyncPinecone,
        index_name: str,
        config: EmbeddingConfig,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        cloud: str = "aws",
        region: str = "us-east-1",
        dimensions: int | None = None,
    ) -> Self:
        """Open a collection, or make it; see `PineconeStore.open`."""
        plan = make_plan(index_name, config, namespace=namespace, cloud=cloud, region=region, dimensions=dimensions)
        index = await run_async(open_index(plan, asyncio.sleep), client, translate=translate, attempts=1)
        async with AsyncExitStack() as undo:
            handle = await run_async(connect(index), client, translate=translate, attempts=1)
            undo.push_async_callback(handle.close)
            flows = await run_async(
                open_collection(plan, index, asyncio.sleep), handle, translate=translate, attempts=1
            )
            undo.pop_all()
        return cls(handle, flows)

    async def close(self) -> None:
        """Close the store's own connections; the client stays open."""
        await self._client.close()


def stored_fingerprint(client: Pinecone, index_name: str, *, namespace: str = DEFAULT_NAMESPACE) -> Fingerprint | None:
    """The fingerprint of a collection, or `None` where there is none.

    Args:
        client: of the SDK; it stays yours to close.
        index_name: of the index.
        namespace: of the index.

    Raises:
        StoreUnavailableError: Pinecone cannot be reached.
        StoreRequestError: Pinecone refuses, or the index is for other vectors.
    """
    check_names(index_name, namespace)
    index = run(describe_index(index_name, namespace), client, translate=translate, attempts=1)
    if index is None:
        return None
    with run(connect(index), client, translate=translate, attempts=1) as handle:
        return run(find_fingerprint(index.dialect), handle, translate=translate, attempts=1)
