"""No key and no password is in what is shown, dumped, pickled, logged or raised."""

import contextlib
import importlib
import json
import logging
import pickle
import socket
import traceback
import types
import uuid
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs
import pytest
from langchain_core.load import dumps
from llama_index.core import StorageContext, VectorStoreIndex
from pinecone import Pinecone
from qdrant_client import QdrantClient

from core_encoder.errors import ConfigError
from jclip_connectors import pgvector
from jclip_connectors import store_urls as stores
from jclip_connectors.chroma import store as chroma_store
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError
from jclip_connectors.langchain import JinaClipEmbeddings
from jclip_connectors.langchain import vector_store as langchain_vector_store
from jclip_connectors.llamaindex import vector_store as llamaindex_vector_store
from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.milvus import store as milvus_store
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.pinecone import store as pinecone_store
from jclip_connectors.qdrant import store as qdrant_store
from jclip_connectors.remote import RemoteEmbedder
from jclip_connectors.server.api_keys import read_api_keys
from jclip_connectors.store_kit.keys import read_key
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.store_contract import PLAIN, image, vector
from jclip_connectors.weaviate import store as weaviate_stores
from tests.doubles import chroma_stores
from tests.doubles.chroma_proxy import TOKEN, ChromaProxy
from tests.doubles.pinecone_server import KEY as PINECONE_KEY
from tests.doubles.pinecone_server import PineconeDouble
from tests.doubles.postgres_faults import TroubledDatabase
from tests.doubles.qdrant_server import Fault, QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble
from tests.every_store.live_stores import SLOW

KEY = "sk-lookforme-5c1e"
PASSWORD = "pw-lookforme-77aa"  # noqa: S105 - it is looked for, and must not be found
MARKS = (KEY, PASSWORD, PINECONE_KEY)
# What httpx and the SDKs log, of URLs for one, is theirs to answer for.
OURS = ("jclip_connectors", "core_encoder")


class Qdrant:
    variable, key = "QDRANT_API_KEY", KEY

    @contextlib.contextmanager
    def running(self):
        with QdrantServer(api_key=KEY) as self.server:
            yield self

    @contextlib.contextmanager
    def client(self, **options):
        with contextlib.closing(QdrantClient(**self.address(), check_compatibility=False, **options)) as client:
            yield client

    def address(self):
        return {"url": self.server.url, "api_key": KEY}

    def open(self, client):
        return qdrant_store.QdrantStore.open(client, "photos", PLAIN)

    def stored(self, client):
        return qdrant_store.stored_fingerprint(client, "photos")

    @property
    def url(self):
        return self.server.url.replace("http:", "qdrant:") + "/photos"

    def go_down(self):
        self.server.stop()

    def refuse_key(self):
        self.server.keys = {"another": "all"}

    def echo(self, status):
        body = json.dumps({"status": {"error": f"cannot read the header api-key: {KEY}"}}).encode()
        self.server.faults.append(Fault(".", status=status, body=body, times=999))


class QdrantPassword(Qdrant):
    """The key is one, and the URL has a password."""

    def address(self):
        return {"url": self.server.url.replace("//", f"//somebody:{PASSWORD}@"), "api_key": KEY}


class Weaviate:
    variable, key = "WEAVIATE_API_KEY", KEY

    @contextlib.contextmanager
    def running(self):
        with WeaviateDouble(api_key=KEY) as self.server:
            yield self

    def client(self):
        return self.server.connect(api_key=KEY)

    def open(self, client):
        return weaviate_stores.WeaviateStore.open(client, "Photos", PLAIN)

    def stored(self, client):
        return weaviate_stores.stored_fingerprint(client, "Photos")

    @property
    def url(self):
        return f"weaviate://127.0.0.1:{self.server.http_port}/Photos?grpc_port={self.server.grpc_port}"

    def go_down(self):
        self.server.__exit__()

    def refuse_key(self):
        self.server._authorization = "Bearer another"

    def echo(self, status):
        code = grpc.StatusCode.INTERNAL if status == 500 else grpc.StatusCode.UNKNOWN
        for call in ("Search", "Aggregate", "BatchObjects", "BatchDelete"):
            self.server.fail(call, code, times=999, details=f"cannot read authorization: Bearer {KEY}")
        for call in ("GET /v1/meta", "GET /v1/schema/Photos"):
            self.server.fail(call, status, times=999, details=f"cannot read authorization: Bearer {KEY}")


class PineconeService:
    variable, key = "PINECONE_API_KEY", PINECONE_KEY

    @contextlib.contextmanager
    def running(self):
        with PineconeDouble() as self.server:
            accept = self.server._http.get_request
            self.connections: list[socket.socket] = []

            def get_request():
                connection, address = accept()
                self.connections.append(connection)
                return connection, address

            self.server._http.get_request = get_request
            yield self

    def client(self):
        return self.server.connect()

    def open(self, client):
        return pinecone_store.PineconeStore.open(client, "photos", PLAIN)

    def stored(self, client):
        return pinecone_store.stored_fingerprint(client, "photos")

    url = "pinecone://photos"

    def go_down(self):
        self.server.__exit__()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # most have ended by themselves
                connection.shutdown(socket.SHUT_RDWR)

    def refuse_key(self):
        def answer(method, path, params, headers, body):
            wrong = {**headers, "Api-Key": headers["Api-Key"] + "-old"}  # which the double repeats
            return PineconeDouble.answer(self.server, method, path, params, wrong, body)

        self.server.answer = answer

    def echo(self, status):
        for call in ("search", "fetch", "upsert", "delete"):
            self.server.fail(
                f"documents_{call}", status=status, times=999, message=f"no access: Api-Key {PINECONE_KEY}"
            )
        self.server.fail("describe_index", status=status, times=999, message=f"no access: Api-Key {PINECONE_KEY}")


class PineconePassword(PineconeService):
    @contextlib.contextmanager
    def running(self):
        with super().running():
            self.server.url = self.server.url.replace("//", f"//somebody:{PASSWORD}@")
            yield self


class PgVector:
    variable, key = "PGPASSWORD", KEY

    @contextlib.contextmanager
    def running(self):
        with TroubledDatabase(password=KEY).running() as self.database:
            yield self

    def client(self):
        return contextlib.closing(self.database.connect())

    def open(self, client):
        return PgVectorStore.open(client, "photos", PLAIN)

    def stored(self, client):
        return pgvector.stored_fingerprint(client, "photos")

    @property
    def url(self):
        server = self.database.server
        return f"postgresql://{server.host}:{server.port}/{self.database.name}/photos"

    def go_down(self):
        self.database.go_down()

    def refuse_key(self):
        self.database.want_another_password()

    def echo(self, status):
        state = {400: "22023", 500: "53000"}[status]  # invalid_parameter_value, insufficient_resources
        self.database.fail(state, f"cannot read the password: {KEY}")


class Milvus:
    variable, key = "MILVUS_TOKEN", KEY

    @contextlib.contextmanager
    def running(self):
        double = importlib.import_module("tests.doubles.milvus_server")
        with double.MilvusServer(token=KEY) as self.server:
            yield self

    def client(self):
        return contextlib.closing(self.server.connect())

    def open(self, client):
        return milvus_store.MilvusStore.open(client, "photos", PLAIN, timeout_s=1)

    def stored(self, client):
        return milvus_store.stored_fingerprint(client, "photos")

    @property
    def url(self):
        return f"milvus://127.0.0.1:{self.server.port}/photos"

    def go_down(self):
        self.server.stop()

    def refuse_key(self):
        self.server.token = "another"  # noqa: S105 (of the tests' own server)

    def echo(self, status):
        calls = ("Search", "Query", "Upsert", "Delete", "DescribeCollection")
        code = {400: 1100, 500: 7}[status]
        self.server.fail(*calls, code=code, reason=f"cannot read authorization: Bearer {KEY}")


class Chroma:
    variable, key = "CHROMA_API_KEY", KEY

    @contextlib.contextmanager
    def running(self):
        self.name = f"photos-{uuid.uuid4().hex}"
        with ChromaProxy(chroma_stores.shared_server(), key=KEY) as self.server:
            yield self

    def client(self):
        return chroma_stores.http_client(self.server.port, headers={TOKEN: KEY})

    def open(self, client):
        return chroma_store.ChromaStore.open(client, self.name, PLAIN)

    def stored(self, client):
        return chroma_store.stored_fingerprint(client, self.name)

    @property
    def url(self):
        return f"chroma://127.0.0.1:{self.server.port}/{self.name}"

    def go_down(self):
        self.server.__exit__()

    def refuse_key(self):
        self.server.key = "another"  # and the answer repeats ours

    def echo(self, status):
        self.server.status, self.server.text = status, f"cannot read the header {TOKEN}: {KEY}"


SERVICES: dict[str, Any] = {
    "qdrant": Qdrant,
    "qdrant with a password": QdrantPassword,
    "weaviate": Weaviate,
    "pinecone": PineconeService,
    "pinecone with a password": PineconePassword,
    "pgvector": PgVector,
    "milvus": Milvus,
    "chroma": Chroma,
}
EACH_SERVICE = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SERVICES]
CALLS = {
    "open": lambda on: on.service.open(on.client),
    "stored_fingerprint": lambda on: on.service.stored(on.client),
    "upsert": lambda on: on.store.upsert([image("a")]),
    "search": lambda on: on.store.search(vector(1)),
    "get": lambda on: on.store.get(["a"]),
    "delete": lambda on: on.store.delete(["a"]),
    "count": lambda on: on.store.count(),
    "scroll": lambda on: list(on.store.scroll()),
    "LangChain": lambda on: in_langchain(on.store).add_texts(["a"]),
    "LlamaIndex": lambda on: in_llamaindex(on.store).delete("a document"),
    "a collection": lambda on: MultimodalCollection(HashEmbedder(PLAIN), on.store).add_texts(["a"]),
}
FAULTS = {
    "down": lambda service: service.go_down(),
    "401": lambda service: service.refuse_key(),
    "400 with the key in it": lambda service: service.echo(400),
    "500 with the key in it": lambda service: service.echo(500),
}


def in_langchain(store):
    embeddings = JinaClipEmbeddings.from_embedder(HashEmbedder(PLAIN))
    return langchain_vector_store.JinaClipVectorStore(store, embeddings)


def in_llamaindex(store):
    return llamaindex_vector_store.JinaClipVectorStore(store=store)


def without_marks(said):
    """`said`, which holds none of what is looked for."""
    for mark in MARKS:
        assert mark not in said
        assert mark not in said.encode("unicode_escape").decode()
    return said


def told_by(error):
    """All that an error and its whole traceback say, with causes and contexts, also those that are suppressed."""
    told = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    if isinstance(error, ConnectorError):  # the attributes of an SDK's errors are its own, and no traceback shows them
        told.append(repr(vars(error)))
    if isinstance(error, PartialFailureError):
        told += [told_by(each) for each in error.failed.values()]
    told += [told_by(each) for each in (error.__cause__, error.__context__) if each is not None]
    return "\n".join(told)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nobody waits between tries."""
    monkeypatch.setattr("weaviate.retry.time", types.SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr("jclip_connectors.store_kit.retry._FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("pinecone._internal.http_client._retry_sleep", lambda _: None)


@pytest.fixture
def logged(caplog):
    """What is logged by us, at every level."""
    for name in (None, *OURS):
        caplog.set_level(logging.DEBUG, logger=name)
    return lambda: "\n".join(record.getMessage() for record in caplog.records if record.name.startswith(OURS))


pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection:UserWarning")


@pytest.fixture(params=EACH_SERVICE)
def service(request):
    with SERVICES[request.param]().running() as service:
        yield service


@pytest.fixture
def client(service):
    with service.client() as client:
        yield client


@pytest.fixture
def store(service, client):
    store = service.open(client)
    store.upsert([image("b")])
    yield store
    store.close()


def test_the_key_is_what_opens_the_store(store, service):
    """So that what is looked for below has been there."""
    assert store.count() == 1
    service.refuse_key()
    with pytest.raises(ConnectorError):
        store.count()


def test_nothing_that_is_shown_or_dumped_has_the_key(store, logged):
    collection = MultimodalCollection(HashEmbedder(PLAIN), store)
    langchain, llamaindex = in_langchain(store), in_llamaindex(store)
    retriever = langchain.as_retriever()
    embedding = JinaClipEmbedding.from_embedder(HashEmbedder(PLAIN))
    for thing in (
        *(store, store._flows, collection, langchain, langchain.embeddings, retriever, llamaindex, embedding),
        *(store.fingerprint, next(store.scroll()), store.search(vector(1))),
    ):
        without_marks(f"{thing!r}{thing}")
    for thing in (store._flows, collection, langchain):
        without_marks(repr(vars(thing)))
    for thing in (langchain.embeddings, llamaindex, embedding):
        without_marks(f"{thing.model_dump()}{thing.model_dump_json()}{type(thing).model_json_schema}")
    without_marks(f"{llamaindex.to_dict()}{llamaindex.to_json()}{embedding.to_dict()}{embedding.to_json()}")
    without_marks(f"{dumps(retriever)}{dumps(langchain.embeddings)}{retriever.get_graph().to_json()}")
    index = VectorStoreIndex.from_vector_store(llamaindex, embed_model=embedding)
    without_marks(repr(index.storage_context) + repr(index.as_retriever()))
    without_marks(repr(StorageContext.from_defaults(vector_store=llamaindex)))
    without_marks(logged())


def test_nothing_that_can_be_pickled_has_the_key(store):
    collection = MultimodalCollection(HashEmbedder(PLAIN), store)
    options = (JinaClipEmbeddings(model="nano"), JinaClipEmbedding(model="nano"))
    for thing in (store, store._flows, collection, in_langchain(store), in_llamaindex(store), *options):
        try:
            pickled = pickle.dumps(thing)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            without_marks(f"{error}{error!r}")
        else:
            without_marks(pickled.decode("latin-1"))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_error_and_no_log_has_the_key(service, client, store, logged, fault):
    on = types.SimpleNamespace(service=service, client=client, store=store)
    fault(service)
    for name, call in CALLS.items():
        try:
            call(on)
        except ConnectorError as error:
            without_marks(told_by(error))
        else:
            pytest.fail(f"{name} has worked")
    without_marks(logged())


# --- through URLs, with the keys in the environment


@pytest.fixture(params=[each for each in EACH_SERVICE if "password" not in str(each.values[0])])
def reached(request, monkeypatch):
    with SERVICES[request.param]().running() as service:
        monkeypatch.setenv(service.variable, service.key)
        if request.param == "pinecone":
            monkeypatch.setattr(
                "jclip_connectors.pinecone.url.Pinecone",
                lambda **given: Pinecone(host=service.server.url, ssl_verify=False, **given),
            )
        if request.param == "pgvector":
            monkeypatch.setenv("PGUSER", service.database.role)
        yield service


@pytest.mark.parametrize("fault", [None, *FAULTS.values()], ids=["none", *FAULTS])
def test_a_key_in_the_environment_is_neither_told_nor_logged(reached, logged, fault):
    with stores.connected(reached.url) as place:
        store = place.open(PLAIN, 8)
        without_marks(f"{place!r}{place}{store!r}{store}{store.fingerprint}")
        if fault is not None:
            fault(reached)
            for call in (place.fingerprint, lambda: place.open(PLAIN, 8), lambda: store.upsert([image("a")])):
                with pytest.raises(ConnectorError) as caught:
                    call()
                without_marks(told_by(caught.value))
    without_marks(logged())


BAD_KEYS = {
    "a line break in it": f"{KEY}\n-rest",
    "a blank": f"{KEY} rest",
    "no ASCII": f"{KEY}-schlüssel",
    "empty": " \n",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
@pytest.mark.parametrize("name", ["qdrant", "weaviate", "pinecone", "chroma", "milvus"])
def test_what_cannot_be_a_key_is_refused_before_an_sdk_has_it(name, key, monkeypatch, logged):
    url = {
        "qdrant": "qdrant://127.0.0.1:1/photos",
        "weaviate": "weaviate://127.0.0.1:1/Photos",
        "pinecone": "pinecone://a",
        "chroma": "chroma://127.0.0.1:1/photos",
        "milvus": "milvus://127.0.0.1:1/photos",
    }
    variable = "MILVUS_TOKEN" if name == "milvus" else f"{name.upper()}_API_KEY"
    monkeypatch.setenv(variable, key)
    with (
        pytest.raises(EmbedInputError, match=f"{variable} is not a key") as caught,
        stores.connected(url[name]),
    ):
        pytest.fail("it was taken")
    without_marks(told_by(caught.value) + logged())


def test_white_space_around_a_key_in_the_environment_is_left_out():
    for variable in ("QDRANT_API_KEY", "WEAVIATE_API_KEY", "PINECONE_API_KEY", "MILVUS_TOKEN"):
        assert read_key({variable: f" {KEY}\n"}, variable) == KEY
        assert read_key({}, variable) is None


def test_a_key_that_is_no_header_is_in_no_traceback_of_a_client_that_somebody_else_made():
    with QdrantServer(api_key=KEY) as server:
        bad = QdrantClient(url=server.url, api_key=f"{KEY}\n", check_compatibility=False)
        with contextlib.closing(bad) as client, pytest.raises(ConnectorError) as caught:
            qdrant_store.QdrantStore.open(client, "photos", PLAIN)
    without_marks(told_by(caught.value))


@pytest.mark.parametrize("key", [f"{KEY}\n-rest", f"{KEY} rest", f"{KEY}-schlüssel"])
def test_a_remote_embedder_and_a_server_refuse_what_cannot_be_a_key(key, tmp_path):
    with pytest.raises(ConfigError) as caught:
        RemoteEmbedder(PLAIN, base_url="http://127.0.0.1:1/v1", api_key=key)
    without_marks(told_by(caught.value))
    (tmp_path / "keys").write_text(key.replace("\n", "\t"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_api_keys({}, file=tmp_path / "keys")
    without_marks(told_by(caught.value))


def test_a_remote_embedder_shows_no_key_in_a_traceback():
    embedder = RemoteEmbedder(PLAIN, base_url="http://127.0.0.1:1/v1", api_key=f" {KEY}\n", attempts=1)
    with pytest.raises(ConnectorError) as caught:
        embedder.embed_texts(["a"])
    without_marks(told_by(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"qdrant://somebody:{PASSWORD}@host:6333/photos",
        f"qdrant://{KEY}@host/photos",
        f"weaviates://:{PASSWORD}@host/Photos",
        f"chroma://{KEY}@host/photos",
        f"chroma://host/photos?token={KEY}",
        f"pinecone://{KEY}@photos/pictures",
        f"postgresql://somebody:{PASSWORD}@host/a/photos",
        f"postgresql://host/a/photos?password={PASSWORD}",
        f"milvus://root:{PASSWORD}@host/photos",
        f"milvus://host/photos?token={KEY}",
        f"qdrant://host/photos?api_key={KEY}",
        f"weaviate://host/Photos?grpc_port={KEY}",
        f"pinecone://photos?key={KEY}",
        f"qdrant:somebody:{PASSWORD}@host/photos",
        f"https://somebody:{PASSWORD}@host/photos",
        f"https:somebody:{PASSWORD}@host/photos",
        f"qdrant://host:{PASSWORD}/photos",
        f"unknown://host/photos?key={KEY}",
        f"//somebody:{PASSWORD}@host",
        f"somebody:{PASSWORD}@host",
        f"http://[somebody:{PASSWORD}@host/photos",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url, logged, monkeypatch):
    monkeypatch.setenv("PINECONE_API_KEY", PINECONE_KEY)
    with pytest.raises(EmbedInputError) as caught, stores.connected(url):
        pytest.fail("it was taken")
    without_marks(told_by(caught.value) + logged())
    assert "`--store`" in str(caught.value)


@pytest.mark.parametrize("adapter", [JinaClipEmbeddings, JinaClipEmbedding])
def test_a_key_that_is_given_to_the_wrong_class_is_not_repeated(adapter):
    for options in ({"api_key": KEY}, {"dimensions": KEY}, {"model": "nano", "normalize": KEY}):
        with pytest.raises(ValueError, match="validation error") as caught:
            adapter(**options)
        without_marks(str(caught.value))


def test_the_address_of_a_picture_with_a_password_is_not_repeated():
    address = f"https://somebody:{PASSWORD}@host/a.png?key={KEY}"
    store = InMemoryStore(PLAIN)
    report = MultimodalCollection(HashEmbedder(PLAIN), store).add_images([address])
    without_marks(told_by(report.failed[0]))
    with pytest.raises(PartialFailureError) as caught:
        in_langchain(store).add_images([address])
    without_marks(told_by(caught.value))
    embedding = JinaClipEmbedding.from_embedder(HashEmbedder(PLAIN))
    with pytest.raises(ConnectorError) as refused:
        embedding.get_image_embedding(address)
    without_marks(told_by(refused.value))
