"""What is no client, or a client of the other kind, or no configuration: one sentence that says what to pass."""

import asyncio
import traceback
from pathlib import Path
from typing import Any

import chromadb
import lancedb
import psycopg
import psycopg_pool
import pytest
import weaviate
from chromadb.api.async_client import AsyncClient
from chromadb.config import Settings
from pinecone import AsyncPinecone, Pinecone
from pymilvus import AsyncMilvusClient, MilvusClient
from qdrant_client import AsyncQdrantClient, QdrantClient
from weaviate.connect import ConnectionParams

from jclip_connectors import EmbeddingConfig
from jclip_connectors.chroma import AsyncChromaStore, ChromaStore
from jclip_connectors.chroma import stored_fingerprint as chroma_fingerprint
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.lancedb import AsyncLanceStore, LanceStore
from jclip_connectors.lancedb import stored_fingerprint as lancedb_fingerprint
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.milvus import AsyncMilvusStore, MilvusStore
from jclip_connectors.milvus import stored_fingerprint as milvus_fingerprint
from jclip_connectors.pgvector import AsyncPgVectorStore, PgVectorStore
from jclip_connectors.pgvector import stored_fingerprint as pgvector_fingerprint
from jclip_connectors.pinecone import AsyncPineconeStore, PineconeStore
from jclip_connectors.pinecone import stored_fingerprint as pinecone_fingerprint
from jclip_connectors.qdrant import AsyncQdrantStore, QdrantStore
from jclip_connectors.qdrant import stored_fingerprint as qdrant_fingerprint
from jclip_connectors.weaviate import AsyncWeaviateStore, WeaviateStore
from jclip_connectors.weaviate import stored_fingerprint as weaviate_fingerprint

CONFIG = EmbeddingConfig(model="nano")
KEY = "pc-secret-key-1234567890"
NOWHERE = ConnectionParams.from_url("http://127.0.0.1:1", grpc_port=2)


def milvus_client():
    """One that is closed: it connects when it is made."""
    client = MilvusClient.__new__(MilvusClient)
    client._handler = None
    return client


class AsyncChroma(AsyncClient):
    """One that has not asked a server for its name; chromadb's own has no `close`."""

    def __init__(self):
        pass

    def close(self):
        pass


BLOCKING: dict[Any, Any] = {
    QdrantStore: ("Photos", lambda: QdrantClient(":memory:")),
    WeaviateStore: ("Photos", lambda: weaviate.WeaviateClient(NOWHERE)),
    PineconeStore: ("photos", lambda: Pinecone(api_key=KEY)),
    PgVectorStore: ("photos", lambda: psycopg_pool.ConnectionPool(open=False)),
    LanceStore: ("photos", lambda: lancedb.connect("memory://")),
    MilvusStore: ("photos", milvus_client),
    ChromaStore: ("photos", lambda: chromadb.EphemeralClient(Settings(anonymized_telemetry=False))),
}
ASYNC: dict[Any, Any] = {
    AsyncQdrantStore: ("Photos", lambda: AsyncQdrantClient(":memory:")),
    AsyncWeaviateStore: ("Photos", lambda: weaviate.WeaviateAsyncClient(NOWHERE)),
    AsyncPineconeStore: ("photos", lambda: AsyncPinecone(api_key=KEY)),
    AsyncPgVectorStore: ("photos", lambda: psycopg_pool.AsyncConnectionPool(open=False)),
    # Its own way to an asyncio connection has to be awaited.
    AsyncLanceStore: ("photos", lambda: vars(lancedb.connect("memory://"))["_conn"]),
    AsyncMilvusStore: ("photos", lambda: AsyncMilvusClient("http://localhost:1")),
    AsyncChromaStore: ("photos", AsyncChroma),
}
TWINS: dict[Any, Any] = dict(zip(BLOCKING, ASYNC, strict=True))
FINGERPRINTS: dict[Any, Any] = dict(
    zip(
        BLOCKING,
        [
            qdrant_fingerprint,
            weaviate_fingerprint,
            pinecone_fingerprint,
            pgvector_fingerprint,
            lancedb_fingerprint,
            milvus_fingerprint,
            chroma_fingerprint,
        ],
        strict=True,
    )
)
WRONG = {
    "None": None,
    "a URL": f"http://user:{KEY}@localhost:6333",
    "a key": KEY,
    "bytes": KEY.encode(),
    "a path": Path(KEY),
    "a dict": {"api_key": KEY},
    "a list": [KEY],
    "a number": 6333,
    "a configuration": CONFIG,
    "a class": QdrantClient,
    "a function": QdrantClient.get_collection,
    "an object": object(),
    "a model": EmbedInputError(KEY),
}


def close(client):
    """Close a client that can be closed; a blocking connection of LanceDB cannot."""
    if hasattr(client, "close"):
        client.close()


async def result(opened):
    """Await what may be a coroutine."""
    return await opened if asyncio.iscoroutine(opened) else opened


def opened(call, *arguments):
    """Open in an event loop of its own, in which asyncio clients are closed too."""

    async def run():
        return await result(call(*arguments))

    return asyncio.run(run())


def check_sentence(caught, *words):
    message = str(caught.value)
    assert isinstance(caught.value, ConnectorError)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert len(message) < 250
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("store", [*BLOCKING, *ASYNC])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_client_is_told(store, name):
    collection, _ = {**BLOCKING, **ASYNC}[store]
    with pytest.raises(EmbedInputError) as caught:
        opened(store.open, WRONG[name], collection, CONFIG)
    check_sentence(caught, "` is ", ": pass `", "connect" if "PgVector" in store.__name__ else "(")


@pytest.mark.parametrize("store", BLOCKING)
def test_an_asyncio_client_of_a_blocking_store_is_told_of_the_other_store(store):
    collection, _ = BLOCKING[store]

    async def run():
        client = ASYNC[TWINS[store]][1]()
        with pytest.raises(EmbedInputError) as caught:
            store.open(client, collection, CONFIG)
        check_sentence(caught, "is an asyncio ", f"use `{TWINS[store].__name__}`")
        with pytest.raises(EmbedInputError, match="is an asyncio "):
            FINGERPRINTS[store](client, collection)
        await result(client.close())

    asyncio.run(run())


@pytest.mark.parametrize("store", BLOCKING)
def test_a_blocking_client_of_an_asyncio_store_is_told_of_the_other_store(store):
    collection, make = BLOCKING[store]
    client = make()
    with pytest.raises(EmbedInputError) as caught:
        opened(TWINS[store].open, client, collection, CONFIG)
    check_sentence(caught, "is a blocking ", f"use `{store.__name__}`")
    close(client)


@pytest.mark.parametrize("config", [None, "nano", {"model": "nano"}, EmbeddingConfig, 512])
@pytest.mark.parametrize("store", BLOCKING)
def test_what_is_no_configuration_is_told_before_a_request(store, config):
    collection, make = BLOCKING[store]
    client = make()
    with pytest.raises(EmbedInputError, match=r"`config` is .*: pass `EmbeddingConfig"):
        store.open(client, collection, config)
    close(client)


@pytest.mark.parametrize("store", BLOCKING)
def test_a_configuration_that_is_left_out_is_told(store):
    collection, make = BLOCKING[store]
    client = make()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'config'"):
        store.open(client, collection)
    close(client)


@pytest.mark.parametrize("call", FINGERPRINTS.values())
def test_what_is_no_client_is_told_by_what_reads_a_fingerprint(call):
    with pytest.raises(EmbedInputError) as caught:
        call(KEY, "photos")
    check_sentence(caught, "is a string", ": pass `")


def test_a_weaviate_client_that_is_not_connected_is_told():
    with pytest.raises(ConnectorError, match="connect"):
        WeaviateStore.open(weaviate.WeaviateClient(NOWHERE), "Photos", CONFIG)


def test_a_connection_that_was_not_awaited_is_told():
    async def run():
        connecting: Any = psycopg.AsyncConnection.connect("host=127.0.0.1 port=1")
        with pytest.raises(EmbedInputError, match="has to be awaited first"):
            await AsyncPgVectorStore.open(connecting, "photos", CONFIG)
        connecting.close()

    asyncio.run(run())


@pytest.mark.parametrize("path", [None, b"photos", 5, "", "http://localhost:6333", "edge://photos", ["photos"], CONFIG])
def test_what_is_no_folder_is_told_and_nothing_is_made(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmbedInputError, match="`path` is "):
        QdrantEdgeStore.open(path, CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [None, "nano", {"model": "nano"}, EmbeddingConfig])
def test_what_is_no_configuration_makes_no_folder(config, tmp_path):
    with pytest.raises(EmbedInputError, match="`config` is "):
        QdrantEdgeStore.open(tmp_path / "photos", config)
    with pytest.raises(EmbedInputError, match="`config` is "):
        InMemoryStore(config)
    assert list(tmp_path.iterdir()) == []


class Wrapped:
    """A client of another class that passes everything on, as tracing libraries make them."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)


def test_a_client_in_a_wrapper_is_a_client():
    client = QdrantClient(":memory:")
    wrapped: Any = Wrapped(client)
    assert QdrantStore.open(wrapped, "photos", CONFIG).count() == 0
    close(client)
