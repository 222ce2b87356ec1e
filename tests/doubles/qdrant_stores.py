"""Collections in the Qdrant server at QDRANT_URL (key: QDRANT_API_KEY), or in the double."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from qdrant_client import QdrantClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import VectorStore
from jclip_connectors.qdrant.store import QdrantStore
from jclip_connectors.testing.store_contract import E
from tests.doubles.qdrant_server import QdrantServer
from tests.every_store.live_stores import OpenStore


@contextmanager
def stores() -> Iterator[OpenStore]:
    opened: dict[EmbeddingConfig, QdrantStore] = {}
    prefix = f"jclip-test-{uuid.uuid4().hex}"
    with ExitStack() as stack:
        url = os.environ.get("QDRANT_URL") or stack.enter_context(QdrantServer()).url
        key = os.environ.get("QDRANT_API_KEY") or None
        client = stack.enter_context(closing(QdrantClient(url=url, api_key=key, check_compatibility=False, timeout=60)))

        def open_store(config: EmbeddingConfig) -> VectorStore:
            if config not in opened:
                name = f"{prefix}-{len(opened)}"
                dimensions = E if config.embedding_dim is None else None
                opened[config] = QdrantStore.open(client, name, config, dimensions=dimensions)
                stack.callback(client.delete_collection, name)
            opened[config].delete(where={})
            return opened[config]

        yield open_store
