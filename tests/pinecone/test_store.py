"""The suite of stores on Pinecone's older indexes and with asyncio; the other suites are beside this one."""

import contextlib
import uuid

import pytest

from jclip_connectors.pinecone.store import AsyncPineconeStore, PineconeStore
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import E, StoreContract
from tests.doubles.pinecone_server import PineconeDouble
from tests.pinecone.harness import (
    make_legacy,
    quiet,
)


class TestPineconeStoreOnAVectorIndex(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        with quiet(PineconeDouble()) as server, server.connect() as client, contextlib.ExitStack() as stack:
            name = make_legacy(client)
            opened = {}

            def open_store(config):
                if config not in opened:
                    opened[config] = PineconeStore.open(client, name, config, namespace=uuid.uuid4().hex)
                    stack.callback(opened[config].close)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            assert {route for _, route in server.requests if route.startswith("documents")} == set()


class _Async(StoreContract):
    legacy: bool

    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        with quiet(PineconeDouble()) as server, EventLoop() as loop, server.connect() as client:
            name = make_legacy(client) if cls.legacy else "photos"
            async_client = server.connect_async()
            opened = {}

            def open_store(config):
                if config not in opened:
                    dimensions = E if config.embedding_dim is None else None
                    opening = AsyncPineconeStore.open(
                        async_client, name, config, namespace=uuid.uuid4().hex, dimensions=dimensions
                    )
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            for store in opened.values():
                store.close()
            loop.run(async_client.close())


class TestAsyncPineconeStore(_Async):
    legacy = False


class TestAsyncPineconeStoreOnAVectorIndex(_Async):
    legacy = True
