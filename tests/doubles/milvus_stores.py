"""Collections in the Milvus server at MILVUS_URL (token: MILVUS_TOKEN), or in Milvus Lite, which is a real engine."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pymilvus import MilvusClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.milvus.schema import name_of_tiles
from jclip_connectors.milvus.store import MilvusStore
from jclip_connectors.port import VectorStore
from jclip_connectors.testing.store_contract import E
from tests.every_store.live_stores import OpenStore


@contextmanager
def stores() -> Iterator[OpenStore]:
    opened: dict[EmbeddingConfig, MilvusStore] = {}
    prefix = f"jclip_test_{uuid.uuid4().hex}"
    with ExitStack() as stack:
        url = os.environ.get("MILVUS_URL")
        where: MilvusClient | Path
        if url:
            token = os.environ.get("MILVUS_TOKEN", "")
            where = stack.enter_context(closing(MilvusClient(uri=url, token=token, dedicated=True)))
        else:
            where = Path(stack.enter_context(TemporaryDirectory())) / "milvus.db"

        def open_store(config: EmbeddingConfig) -> VectorStore:
            if config not in opened:
                name = f"{prefix}_{len(opened)}"
                dimensions = E if config.embedding_dim is None else None
                opened[config] = stack.enter_context(
                    closing(MilvusStore.open(where, name, config, dimensions=dimensions))
                )
                if isinstance(where, MilvusClient):
                    stack.callback(where.drop_collection, name_of_tiles(name))
                    stack.callback(where.drop_collection, name)
            opened[config].delete(where={})
            return opened[config]

        yield open_store
