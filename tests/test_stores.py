import pytest

from tests.contracts.store_contract import StoreContract
from tests.live_stores import LIVE_STORES


class _Live(StoreContract):
    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        with LIVE_STORES[cls.name]() as open_store:
            yield open_store


class TestInMemoryStore(_Live):
    name = "memory"


class TestQdrantEdgeStore(_Live):
    name = "edge"


class TestQdrantStore(_Live):
    name = "qdrant"


class TestWeaviateStore(_Live):
    name = "weaviate"


class TestPineconeStore(_Live):
    name = "pinecone"
