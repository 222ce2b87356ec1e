"""What cannot be accepted, in every store and through every front door: a typed error that names the item.

Each case starts with the record "good", and tells what it is refused with and what is there afterwards.
"""

import contextlib
import dataclasses
import datetime
import functools
import importlib
import socket
import types
import uuid
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs
import httpx
import lancedb
import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from qdrant_client import QdrantClient

from core_encoder.errors import ConfigError, JinaClipError
from jclip_connectors import collection
from jclip_connectors.chroma import ChromaStore
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.lancedb import LanceStore
from jclip_connectors.langchain import JinaClipEmbeddings
from jclip_connectors.langchain import vector_store as langchain_vector_store
from jclip_connectors.llamaindex import vector_store as llamaindex_vector_store
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.milvus.store import MilvusStore
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.pinecone.store import PineconeStore
from jclip_connectors.port import NativeFilter, record_uuid
from jclip_connectors.qdrant.store import QdrantStore, stored_fingerprint
from jclip_connectors.store_urls import connected
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.store_contract import PLAIN, E, image, text, vector
from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles import chroma_stores
from tests.doubles.chroma_proxy import ChromaProxy
from tests.doubles.pinecone_server import PineconeDouble
from tests.doubles.postgres_faults import TroubledDatabase, refuse
from tests.doubles.qdrant_server import Fault, QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble
from tests.every_store.live_stores import SLOW

LONG_ID = "/".join(["a folder with a long name"] * 24)[:600]
LARGE = {"text": "x" * 41_000}
NAN = float("nan")
OTHER = dataclasses.replace(PLAIN, model="other")


class Front:
    """A store, what is in it, and the front doors over it."""

    store: Any

    @property
    def collection(self):
        return collection.MultimodalCollection(HashEmbedder(PLAIN), self.store, batch_size=2)

    @property
    def langchain(self):
        embeddings = JinaClipEmbeddings.from_embedder(HashEmbedder(PLAIN))
        return langchain_vector_store.JinaClipVectorStore(self.store, embeddings)

    @property
    def llamaindex(self):
        return llamaindex_vector_store.JinaClipVectorStore(store=self.store)

    def kept(self):
        """The ids of what is stored."""
        return {record.record_id for record in self.store.scroll()}


class Memory(Front):
    @contextlib.contextmanager
    def running(self, _):
        self.store = InMemoryStore(PLAIN)
        yield self

    def open(self, config):
        return collection.MultimodalCollection(HashEmbedder(config), self.store)


class Edge(Front):
    @contextlib.contextmanager
    def running(self, folder):
        self.folder = folder
        with QdrantEdgeStore.open(folder / "photos.jclip", PLAIN) as self.store:
            yield self

    def open(self, config):
        self.store.close()
        try:
            return QdrantEdgeStore.open(self.folder / "photos.jclip", config)
        finally:
            self.store = QdrantEdgeStore.open(self.folder / "photos.jclip", PLAIN)


class Qdrant(Front):
    @contextlib.contextmanager
    def running(self, _):
        with QdrantServer() as self.server, contextlib.closing(self.connect()) as self.client:
            self.store = self.open(PLAIN)
            yield self

    def connect(self, key=None):
        return QdrantClient(url=self.server.url, api_key=key, check_compatibility=False, timeout=1)

    def open(self, config):
        return QdrantStore.open(self.client, "photos", config)

    def open_without_key(self):
        return stored_fingerprint(self.client, "photos")  # this client has none

    def kept(self):
        points, _ = self.server._client.scroll("photos", limit=10_000)
        return {point.payload["record_id"] for point in points}

    def go_down(self):
        self.server.stop()

    def be_slow(self):
        self.server.faults.append(Fault("points/query|GET", status=503, delay_s=20, times=99))

    def be_busy(self):
        self.server.faults.append(Fault("points", status=503, times=99))

    def refuse(self, record_id):
        # A request is taken or refused as a whole: these have one record each.
        uuid = str(record_uuid(record_id)).encode()
        self.server.faults.append(_Holding(r"PUT .*/points$", status=400, times=99, wanted=uuid, server=self.server))

    def want_another_key(self):
        self.server.keys = {"another": "all"}


@dataclasses.dataclass
class _Holding(Fault):
    """A fault of the requests that hold some bytes."""

    wanted: bytes = b""
    server: Any = None

    def __getattribute__(self, name):
        get = super().__getattribute__
        if name == "times":
            return get("times") if get("wanted") in get("server").requests[-1].body else 0
        return get(name)


class Weaviate(Front):
    @contextlib.contextmanager
    def running(self, _):
        with WeaviateDouble() as self.server, self.server.connect(timeout_s=1) as self.client:
            self.store = self.open(PLAIN)
            yield self
        assert self.server.surprises == []

    def open(self, config):
        return WeaviateStore.open(self.client, "Photos", config)

    def open_without_key(self):
        address = f"weaviate://127.0.0.1:{self.server.http_port}/Photos?grpc_port={self.server.grpc_port}"
        with connected(address) as place:
            return place.fingerprint()

    def kept(self):
        return {stored.properties["record_id"] for stored in self.server.collections["Photos"].objects.values()}

    def go_down(self):
        self.server.__exit__()

    def be_slow(self):
        for call in ("Search", "Aggregate", "GET /v1/meta"):
            self.server.delay(call, 20)

    def be_busy(self):
        for call in ("Search", "Aggregate", "BatchObjects", "BatchDelete"):
            self.server.fail(call, grpc.StatusCode.RESOURCE_EXHAUSTED, times=99)

    def refuse(self, record_id):
        self.server.refused[record_id] = "no room"

    def want_another_key(self):
        self.server._authorization = "Bearer another"


class PineconeFront(Front):
    @contextlib.contextmanager
    def running(self, _):
        with PineconeDouble() as self.server, self.server.connect(timeout=1) as self.client:
            self.connections: list[socket.socket] = []
            accept = self.server._http.get_request

            def get_request():
                self.connections.append(accept()[0])
                return self.connections[-1], self.connections[-1].getpeername()

            self.server._http.get_request = get_request
            self.store = self.open(PLAIN)
            yield self
            self.store.close()
        assert self.server.surprises == []

    def open(self, config):
        return PineconeStore.open(self.client, "photos", config)

    def open_without_key(self):
        with connected("pinecone://photos") as place:
            return place.fingerprint()

    def kept(self):
        return {item["record_id"] for item in self.server.items("photos").values() if item["kind"] == "record"}

    def go_down(self):
        self.server.__exit__()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # most have ended by themselves
                connection.shutdown(socket.SHUT_RDWR)

    def be_slow(self):
        for route in ("documents_search", "documents_fetch", "describe_index"):
            self.server.fail(route, hold_s=20, times=99)

    def be_busy(self):
        for route in ("documents_search", "documents_fetch", "documents_upsert", "documents_delete"):
            self.server.fail(route, status=503, times=99)

    def refuse(self, record_id):
        self.server.poison.add(str(record_uuid(record_id)))

    def want_another_key(self):
        known = self.server.answer
        self.server.answer = lambda method, path, params, _, body: known(method, path, params, {"Api-Key": "old"}, body)


class PgVector(Front):
    @contextlib.contextmanager
    def running(self, _):
        with (
            TroubledDatabase(password="secret-1").running() as self.database,  # noqa: S106 (of the tests' own server)
            contextlib.ExitStack() as self.troubles,
        ):
            self.connection = self.database.connect(options="-c statement_timeout=300")
            self.store = self.open(PLAIN)
            yield self

    def open(self, config):
        return PgVectorStore.open(self.connection, "photos", config)

    def open_without_key(self):
        server = self.database.server
        with connected(f"postgresql://{server.host}:{server.port}/{self.database.name}/photos") as place:
            return place.fingerprint()

    def kept(self):
        self.troubles.close()
        rows = self.database.admin.execute("SELECT payload::json ->> 'record_id' FROM photos").fetchall()
        return {record_id for (record_id,) in rows}

    def go_down(self):
        self.database.go_down()

    def be_slow(self):
        self.troubles.enter_context(self.database.locked())

    def be_busy(self):
        self.database.fail("53000", "no resources")

    def refuse(self, record_id):
        refuse(self.database.admin, f'"record_id": "{record_id}"')

    def want_another_key(self):
        self.database.take_rights_away()


class Lance(Front):
    @contextlib.contextmanager
    def running(self, folder):
        self.connection = lancedb.connect(folder)
        self.store = self.open(PLAIN)
        yield self

    def open(self, config):
        return LanceStore.open(self.connection, "photos", config)

    def kept(self):
        return set(self.connection.open_table("photos").to_arrow()["record_id"].to_pylist())


class Milvus(Front):
    @contextlib.contextmanager
    def running(self, _):
        milvus = importlib.import_module("tests.doubles.milvus_server")
        with (
            milvus.MilvusServer(token="root:secret-1") as self.server,  # noqa: S106 (of the tests' own server)
            contextlib.closing(self.server.connect()) as self.client,
        ):
            self.store = self.open(PLAIN)
            yield self

    def open(self, config):
        return MilvusStore.open(self.client, "photos", config, timeout_s=1, patience_s=0)

    def open_without_key(self):
        with connected(f"milvus://127.0.0.1:{self.server.port}/photos") as place:
            return place.fingerprint()

    def kept(self):
        return {row["record_id"] for row in self.server.rows("photos")}

    def go_down(self):
        self.server.stop()

    def be_slow(self):
        self.server.fail("Search", "DescribeCollection", hold=True)

    def be_busy(self):
        self.server.fail("Search", "Query", "Upsert", "Delete", code=8, reason="no resources")

    def refuse(self, record_id):
        self.server.fail("Upsert", code=1100, reason="no room", wanted=str(record_uuid(record_id)).encode())

    def want_another_key(self):
        self.server.token = "another"  # noqa: S105 (as above)


class Chroma(Front):
    @contextlib.contextmanager
    def running(self, _):
        self.name = f"photos-{uuid.uuid4().hex}"
        port = chroma_stores.shared_server()
        with (
            ChromaProxy(port) as self.server,
            chroma_stores.http_client(self.server.port) as self.client,
            chroma_stores.http_client(port) as self.direct,
        ):
            self.store = self.open(PLAIN)
            yield self

    def open(self, config):
        return ChromaStore.open(self.client, self.name, config)

    def open_without_key(self):
        with connected(f"chroma://127.0.0.1:{self.server.port}/{self.name}") as place:
            return place.fingerprint()

    def kept(self):
        return set(self.direct.get_collection(self.name, embedding_function=None).get()["ids"])

    def go_down(self):
        self.server.__exit__()

    def be_slow(self):
        self.client._server._session.timeout = httpx.Timeout(0.5)
        self.server.slow.set()

    def be_busy(self):
        self.server.status = 503

    def refuse(self, record_id):
        self.server.refused.add(f'"{record_id}"'.encode())

    def want_another_key(self):
        self.server.key = "another"


FRONTS: dict[str, Any] = {
    "memory": Memory,
    "edge": Edge,
    "qdrant": Qdrant,
    "weaviate": Weaviate,
    "pinecone": PineconeFront,
    "pgvector": PgVector,
    "lancedb": Lance,
    "milvus": Milvus,
    "chroma": Chroma,
}
REMOTE = (
    "qdrant",
    "weaviate",
    "pinecone",
    "pgvector",
    "milvus",
    "chroma",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is done; the error and what its message says, or `None`; what is stored beside "good"; in which stores."""

    call: Callable[[Any], object]
    error: type[Exception] | None
    named: str = ""
    kept: frozenset[str] = frozenset()
    stores: tuple[str, ...] = tuple(FRONTS)
    breaks: bool = False  # it leaves the server of no use for another case


def refused(call, named, error: type[Exception] = EmbedInputError, **fields):
    return Case(call, error, named, **fields)


def accepted(call, *kept, **fields):
    return Case(call, None, kept=frozenset(kept), **fields)


def upsert(*bad, **fields):
    """A batch whose first record could be kept."""
    return lambda front: front.store.upsert([image("new"), *(bad or [image("bad", **fields)])])


def search(embedding=None, **options):
    return lambda front: front.store.search(vector(1) if embedding is None else embedding, **options)


def node(**fields):
    return TextNode(**{"id_": "bad", "text": "a text", "embedding": [1.0] + [0.0] * (E - 1), **fields})


def add_nodes(*bad):
    return lambda front: front.llamaindex.add([node(id_="new"), *bad])


def ask(**fields):
    return lambda front: front.llamaindex.query(VectorStoreQuery(**{"query_embedding": vector(1).tolist(), **fields}))


def listed(operator, value):
    return MetadataFilters(filters=[MetadataFilter(key="year", operator=operator, value=value)])


class Odd(Embeddings):
    """Embeddings that make what no store can keep."""

    def __init__(self, rows):
        self.rows = rows

    def embed_documents(self, texts):
        return self.rows[: len(texts)]

    def embed_query(self, _):
        return self.rows[0]


def add_with(rows):
    return lambda front: langchain_vector_store.JinaClipVectorStore(front.store, Odd(rows)).add_texts(["a", "b"])


def broken(fault, call):
    """Do something once the server is in trouble."""

    def trouble(front):
        fault(front)
        return call(front)

    return trouble


def refusing(record_id, call):
    return broken(lambda front: front.refuse(record_id), call)


GOOD_ROW = [1.0] + [0.0] * (E - 1)
PIXELS = np.zeros((4, 4, 3), np.uint8)
LETTERS = list("abcd")
WORDS = [f"text {letter}" for letter in LETTERS]
RECORD = r"record 1 \('bad'\)"
IN_TROUBLE: dict[str, Callable[[Any], object]] = {
    "a search": search(),
    "a write": lambda front: front.store.upsert([image("new")]),
    "a LangChain search": lambda front: front.langchain.similarity_search("a text"),
    "a LlamaIndex search": ask(),
    "a search of a collection": lambda front: front.collection.search("a text"),
    "opening": lambda front: front.open(PLAIN),
}
READS = {name: call for name, call in IN_TROUBLE.items() if name != "a write"}

CASES: dict[str, Case] = {
    # vectors
    "a NaN": refused(upsert(embedding=vector(NAN)), f"`embedding` of {RECORD}"),
    "an infinity": refused(upsert(embedding=vector(float("inf"))), f"`embedding` of {RECORD}"),
    "a zero vector": refused(upsert(embedding=vector(0)), f"`embedding` of {RECORD}"),
    "a vector too short": refused(upsert(embedding=vector(1)[:-1]), rf"`embedding` of {RECORD} has the shape \(7,\)"),
    "a vector too long": refused(upsert(embedding=np.ones(9)), rf"`embedding` of {RECORD} has the shape \(9,\)"),
    "tiles where none are kept": refused(
        upsert(tile_embeddings=np.ones((1, E)), tile_boxes=np.zeros((1, 4), int)), RECORD
    ),
    "no record": refused(upsert({"record_id": "bad"}), "record 1 is dict"),
    # metadata
    "metadata with a NaN": refused(upsert(metadata={"a": {"b": NAN}}), rf"`metadata` of {RECORD}\['a'\] is not JSON"),
    "metadata with a date": refused(
        upsert(metadata={"day": datetime.date(2024, 1, 31)}), rf"`metadata` of {RECORD}\['day'\]"
    ),
    "metadata with a set": refused(upsert(metadata={"tags": {"x"}}), rf"`metadata` of {RECORD}\['tags'\]"),
    "metadata with bytes": refused(upsert(metadata={"raw": b"x"}), rf"`metadata` of {RECORD}\['raw'\]"),
    "metadata with a number as key": refused(upsert(metadata={1: 2}), rf"`metadata` of {RECORD} has the key 1"),
    "metadata that is a list": refused(upsert(metadata=["a"]), rf"`metadata` of {RECORD} is list"),
    "41 KB of metadata": refused(
        upsert(metadata=LARGE), r"record 'bad' has 4\d{4} bytes .* Pinecone accepts 40960", stores=("pinecone",)
    ),
    "41 KB of metadata elsewhere": accepted(
        upsert(metadata=LARGE), "new", "bad", stores=tuple(name for name in FRONTS if name != "pinecone")
    ),
    "41 KB of metadata through LangChain": refused(
        lambda front: front.langchain.add_texts(["a", "b"], [{}, LARGE], ids=["new", "bad"]),
        "record 'bad' has 4",
        stores=("pinecone",),
    ),
    "41 KB of metadata through LlamaIndex": refused(
        add_nodes(node(metadata=LARGE)), "record 'bad' has", stores=("pinecone",)
    ),
    # ids
    "an empty id": refused(upsert(image("")), "the id of record 1 is ''"),
    "an id that is a number": refused(upsert(image(7)), "the id of record 1 is 7"),
    "an id that is no Unicode": refused(upsert(image("\ud800")), "the id of record 1"),
    "an id of 600 characters": accepted(upsert(image(LONG_ID)), "new", LONG_ID),
    "an id of 600 characters through LangChain": accepted(
        lambda front: front.langchain.add_texts(["a"], ids=[LONG_ID]), LONG_ID
    ),
    "an id of 600 characters through LlamaIndex": accepted(add_nodes(node(id_=LONG_ID)), "new", LONG_ID),
    "one id twice": accepted(upsert(text("a", vector(0, 1)), text("a", content="the last")), "new", "a"),
    "one id twice in a collection": accepted(
        lambda front: front.collection.add_texts(["first", "the last"], ids=["a", "a"]), "a"
    ),
    "one id twice through LangChain": accepted(
        lambda front: front.langchain.add_texts(["first", "the last"], ids=["a", "a"]), "a"
    ),
    "one id twice through LlamaIndex": accepted(
        lambda front: front.llamaindex.add([node(id_="a"), node(id_="a", text="the last")]), "a"
    ),
    "an empty id to get": refused(lambda front: front.store.get(["good", ""]), r"`ids`\[1\] is ''"),
    "one id without its list": refused(lambda front: front.store.delete("good"), r"write \['good'\]"),
    # texts and pictures
    "a text without content": refused(upsert(text("bad", content=None)), RECORD),
    "content that is no Unicode": refused(upsert(text("bad", content="\ud800")), RECORD),
    "the bytes of a picture as uri": refused(upsert(uri="data:image/png;base64,AAAA"), RECORD),
    # filters and options
    "an unknown operator": refused(search(where={"year": {"like": 1}}), "unknown operator 'like' of 'year'"),
    "an operand of no order": refused(search(where={"year": {"gte": "2020"}}), "'gte' of 'year' .* not '2020'"),
    "an operand that is no list": refused(
        lambda front: front.store.delete(where={"year": {"in": 2020}}), "'in' of 'year' takes a list, not 2020"
    ),
    "an operand that is an object": refused(search(where={"year": {"eq": {"a": 1}}}), "'eq' of 'year'"),
    "an operand that is NaN": refused(search(where={"year": {"lt": NAN}}), "'lt' of 'year' has the value nan"),
    "an operand of exists": refused(lambda front: front.store.count(where={"year": {"exists": 1}}), "not 1"),
    "or without filters": refused(lambda front: front.store.delete(where={"or": []}), r"'or' takes a list"),
    "a filter that is a list": refused(lambda front: front.store.delete(where=["year"]), r"not \['year'\]"),
    "a filter of another database": refused(search(where=NativeFilter(object())), "NativeFilter"),
    "a query with a NaN": refused(search(vector(NAN)), "`embedding`"),
    "a query of another length": refused(search(np.ones(E + 1)), r"`embedding` has the shape \(9,\), not \(8,\)"),
    "a query of zeros": refused(search(vector(0)), "`embedding`"),
    "a limit of nothing": refused(search(limit=0), "`limit` is 0"),
    "an unknown modality": refused(search(modality="audio"), "`modality` is 'audio'"),
    "a search by tiles where none are": refused(search(tiles=True), "`tiles`"),
    "both ids and a filter to delete": refused(lambda front: front.store.delete(["good"], where={"a": 1}), "`ids`"),
    "nothing to delete by": refused(lambda front: front.store.delete(), "`ids`"),
    # the collection
    "a configuration of no dimensions": refused(
        lambda front: front.open(EmbeddingConfig(model="contract", dimensions=0)), "`dimensions` is 0", ConfigError
    ),
    "another model": refused(
        lambda front: front.open(OTHER), r"`model` 'contract' \(now 'other'\)", CollectionMismatchError
    ),
    "a text that is a number": refused(lambda front: front.collection.add_texts(["a", 7]), r"`texts`\[1\] is int"),
    "metadata of a text that JSON does not have": refused(
        lambda front: front.collection.add_texts(["a", "b", "c"], [{}, {}, {"x": object()}]),
        r"`metadatas`\[2\]\['x'\]",
    ),
    "more ids than texts": refused(lambda front: front.collection.add_texts(["a"], ids=["a", "b"]), "`ids` has 2"),
    "an empty id of the third text": refused(
        lambda front: front.collection.add_texts(["a", "b", "c"], ids=["a", "b", ""]), r"`ids`\[2\] is ''"
    ),
    "a search for nothing": refused(lambda front: front.collection.search(), "`text` and `image`"),
    "a search for a picture that is none": refused(
        lambda front: front.collection.search(image=b"no image"), "`image` cannot be embedded"
    ),
    # LangChain
    "a NaN from LangChain's embeddings": refused(add_with([GOOD_ROW, [NAN] * E]), r"`embedding` of record 1 \("),
    "another length from LangChain's embeddings": refused(add_with([GOOD_ROW, [1.0]]), r"has the shape \(1,\)"),
    "too few vectors from LangChain's embeddings": refused(add_with([GOOD_ROW]), "1 vectors for 2 items"),
    "an empty id through LangChain": refused(
        lambda front: front.langchain.add_texts(["a", "b"], ids=["a", ""]), r"the id of `texts`\[1\] is ''"
    ),
    "metadata through LangChain that JSON does not have": refused(
        lambda front: front.langchain.add_documents([Document("a"), Document("b", metadata={"x": {1}})]),
        r"`metadata` of `documents`\[1\]\['x'\]",
    ),
    "a picture without a place through LangChain": refused(
        lambda front: front.langchain.add_documents([Document("a"), Document("b", metadata={"modality": "image"})]),
        r"`documents`\[1\] is an image .* `uri` is None",
    ),
    "a picture that is not there through LangChain": refused(
        lambda front: front.langchain.add_images([PIXELS, "/nowhere/a.png"], ids=["new", "bad"]),
        "1 of 2 documents failed: 1: .*/nowhere/a.png",
        PartialFailureError,
        kept=frozenset({"new"}),
    ),
    "an unknown operator through LangChain": refused(
        lambda front: front.langchain.similarity_search("a", filter={"year": {"$gt": 1}}), "unknown operator '\\$gt'"
    ),
    "an unknown option through LangChain": refused(
        lambda front: front.langchain.similarity_search("a", where={"year": 1}), "unknown option `where`"
    ),
    "k of nothing through LangChain": refused(lambda front: front.langchain.similarity_search("a", k=0), "`k` is 0"),
    "an infinity through LangChain": refused(
        lambda front: front.langchain.similarity_search_by_vector([float("inf")] * E), "`embedding`"
    ),
    "one id without its list through LangChain": refused(
        lambda front: front.langchain.delete("good"), r"write \['good'\]"
    ),
    # LlamaIndex
    "a node without a vector": refused(add_nodes(node(embedding=None)), r"node 1 \('bad'\) has no `embedding`"),
    "a node with a NaN": refused(add_nodes(node(embedding=[NAN] * E)), r"`embedding` of node 1 \('bad'\)"),
    "a node of another length": refused(add_nodes(node(embedding=[1.0])), r"\('[^']*bad'\) has the shape \(1,\)"),
    "a node with an empty id": refused(add_nodes(node(id_="")), "the id of node 1 is ''"),
    "a node with a date": refused(add_nodes(node(metadata={"day": {1}})), r"`metadata` of node 1 \('bad'\)\['day'\]"),
    "a node that is none": refused(add_nodes("a text"), "node 1 is str"),
    "an operator that LlamaIndex has and we have not": refused(
        ask(filters=listed(FilterOperator.TEXT_MATCH, "a")), "text_match"
    ),
    "an operand of no order through LlamaIndex": refused(ask(filters=listed(FilterOperator.GT, "2020")), "2020"),
    "a mode without vectors": refused(ask(mode=VectorStoreQueryMode.HYBRID), "`mode` is 'hybrid'"),
    "a query with a NaN through LlamaIndex": refused(ask(query_embedding=[NAN] * E), "`query_embedding`"),
    "an empty document id": refused(lambda front: front.llamaindex.delete(""), "`ref_doc_id` is ''"),
    "a deletion of everything by mistake": refused(
        lambda front: front.llamaindex.delete_nodes(), "give `node_ids` or `filters`"
    ),
    "a picture where texts are kept": refused(
        lambda front: llamaindex_vector_store.JinaClipVectorStore(store=front.store, modality="image").add([node()]),
        r"node 0 \('bad'\) is a TextNode without an image",
    ),
    "a picture as a web address": refused(
        lambda front: llamaindex_vector_store.JinaClipVectorStore(store=front.store).add(
            [node(id_="new"), ImageNode(id_="bad", image_url="http://host/a.png")]
        ),
        r"node 1 \('bad'\) has no `embedding`",
    ),
    # a server in trouble
    **{
        f"{name} of a server that is down": refused(
            broken(lambda front: front.go_down(), call),
            "cannot be reached",
            StoreUnavailableError,
            stores=REMOTE,
            breaks=True,
        )
        for name, call in IN_TROUBLE.items()
    },
    **{
        f"{name} of a server that is slow": refused(
            broken(lambda front: front.be_slow(), call), "in time", StoreUnavailableError, stores=REMOTE, breaks=True
        )
        for name, call in READS.items()
        if name in ("a search", "opening")
    },
    **{
        f"{name} of a server that is busy": refused(
            broken(lambda front: front.be_busy(), call),
            "503|EXHAUSTED|busy: no resources",
            StoreUnavailableError,
            stores=REMOTE,
            breaks=True,
        )
        for name, call in IN_TROUBLE.items()
        if name != "opening"
    },
    **{
        f"{name} with a key that is refused": refused(
            broken(lambda front: front.want_another_key(), call),
            "API key|PostgreSQL refuses the credentials: permission denied|(Milvus|Chroma) refuses the credentials",
            StoreRequestError,
            stores=REMOTE,
            breaks=True,
        )
        for name, call in IN_TROUBLE.items()
    },
    "no key in the environment": refused(
        broken(lambda front: front.want_another_key(), lambda front: front.open_without_key()),
        "API key|PINECONE_API_KEY|PGPASSWORD|MILVUS_TOKEN|Chroma refuses the credentials",
        StoreRequestError,
        stores=REMOTE,
        breaks=True,
    ),
    # half a batch refused
    "half a batch refused": refused(
        refusing("b", lambda front: front.store.upsert([image(letter) for letter in LETTERS])),
        r"1 of 4 records failed: 1: ",
        PartialFailureError,
        kept=frozenset("acd"),
        stores=("weaviate", "pinecone"),
        breaks=True,
    ),
    "half a batch refused through LangChain": refused(
        refusing("c", lambda front: front.langchain.add_texts(WORDS, ids=LETTERS, batch_size=1)),
        r"documents failed: 2: ",
        PartialFailureError,
        kept=frozenset("ab"),
        stores=("qdrant", "pgvector", "milvus", "chroma"),
        breaks=True,
    ),
    "half a batch refused elsewhere through LangChain": refused(
        refusing("c", lambda front: front.langchain.add_texts(WORDS, ids=LETTERS)),
        r"1 of 4 documents failed: 2: ",
        PartialFailureError,
        kept=frozenset("abd"),
        stores=("weaviate", "pinecone"),
        breaks=True,
    ),
    "half a batch refused through LlamaIndex": refused(
        refusing("c", lambda front: front.llamaindex.add([node(id_=letter) for letter in LETTERS])),
        r"1 of 4 records failed: 2: ",
        PartialFailureError,
        kept=frozenset("abd"),
        stores=("weaviate", "pinecone"),
        breaks=True,
    ),
    "a later batch refused in a collection": refused(
        refusing("d", lambda front: front.collection.add_texts(WORDS, ids=LETTERS)),
        r"1 of 4 \w+ failed: 3: ",
        PartialFailureError,
        kept=frozenset("abc"),
        stores=("weaviate", "pinecone"),
        breaks=True,
    ),
    "a later batch refused as a whole in a collection": refused(
        refusing("d", lambda front: front.collection.add_texts(WORDS, ids=LETTERS)),
        r"2 of 4 \w+ failed: 2: ",
        PartialFailureError,
        kept=frozenset("ab"),
        stores=("qdrant", "pgvector", "milvus", "chroma"),
        breaks=True,
    ),
}


@pytest.fixture(scope="module")
def fronts(tmp_path_factory):
    """Gives the front that cases share, by the name of the store."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(FRONTS[name]().running(tmp_path_factory.mktemp(name))))


@pytest.fixture(autouse=True)
def without_pauses_and_keys(monkeypatch, clock):  # noqa: ARG001 (the stores wait by its time)
    """Nobody waits between tries, and no key of this machine's is used."""
    for name in (
        "QDRANT_API_KEY",
        "WEAVIATE_API_KEY",
        "PINECONE_API_KEY",
        "PGPASSWORD",
        "MILVUS_TOKEN",
        "CHROMA_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("weaviate.retry.time", types.SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr("jclip_connectors.store_kit.retry._FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("pinecone._internal.http_client._retry_sleep", lambda _: None)


@pytest.fixture
def front(request, fronts, tmp_path):
    store, name = request.param
    with contextlib.ExitStack() as stack:
        front = stack.enter_context(FRONTS[store]().running(tmp_path)) if CASES[name].breaks else fronts(store)
        front.store.delete(where={})
        front.store.upsert([text("good", vector(0, 1), metadata={"year": 2020})])
        yield front


EACH = [
    pytest.param((store, name), name, id=f"{name}-{store}", marks=pytest.mark.slow if store in SLOW else ())
    for name, case in CASES.items()
    for store in case.stores
]


@pytest.mark.parametrize(("front", "name"), EACH, indirect=["front"])
def test_bad_input_is_a_typed_error_that_names_it_and_nothing_is_half_written(front, name):
    case = CASES[name]
    if case.error is None:
        case.call(front)
    else:
        with pytest.raises(case.error, match=rf"(?s){case.named}") as caught:
            case.call(front)
        assert isinstance(caught.value, ConnectorError | JinaClipError)
        if isinstance(caught.value, PartialFailureError):
            check_report(caught.value, case)
    assert front.kept() == {"good"} | case.kept
    if not case.breaks:
        assert front.store.count() == 1 + len(case.kept)
        found = front.store.get(["good", *sorted(case.kept)])
        assert [record.record_id for record in found] == ["good", *sorted(case.kept)]
        assert (found[0].content, found[0].metadata) == ("text of good", {"year": 2020})
        if "twice" in name:
            assert front.store.get(["a"])[0].content == "the last"
        if case.kept == {LONG_ID}:
            assert front.store.search(found[1].embedding, limit=1)[0].record_id == LONG_ID


def check_report(error, case):
    """Every position is told to have failed or not, and those that have not are what was written."""
    assert sorted([*error.failed, *error.kept]) == list(range(len(error.failed) + len(error.kept)))
    assert len(error.kept) == len(case.kept)
    assert all(isinstance(each, ConnectorError) for each in error.failed.values())


def test_the_table_is_of_at_least_forty_cases():
    assert len(CASES) >= 40
