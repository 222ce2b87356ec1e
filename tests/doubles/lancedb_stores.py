"""Collections of LanceDB in a temporary folder: the real engine, without a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import lancedb

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.lancedb import LanceStore
from jclip_connectors.port import VectorStore
from jclip_connectors.testing.store_contract import E
from tests.every_store.live_stores import OpenStore


@contextmanager
def stores() -> Iterator[OpenStore]:
    opened: dict[EmbeddingConfig, LanceStore] = {}
    with TemporaryDirectory() as folder:
        connection = lancedb.connect(folder)

        def open_store(config: EmbeddingConfig) -> VectorStore:
            if config not in opened:
                dimensions = E if config.embedding_dim is None else None
                opened[config] = LanceStore.open(connection, f"photos{len(opened)}", config, dimensions=dimensions)
            opened[config].delete(where={})
            return opened[config]

        yield open_store
