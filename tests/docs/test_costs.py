"""The requests that the pages of the stores tell are those that the stores make, counted by the doubles."""

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import lancedb
import numpy as np
import psycopg
import pytest
from qdrant_client import QdrantClient

from core_encoder.tiling import Tiling
from jclip_connectors.chroma import ChromaStore
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.lancedb import LanceStore
from jclip_connectors.milvus import MilvusStore
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.pinecone import PineconeStore
from jclip_connectors.port import Record
from jclip_connectors.qdrant import QdrantStore
from jclip_connectors.weaviate import WeaviateStore
from tests.docs.blocks import DOCS
from tests.doubles.chroma_stores import folder_client
from tests.doubles.pinecone_server import PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble

E = 8
CONFIG = EmbeddingConfig(model="costs", revision="1", dimensions=E, tiling=Tiling(max_tiles=4))
RECORDS = [
    Record(record_id=str(at), modality="text", content="a text", embedding=np.eye(1, E, at % E)[0].astype(np.float32))
    for at in range(64)
]
QUERY = np.ones(E, np.float32)
Opened = tuple[Callable[[], Any], Callable[[], int]]  # opens the store; counts the requests so far


@contextmanager
def _qdrant() -> Iterator[Opened]:
    with QdrantServer() as server, closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        yield lambda: QdrantStore.open(client, "costs", CONFIG), lambda: len(server.requests)


@contextmanager
def _weaviate() -> Iterator[Opened]:
    with WeaviateDouble() as server, server.connect() as client:
        yield lambda: WeaviateStore.open(client, "Costs", CONFIG), lambda: len(server.calls)


@contextmanager
def _pinecone() -> Iterator[Opened]:
    with PineconeDouble() as server, server.connect() as client, contextlib.ExitStack() as stack:

        def open_store() -> PineconeStore:
            store = PineconeStore.open(client, "costs", CONFIG)
            stack.callback(store.close)
            return store

        yield open_store, lambda: len(server.requests)


class _Counting(psycopg.Connection[Any]):
    """A connection that counts its transactions."""

    made = 0

    def transaction(self, *arguments: Any, **options: Any) -> Any:
        self.made += 1
        return super().transaction(*arguments, **options)


@contextmanager
def _pgvector() -> Iterator[Opened]:
    with postgres().database() as name, closing(_Counting.connect(**postgres().address(name))) as connection:
        yield lambda: PgVectorStore.open(connection, "costs", CONFIG), lambda: connection.made


class _CountingApi:
    """What is below a client of chromadb; it counts the requests."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.made = 0

    def __getattr__(self, name: str) -> Any:
        self.made += 1
        return getattr(self._api, name)


@contextmanager
def _chroma() -> Iterator[Opened]:
    with TemporaryDirectory() as folder, folder_client(folder) as client:
        counting = _CountingApi(client._server)
        client._server = counting
        yield lambda: ChromaStore.open(client, "costs", CONFIG), lambda: counting.made


@contextmanager
def _lancedb() -> Iterator[Opened]:
    opened = [0]
    with TemporaryDirectory() as folder:
        connection: Any = lancedb.connect(folder)

        def counting(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **options: Any) -> Any:
                opened[0] += 1
                return call(*arguments, **options)

            return counted

        for name in ("open_table", "create_table"):
            setattr(connection, name, counting(getattr(connection, name)))
        yield lambda: LanceStore.open(connection, "costs", CONFIG), lambda: opened[0]


@contextmanager
def _milvus() -> Iterator[Opened]:
    double = importlib.import_module("tests.doubles.milvus_server")
    with double.MilvusServer() as server, closing(server.connect()) as client:
        yield lambda: MilvusStore.open(client, "costs", CONFIG), lambda: len(server.calls)


STORES = {
    "qdrant": _qdrant,
    "weaviate": _weaviate,
    "pinecone": _pinecone,
    "pgvector": _pgvector,
    "chroma": _chroma,
    "lancedb": _lancedb,
    "milvus": _milvus,
}


def told(name: str) -> dict[str, list[int]]:
    """The numbers in each row of a page's table of costs, by the call."""
    costs = (DOCS / "stores" / f"{name}.md").read_text().split("\n## Costs\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`\w.*?) \| (.*) \|$", costs, re.MULTILINE)
    return {
        call: [int(number) for number in re.findall(r"\b\d+\b", re.sub(r"(?<=\d),(?=\d)", "", text))]
        for calls, text in rows
        for call in re.findall(r"`([^`]+)`", calls)
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "milvus" else ()) for name in STORES]
)
def test_a_call_makes_as_many_requests_as_the_page_says(name):
    with STORES[name]() as (open_store, count):

        def requests(call: Callable[[], Any]) -> int:
            before = count()
            call()
            return count() - before

        page = told(name)
        new = requests(open_store)
        assert [requests(open_store), new] == page["open"][:2]
        store = open_store()
        store.upsert(RECORDS)  # which also makes indexes
        if name != "pinecone":  # there tiles of the former version are looked for first, as this collection has tiling
            assert requests(lambda: store.upsert(RECORDS)) == page["upsert"][0]
        assert requests(lambda: store.search(QUERY)) == page["search"][0]
        if "search(tiles=True)" in page:
            assert requests(lambda: store.search(QUERY, tiles=True)) == page["search(tiles=True)"][0]
        assert requests(lambda: store.get(["1", "2"])) == page["get"][0]
        assert requests(store.count) == page["count"][0]
        of_tiles = page["delete(ids)"][2] if name == "pinecone" else 0  # this collection has tiling
        assert requests(lambda: store.delete(["1"])) == page["delete(ids)"][0] + of_tiles
