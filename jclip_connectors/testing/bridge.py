"""An asyncio store behind the blocking port, so that the suite of stores tests it too."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class EventLoop:
    """An event loop in a thread of its own: a context manager."""

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class BridgedStore:
    """A `VectorStore` that lets an `AsyncVectorStore` work on `loop`."""

    def __init__(self, store, loop):
        self._store = store
        self._loop = loop

    @property
    def fingerprint(self):
        return self._store.fingerprint

    def upsert(self, records):
        self._loop.run(self._store.upsert(records))

    def search(self, embedding, **options):
        return self._loop.run(self._store.search(embedding, **options))

    def search_many(self, embeddings, **options):
        return self._loop.run(self._store.search_many(embeddings, **options))

    def get(self, ids, **options):
        return self._loop.run(self._store.get(ids, **options))

    def delete(self, ids=None, *, where=None):
        self._loop.run(self._store.delete(ids, where=where))

    def count(self, **options):
        return self._loop.run(self._store.count(**options))

    def scroll(self, **options):
        return self._gather(lambda: self._store.scroll(**options))

    def ids(self, **options):
        return self._gather(lambda: self._store.ids(**options))

    def verify(self, **options):
        return self._loop.run(self._store.verify(**options))

    def close(self):
        self._loop.run(self._store.close())

    def _gather(self, start):
        async def gather():
            return [item async for item in start()]

        return iter(self._loop.run(gather()))
