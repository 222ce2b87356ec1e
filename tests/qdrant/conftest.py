"""The server of the tests, a client and a store of it."""

from contextlib import closing

import pytest
from qdrant_client import QdrantClient

from jclip_connectors.qdrant.store import QdrantStore
from tests.doubles.qdrant_server import QdrantServer
from tests.qdrant.harness import CONFIG


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


@pytest.fixture
def client(server):
    with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        yield client


@pytest.fixture
def store(client, server):
    store = QdrantStore.open(client, "photos", CONFIG)
    server.requests.clear()
    return store


@pytest.fixture
def quick(clock):
    """Waits between attempts are noted and not waited for."""
    return clock.waited
