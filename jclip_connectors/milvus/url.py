"""The place that `milvus:PATH#COLLECTION` or `milvus://HOST:PORT/COLLECTION` names, and `milvuss://` with TLS."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pymilvus import MilvusClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.milvus.client_log import quiet
from jclip_connectors.milvus.errors import translate
from jclip_connectors.milvus.opening import TIMEOUT_S
from jclip_connectors.milvus.store import MilvusStore, stored_fingerprint
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.keys import read_key
from jclip_connectors.store_kit.places import DEFAULTS, FolderUrl, Place, ServerUrl, StoreScheme, connect


def _on_server(url: ServerUrl, stack: ExitStack) -> Place:
    collection = url.collection()
    url.numbers()
    secure = url.scheme == "milvuss"
    # An address of IPv6 is in brackets.
    host = f"[{url.host}]" if ":" in url.host else url.host
    address = f"{'https' if secure else 'http'}://{host}:{url.port or (443 if secure else 19530)}"
    token = read_key(os.environ, "MILVUS_TOKEN") or ""
    with quiet():
        client = connect(
            lambda: MilvusClient(uri=address, token=token, timeout=url.timeout_s, dedicated=True), translate
        )
    stack.callback(client.close)
    timeout_s = TIMEOUT_S if url.timeout_s is None else url.timeout_s

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        return MilvusStore.open(client, collection, config, dimensions=dimensions, timeout_s=timeout_s, **search)

    return Place(
        name=url.name,
        fingerprint=lambda: stored_fingerprint(client, collection, timeout_s=timeout_s),
        open=open_store,
        search_options=("hnsw_ef",),
        client=client,
        collection=collection,
    )


def _in_folder(url: FolderUrl, stack: ExitStack) -> Place:
    folder, collection = url.folder_and_collection()
    if folder.suffix != ".db":
        raise EmbedInputError(
            f"{url.argument} is no database of Milvus Lite, whose name ends in '.db'; write milvus:PATH.db#COLLECTION"
        )

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        store = MilvusStore.open(folder, collection, config, dimensions=dimensions, **search)
        stack.callback(store.close)
        return store

    return Place(
        name=url.name,
        fingerprint=lambda: stored_fingerprint(folder, collection),
        open=open_store,
        folder=folder,
        client=folder,
        collection=collection,
    )


SCHEME = StoreScheme(server=_on_server, folder=_in_folder)
