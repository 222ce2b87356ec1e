"""The place that `qdrant://HOST:PORT/COLLECTION` names, and `qdrants://` with TLS."""

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from qdrant_client import QdrantClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import VectorStore
from jclip_connectors.qdrant.store import QdrantStore, stored_fingerprint
from jclip_connectors.store_kit.keys import read_key
from jclip_connectors.store_kit.places import DEFAULTS, Place, ServerUrl, StoreScheme


def _place(url: ServerUrl, stack: ExitStack) -> Place:
    collection = url.collection()
    url.numbers()
    client = QdrantClient(
        host=url.host,
        port=url.port or 6333,
        https=url.scheme == "qdrants",
        api_key=read_key(os.environ, "QDRANT_API_KEY"),
        timeout=None if url.timeout_s is None else math.ceil(url.timeout_s),
        check_compatibility=False,
    )
    stack.callback(client.close)

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        return QdrantStore.open(client, collection, config, dimensions=dimensions, **search)

    return Place(
        name=url.name,
        fingerprint=lambda: stored_fingerprint(client, collection),
        open=open_store,
        search_options=("candidates", "hnsw_ef", "oversampling"),
        client=client,
        collection=collection,
    )


SCHEME = StoreScheme(server=_place)
