"""The event loop goes on while large calls are checked."""

import asyncio
import time

import pytest
from langchain_core.documents import Document

from jclip_connectors.langchain import JinaClipEmbeddings, JinaClipVectorStore
from jclip_connectors.langchain import async_methods as methods
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder


@pytest.mark.parametrize(
    ("method", "check", "given"),
    [
        ("aadd_texts", "texts_as_items", ["one"]),
        ("aadd_documents", "documents_as_items", [Document("one")]),
        ("aadd_images", "images_as_items", [b"no image"]),
    ],
)
async def test_the_check_of_a_large_call_is_made_in_a_thread(monkeypatch, method, check, given):
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    passed: list[str] = []

    def slow(*_):
        loop.call_soon_threadsafe(started.set)
        deadline = time.monotonic() + 10
        while not passed and time.monotonic() < deadline:
            time.sleep(0.001)
        assert passed, "the event loop waited for the check"
        return [], {}

    monkeypatch.setattr(methods, check, slow)
    embedding = JinaClipEmbeddings.from_embedder(HashEmbedder())
    store = JinaClipVectorStore(InMemoryStore(embedding.config), embedding)
    adding = asyncio.create_task(getattr(store, method)(given))
    await asyncio.wait_for(started.wait(), 20)
    passed.append("the loop")  # only a loop that is free comes here while the check waits
    assert await adding == []
