"""`AsyncRemoteEmbedder` in several event loops: each has connections of its own."""

import asyncio
import gc

import httpx
import numpy as np
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.remote import AsyncRemoteEmbedder
from tests.remote.jina_server import JinaServer

# A connection that is kept open when its event loop ends is closed by the garbage collector, which warns.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
CONFIG = EmbeddingConfig()


@pytest.fixture
def server():
    with JinaServer(lambda _kind, value, _request: np.full(1024, 1 + len(value))) as running:
        yield running
    gc.collect()  # inside the test, whose marks say which warnings are ignored


def test_several_calls_of_asyncio_run_share_an_embedder(server):
    embedder = AsyncRemoteEmbedder(CONFIG, base_url=server.url, max_items=1, max_concurrency=2)

    async def several():
        rows = await asyncio.gather(*(embedder.embed_texts(["a", "b", "c"]) for _ in range(3)))
        return rows[0].shape

    assert [asyncio.run(several()) for _ in range(3)] == [(3, 1024)] * 3
    asyncio.run(embedder.close())
    with pytest.raises(StoreRequestError, match="the embedder is closed"):
        asyncio.run(several())


def test_threads_with_an_event_loop_each_share_an_embedder(server):
    embedder = AsyncRemoteEmbedder(CONFIG, base_url=server.url, max_concurrency=1)

    async def main():
        own = embedder.embed_texts(["a"])
        other = asyncio.to_thread(lambda: asyncio.run(embedder.embed_texts(["a"])))
        rows = await asyncio.gather(own, other)
        await embedder.close()
        return [row.shape for row in rows]

    assert asyncio.run(main()) == [(1, 1024)] * 2


def test_a_client_of_the_caller_in_a_second_event_loop_is_told_in_one_sentence(server):
    client = httpx.AsyncClient()
    embedder = AsyncRemoteEmbedder(CONFIG, base_url=server.url, client=client)
    asyncio.run(embedder.embed_texts(["a"]))
    with pytest.raises(StoreRequestError, match="`client` has connections in an event loop that is closed"):
        asyncio.run(embedder.embed_texts(["a"]))
