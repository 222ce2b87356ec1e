"""The double, a client, and stores on both kinds of index."""

import contextlib

import pytest

from jclip_connectors.pinecone import opening as pinecone_opening
from jclip_connectors.pinecone.store import PineconeStore
from jclip_connectors.testing.store_contract import PLAIN, TILED
from tests.doubles.pinecone_server import PineconeDouble
from tests.pinecone.harness import make_legacy, quiet


@pytest.fixture
def server():
    with quiet(PineconeDouble()) as server:
        yield server


@pytest.fixture
def client(server):
    with server.connect() as client:
        yield client


@pytest.fixture(params=["documents", "vectors"])
def index_name(request, client):
    return "photos" if request.param == "documents" else make_legacy(client)


@pytest.fixture
def store(client, index_name):
    with contextlib.closing(PineconeStore.open(client, index_name, PLAIN)) as store:
        yield store


@pytest.fixture
def tiled(client, index_name):
    with contextlib.closing(PineconeStore.open(client, index_name, TILED)) as store:
        yield store


@pytest.fixture
def without_pauses(monkeypatch):
    monkeypatch.setattr(pinecone_opening, "_PAUSES_S", (0.01,) * 3)
    monkeypatch.setattr(pinecone_opening, "_FEW_PAUSES_S", (0.01,))


@pytest.fixture
def without_backoff(monkeypatch):
    # The place that the SDK keeps for its own tests; no option of the client reaches the requests to an index.
    monkeypatch.setattr("pinecone._internal.http_client._retry_sleep", lambda _: None)
