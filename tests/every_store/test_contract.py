import pytest

from jclip_connectors.testing.store_contract import StoreContract
from tests.every_store.live_stores import OverOneStore


class _Live(OverOneStore, StoreContract):
    pass


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


class TestPgVectorStore(_Live):
    name = "pgvector"


class TestLanceStore(_Live):
    name = "lancedb"


@pytest.mark.slow
class TestMilvusStore(_Live):
    name = "milvus"


class TestChromaStore(_Live):
    name = "chroma"


@pytest.mark.slow
class TestChromaStoreOfAServer(_Live):
    name = "chroma-server"
