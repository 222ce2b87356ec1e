"""The place that `pinecone://INDEX/NAMESPACE` names."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pinecone import Pinecone, RetryConfig

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.pinecone import DEFAULT_NAMESPACE, PineconeStore, stored_fingerprint
from jclip_connectors.pinecone.errors import translate
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.keys import read_key
from jclip_connectors.store_kit.places import DEFAULTS, Place, ServerUrl, StoreScheme, connect


def _place(url: ServerUrl, stack: ExitStack) -> Place:
    index, namespace = url.host, url.path.strip("/") or DEFAULT_NAMESPACE
    url.numbers()
    if url.port is not None:
        raise EmbedInputError(
            f"{url.argument}: a Pinecone index has no port; write pinecone://INDEX or pinecone://INDEX/NAMESPACE"
        )
    key = read_key(os.environ, "PINECONE_API_KEY")
    given: dict[str, Any] = (
        {} if key == os.environ.get("PINECONE_API_KEY") else {"api_key": key}
    )  # else the SDK reads the variable
    if url.timeout_s is not None:
        given["timeout"] = url.timeout_s
    # The SDK tries again within a second where the service asks to wait: the store waits instead.
    given["retry_config"] = RetryConfig(retryable_status_codes=RetryConfig().retryable_status_codes - {429})
    client = connect(lambda: Pinecone(**given), translate)
    stack.callback(client.close)

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        store = PineconeStore.open(client, index, config, namespace=namespace, dimensions=dimensions, **search)
        stack.callback(store.close)
        return store

    return Place(
        name=url.name,
        fingerprint=lambda: stored_fingerprint(client, index, namespace=namespace),
        open=open_store,
    )


SCHEME = StoreScheme(server=_place)
