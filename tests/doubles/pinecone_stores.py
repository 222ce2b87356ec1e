"""Stores for the suites: on the double, or on the service where PINECONE_API_KEY and PINECONE_INDEX are set.

PINECONE_INDEX begins the names of the indexes that are made for the tests, one for each length of vectors, and deleted
afterwards. The service shows what is written after a while: there `Settled` waits for it.
"""

import contextlib
import os
import time
import uuid

from pinecone import Pinecone

from jclip_connectors.memory import InMemoryStore
from jclip_connectors.pinecone.store import PineconeStore
from tests.doubles.pinecone_server import PineconeDouble

E = 8  # where a configuration does not say it
LONGEST_WAIT_S = 120.0


@contextlib.contextmanager
def stores():
    if not {"PINECONE_API_KEY", "PINECONE_INDEX"} <= os.environ.keys():
        with PineconeDouble() as server, server.connect() as client:
            with opened(client, "tests") as open_store:
                yield open_store
            assert server.surprises == []
        return
    with Pinecone() as client, opened(client, os.environ["PINECONE_INDEX"], settle=True, clean=True) as open_store:
        yield open_store


@contextlib.contextmanager
def opened(client, prefix, *, settle=False, clean=False):
    """`open_store`, on indexes of `client` whose names begin with `prefix`."""
    kept = {}
    indexes = set()
    with contextlib.ExitStack() as stack:

        def open_store(config):
            length = E if config.embedding_dim is None else config.embedding_dim
            if config not in kept:
                index = f"{prefix}-{length}"
                indexes.add(index)
                store = PineconeStore.open(
                    client,
                    index,
                    config,
                    namespace=uuid.uuid4().hex,
                    dimensions=length if config.embedding_dim is None else None,
                )
                stack.callback(store.close)
                kept[config] = Settled(store, config) if settle else store
            kept[config].delete(where={})
            return kept[config]

        try:
            yield open_store
        finally:
            for index in indexes if clean else ():
                client.indexes.delete(index, timeout=-1)


class Settled:
    """A store whose writes return when the next read sees them."""

    def __init__(self, store, config):
        self._store = store
        self._mirror = InMemoryStore(config)

    def __getattr__(self, name):
        return getattr(self._store, name)

    def upsert(self, records):
        self._store.upsert(records)
        self._mirror.upsert(records)
        self._wait()

    def delete(self, ids=None, *, where=None):
        self._store.delete(ids, where=where)
        self._mirror.delete(ids, where=where)
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + LONGEST_WAIT_S
        while _names(self._store) != _names(self._mirror):
            assert time.monotonic() < deadline, "what was written cannot be seen yet"
            time.sleep(0.05)


def _names(store):
    return sorted((record.record_id, repr(record.metadata)) for record in store.scroll())
