"""The double of the server, a client and two stores; nobody waits between tries."""

import types

import pytest

from jclip_connectors.testing.store_contract import PLAIN, TILED
from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles.weaviate_server import WeaviateDouble


@pytest.fixture
def server():
    with WeaviateDouble() as server:
        yield server
        assert server.surprises == []


@pytest.fixture
def client(server):
    with server.connect() as client:
        yield client


@pytest.fixture
def photos(client):
    return WeaviateStore.open(client, "Photos", PLAIN)


@pytest.fixture
def tiled(client):
    return WeaviateStore.open(client, "Tiled", TILED)


@pytest.fixture(autouse=True)
def waits(monkeypatch, clock):
    """The seconds that the client and we wait between tries, which nobody waits here."""

    async def sleep(seconds):
        clock.sleep(seconds)

    monkeypatch.setattr("weaviate.retry.time", clock)
    monkeypatch.setattr("weaviate.retry.asyncio", types.SimpleNamespace(sleep=sleep))
    return clock.waited
