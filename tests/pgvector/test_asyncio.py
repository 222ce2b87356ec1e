"""The asyncio store: the suite of all stores, and many tasks over one connection or a pool."""

import psycopg
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.pgvector import AsyncPgVectorStore
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from jclip_connectors.testing.store_contract import StoreContract
from tests.doubles import pgvector_stores


class TestAsyncPgVectorStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        with pgvector_stores.schema() as (_, schema), EventLoop() as loop:
            connection = loop.run(psycopg.AsyncConnection.connect(**pgvector_stores.address()))

            def open_store(config):
                if config not in opened:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    name = f"photos {len(opened)}"
                    opening = AsyncPgVectorStore.open(connection, name, config, schema=schema, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(connection.close())
