"""Pinecone stores (pinecone >= 10): indexes with a schema, and older vector indexes.

A collection is a namespace of an index, so an index can have several collections. The caller makes the client and sets
its key, timeouts and retries. Facts about the service are from its documentation (2026-07) and from the SDK.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import NoReturn, Self

from pinecone import AsyncPinecone, Pinecone

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.pinecone.errors import translate
from jclip_connectors.pinecone.importing import check_uri
from jclip_connectors.pinecone.opening import (
    check_names,
    connect,
    describe_index,
    find_fingerprint,
    make_plan,
    open_collection,
    open_index,
)
from jclip_connectors.pinecone.operations import PineconeFlows
from jclip_connectors.port import Record
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.clients import check_client
from jclip_connectors.store_kit.flows import BlockingStore, run
from jclip_connectors.store_kit.patience import check_patience

__all__ = ["DEFAULT_NAMESPACE", "AsyncPineconeStore", "PineconeStore", "stored_fingerprint"]

DEFAULT_NAMESPACE = "jclip"
"""The default namespace of a collection."""


class PineconeStore(BlockingStore):
    """A collection in Pinecone.

    Tiles are separate items. A search over tiles requests more tiles than records, groups them by record, and repeats
    the search without the found groups until there are enough records, for up to 10,000 groups. A search returns at
    most 10,000 records. `count` reads the ids of all matching records: 1,000 per request, 100 with an older index.

    Pinecone is eventually consistent: written and deleted records show in results after seconds, with the Documents
    API after up to about a minute. Until then, reads return the old state; if a record is visible but some of its
    tiles are not, `get` and `scroll` raise `StoreUnavailableError`. A record that is written twice before it is visible
    can leave stale tiles, which are never found and are deleted with the record.

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
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection and its index.

        Args:
            client: a client of the SDK; you close it. The store has its own connections; its `close` closes them.
            index_name: lower case letters, digits and hyphens.
            config: the configuration of the vectors.
            namespace: the namespace of the index.
            cloud: the cloud of a new index: "aws", "gcp" or "azure".
            region: the region of the cloud.
            dimensions: length of the vectors, if `config` does not set it.
            patience_s: how long each call waits for Pinecone if it is busy or cannot be reached, in seconds without any
                success. `None` waits up to 60 s if it says that it is busy; the SDK makes quick tries again. Opening
                waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreUnavailableError: Pinecone cannot be reached, or a new index takes longer than a minute.
            StoreRequestError: Pinecone refuses the request, the index is for other vectors, or another program wrote
                records to the namespace.
            EmbedInputError: a bad client, name or option.
        """
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=False)
        plan = make_plan(index_name, config, namespace=namespace, cloud=cloud, region=region, dimensions=dimensions)
        index = run(open_index(plan, time.sleep), client, translate=translate, attempts=1)
        with ExitStack() as undo:
            handle = run(connect(index), client, translate=translate, attempts=1)
            undo.callback(handle.close)
            flows = run(open_collection(plan, index, time.sleep), handle, translate=translate, attempts=1)
            store = cls(handle, flows, patience_s=limit_s)
            undo.pop_all()
        return store

    def import_records(
        self, batches: Iterable[Sequence[Record]], uri: str, *, integration_id: str | None = None
    ) -> str:
        """Write records as files into cloud storage, and start Pinecone's own import of them into this collection.

        Pinecone imports in the background: records show after it has ended, which `client.index(...).describe_import`
        of the SDK tells. The import ends at the first record that Pinecone cannot read. The files remain in `uri`.

        Args:
            batches: the records, some at a time; no id may come twice.
            uri: a folder that has no files of this namespace: "s3://bucket/folder", "gs://..." or an Azure container's
                https:// address. fsspec writes there, with the keys of its environment.
            integration_id: of a storage integration of the project, which lets Pinecone read a private bucket.

        Returns:
            The id of the import.

        Raises:
            EmbedInputError: a bad address or record, or the folder has files of this namespace.
            StoreRequestError: Pinecone refuses the import.
            MissingDependencyError: fsspec or pyarrow is not installed.
        """
        flows = self._flows
        if not isinstance(flows, PineconeFlows):  # as `open` makes them
            raise TypeError("a collection of Pinecone is made by `open`")
        return self._run(flows.import_records(batches, check_uri(uri), integration_id))

    def close(self) -> None:
        """Close the store's own connections; the client stays open."""
        self._client.close()
        self._client = _Closed()


class _Closed:
    """Replaces the SDK's blocking `Index` after `close`, because a closed `Index` would connect again."""

    def close(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse every call."""
        raise RuntimeError(f"cannot call {name}: the client has been closed")


class AsyncPineconeStore(AsyncStore):
    """A collection in Pinecone, through an asyncio client; see `PineconeStore`."""

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
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection; see `PineconeStore.open`."""
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=True)
        options = {"namespace": namespace, "cloud": cloud, "region": region}
        # In a thread: the fingerprint of a model in a folder needs the hash of its weights.
        plan = await asyncio.to_thread(make_plan, index_name, config, **options, dimensions=dimensions)
        index = await run_async(open_index(plan, asyncio.sleep), client, translate=translate, attempts=1)
        async with AsyncExitStack() as undo:
            handle = await run_async(connect(index), client, translate=translate, attempts=1)
            undo.push_async_callback(handle.close)
            flows = await run_async(
                open_collection(plan, index, asyncio.sleep), handle, translate=translate, attempts=1
            )
            undo.pop_all()
        return cls(handle, flows, patience_s=limit_s)

    async def close(self) -> None:
        """Close the store's own connections; the client stays open."""
        await self._client.close()


def stored_fingerprint(client: Pinecone, index_name: str, *, namespace: str = DEFAULT_NAMESPACE) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if the collection does not exist.

    Args:
        client: a client of the SDK; you close it.
        index_name: the name of the index.
        namespace: the namespace of the index.

    Raises:
        StoreUnavailableError: Pinecone cannot be reached.
        StoreRequestError: Pinecone refuses the request, or the index is for other vectors.
    """
    _check_client(client, asyncio=False)
    check_names(index_name, namespace)
    index = run(describe_index(index_name, namespace), client, translate=translate, attempts=1)
    if index is None:
        return None
    with run(connect(index), client, translate=translate, attempts=1) as handle:
        return run(find_fingerprint(index.dialect), handle, translate=translate, attempts=1)


def _check_client(client: object, *, asyncio: bool) -> None:
    check_client(
        client,
        kinds=(AsyncPinecone,) if asyncio else (Pinecone,),
        needs="indexes",
        asyncio=asyncio,
        twin="PineconeStore" if asyncio else "AsyncPineconeStore",
        example="AsyncPinecone(api_key=...)" if asyncio else "Pinecone(api_key=...)",
    )
