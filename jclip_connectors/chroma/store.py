"""Chroma stores (chromadb >= 1.5.9): a folder, or a server.

The caller makes and closes the client, and sets its credentials. A collection is one collection of Chroma, and a second
one for tiles.
"""

from typing import Self

from chromadb.api import AsyncClientAPI, ClientAPI
from chromadb.api.async_client import AsyncClient
from chromadb.api.client import Client

from jclip_connectors.chroma.errors import translate
from jclip_connectors.chroma.opening import find_flow, open_flow
from jclip_connectors.chroma.operations import ATTEMPTS
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.clients import check_client
from jclip_connectors.store_kit.flows import BlockingStore, run
from jclip_connectors.store_kit.patience import check_patience

__all__ = ["CANDIDATES", "AsyncChromaStore", "ChromaStore", "stored_fingerprint"]

CANDIDATES = 512
"""The default of `candidates`."""


class ChromaStore(BlockingStore):
    """A collection in a folder or on a server of Chroma.

    Search is approximate: Chroma's index (HNSW) chooses the candidates. The scores of what it finds are exact. Tiles
    are in a second collection, `<name>.tiles`; a search over tiles asks for more of them until there are enough
    records.

    A `NativeFilter` holds a dict over the fields `modality`, `terms`, and `min_...` and `max_...` of metadata with
    numbers.
    """

    @classmethod
    def open(
        cls,
        client: ClientAPI,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        candidates: int = CANDIDATES,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection.

        Args:
            client: your `chromadb.PersistentClient` or `chromadb.HttpClient`; you close it. Only one process may use a
                folder at a time; for more, start a server with `chroma run`.
            collection_name: 3 to 506 letters of English, digits, dots, hyphens and underscores, with a letter or digit
                at both ends.
            config: the configuration of the vectors.
            candidates: the smallest number of records or tiles that the index is asked for; the best of them are the
                results. More is slower and more exact.
            dimensions: length of the vectors of a new collection, if `config` does not set it; `None` takes that of the
                first record.
            patience_s: how long each call waits for a server that is busy or cannot be reached, in seconds without any
                success. `None` waits up to 60 s for one that says that it is busy, and tries again twice at any other
                failure. Opening waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: another program made the collection, or Chroma refuses the request.
            StoreUnavailableError: the server cannot be reached.
            EmbedInputError: a bad client, name or option, or an option differs from the setting of the collection.
        """
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=False)
        opening = open_flow(collection_name, config, candidates=candidates, dimensions=dimensions)
        collections, flows = run(opening, client, translate=translate, attempts=ATTEMPTS)
        return cls(collections, flows, patience_s=limit_s)


class AsyncChromaStore(AsyncStore):
    """A collection on a server of Chroma, through an asyncio client; see `ChromaStore`."""

    @classmethod
    async def open(
        cls,
        client: AsyncClientAPI,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        candidates: int = CANDIDATES,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection through `await chromadb.AsyncHttpClient(...)`; see `ChromaStore.open`."""
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=True)
        opening = open_flow(collection_name, config, candidates=candidates, dimensions=dimensions)
        # In threads: the fingerprint of a model in a folder needs the hash of its weights.
        opened = await run_async(opening, client, translate=translate, attempts=ATTEMPTS, in_threads=True)
        collections, flows = opened
        return cls(collections, flows, patience_s=limit_s)


def stored_fingerprint(client: ClientAPI, collection_name: str) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if there is no such collection.

    Args:
        client: your client; you close it.
        collection_name: the name of the collection.

    Raises:
        StoreRequestError: another program made the collection, or Chroma refuses the request.
        StoreUnavailableError: the server cannot be reached.
        EmbedInputError: a bad client or name.
    """
    _check_client(client, asyncio=False)
    return run(find_flow(collection_name), client, translate=translate, attempts=ATTEMPTS)


def _check_client(client: object, *, asyncio: bool) -> None:
    check_client(
        client,
        kinds=(AsyncClient,) if asyncio else (Client,),
        needs="get_collection",
        asyncio=asyncio,
        twin="ChromaStore" if asyncio else "AsyncChromaStore",
        example="await chromadb.AsyncHttpClient(...)" if asyncio else "chromadb.PersistentClient(path)",
    )
