"""The place that `weaviate://HOST:PORT/COLLECTION?grpc_port=N` names, and `weaviates://` with TLS."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import weaviate
from weaviate import WeaviateClient
from weaviate.auth import Auth
from weaviate.config import AdditionalConfig, GrpcConfig, Timeout

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.keys import read_key
from jclip_connectors.store_kit.places import DEFAULTS, Place, ServerUrl, StoreScheme, connect
from jclip_connectors.weaviate.aliases import aliased_collection
from jclip_connectors.weaviate.errors import translate
from jclip_connectors.weaviate.store import WeaviateStore, stored_fingerprint

_GRPC_PORT = 50051
# gRPC's own wait before it connects again grows to two minutes, and would outlive an outage.
_RECONNECT_SOON = [("grpc.initial_reconnect_backoff_ms", 500), ("grpc.max_reconnect_backoff_ms", 1000)]
_CLOUD = (".weaviate.cloud", ".weaviate.network")  # they have a separate host for gRPC


def _place(url: ServerUrl, stack: ExitStack) -> Place:
    named = url.collection()
    client = _connect(url)
    stack.callback(client.close)
    aliased = aliased_collection(client, named)  # a server takes an alias for objects, not for definitions
    collection = named if aliased is None else aliased

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        return WeaviateStore.open(client, collection, config, dimensions=dimensions, **search)

    return Place(
        name=url.name,
        fingerprint=lambda: stored_fingerprint(client, collection),
        open=open_store,
        client=client,
        collection=collection,
    )


def _connect(url: ServerUrl) -> WeaviateClient:
    secure = url.scheme == "weaviates"
    grpc_port = url.numbers({"grpc_port": _GRPC_PORT})["grpc_port"]
    http_port = url.port or (443 if secure else 8080)
    if not 0 < grpc_port < 2**16 or (grpc_port == http_port and not secure):
        raise EmbedInputError(
            f"{url.argument}: grpc_port is {grpc_port}; use another port than {http_port}, up to 65535"
        )
    key = read_key(os.environ, "WEAVIATE_API_KEY")
    credentials = None if key is None else Auth.api_key(key)
    timeout_s = url.timeout_s
    timeouts = Timeout() if timeout_s is None else Timeout(query=timeout_s, insert=timeout_s, init=timeout_s)
    additional = AdditionalConfig(grpc_config=GrpcConfig(channel_options=_RECONNECT_SOON), timeout=timeouts)

    # Skip the client's checks at the start: one of them asks the package index for a newer client.
    def make() -> WeaviateClient:
        if credentials is not None and url.host.endswith(_CLOUD):
            return weaviate.connect_to_weaviate_cloud(
                url.host, auth_credentials=credentials, additional_config=additional, skip_init_checks=True
            )
        return weaviate.connect_to_custom(
            http_host=url.host,
            http_port=http_port,
            http_secure=secure,
            grpc_host=url.host,
            grpc_port=grpc_port,
            grpc_secure=secure,
            auth_credentials=credentials,
            additional_config=additional,
            skip_init_checks=True,
        )

    return connect(make, translate)


SCHEME = StoreScheme(server=_place)
