"""The asyncio store, on a real server: the suite of all stores, many tasks, and both stores side by side."""

import asyncio
import contextlib

import numpy as np
import pytest

from jclip_connectors.chroma import AsyncChromaStore, ChromaStore
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import CollectionMismatchError
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import PLAIN, StoreContract, ids_of
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from tests.chroma.parts import QUERY, TILED, records
from tests.docs import readers_folder
from tests.docs.blocks import DOCS, blocks_of
from tests.doubles.chroma_stores import chromadb, http_client, settings, shared_server

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def asyncio_client(port):
    client = await chromadb().AsyncHttpClient(host="127.0.0.1", port=port, settings=settings())
    try:
        yield client
    finally:
        await client._server._cleanup()  # chromadb's asyncio client cannot be closed
        await client._admin_client._server._cleanup()


class TestAsyncChromaStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        with EventLoop() as loop:
            entered = asyncio_client(shared_server())
            client = loop.run(entered.__aenter__())

            def open_store(config):
                if config not in opened:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    opening = AsyncChromaStore.open(client, f"async-{len(opened)}", config, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(entered.__aexit__(None, None, None))


def test_tasks_may_share_a_store_and_both_stores_see_the_same(name):
    async def work(store, i):
        await store.upsert(records(100 * i, 100 * i + 20, tiles=2))
        return len(await store.search(QUERY, limit=5, tiles=True))

    async def main():
        async with asyncio_client(shared_server()) as client:
            store = await AsyncChromaStore.open(client, name, TILED)
            assert await asyncio.gather(*(work(store, i) for i in range(8))) == [5] * 8
            many = await store.search_many(np.stack([QUERY] * 70), limit=3)
            assert many == [many[0]] * 70
            with pytest.raises(CollectionMismatchError, match="`tiling`"):
                await AsyncChromaStore.open(client, name, PLAIN)
            return await store.count(), ids_of(await store.search(QUERY))

    with http_client(shared_server()) as client:
        counted, found = asyncio.run(main())
        blocking = ChromaStore.open(client, name, TILED)
        assert (blocking.count(), ids_of(blocking.search(QUERY))) == (counted, found)
        assert counted == 160


def test_the_block_of_the_page_that_wants_a_server_runs(tmp_path, monkeypatch, capsys):
    readers_folder.fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks_of(DOCS / "stores" / "chroma.md") if block.title is not None)
    text = block.text
    for told, used in {"8000": str(shared_server()), "jinaai/jina-clip-v2": "nano", "512": "64"}.items():
        assert told in text
        text = text.replace(told, used)
    # chromadb's asyncio client cannot be closed, and a test may leave nothing open.
    closing = "for each in (client, client._admin_client):\n        await each._server._cleanup()\n    return len(hits)"
    text = text.replace("return len(hits)", closing)
    exec(compile(text, "chroma.md", "exec"), {"__name__": "page"})  # noqa: S102 (our own page)
    assert capsys.readouterr().out == "0\n"
