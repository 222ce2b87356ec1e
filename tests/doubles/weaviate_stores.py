"""Stores for the suites: on the double, or on the server at WEAVIATE_URL.

WEAVIATE_URL is like http://localhost:8080; WEAVIATE_GRPC_PORT is the port of gRPC on the same host (50051), and
WEAVIATE_API_KEY the key, if there is one.
"""

import contextlib
import os
import urllib.parse
import uuid

import weaviate
from weaviate.classes.init import Auth

from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles.weaviate_server import WeaviateDouble

E = 8  # where a configuration does not say it


@contextlib.contextmanager
def clients():
    """A connected client."""
    url = os.environ.get("WEAVIATE_URL")
    if url is None:
        with WeaviateDouble() as server, server.connect() as client:
            yield client
        assert server.surprises == []
        return
    with weaviate.connect_to_custom(**address(url)) as client:
        yield client


def address(url):
    parts = urllib.parse.urlsplit(url)
    secure = parts.scheme == "https"
    key = os.environ.get("WEAVIATE_API_KEY")
    return {
        "http_host": parts.hostname,
        "http_port": parts.port or (443 if secure else 8080),
        "http_secure": secure,
        "grpc_host": parts.hostname,
        "grpc_port": int(os.environ.get("WEAVIATE_GRPC_PORT", "50051")),
        "grpc_secure": secure,
        "auth_credentials": None if key is None else Auth.api_key(key),
        "skip_init_checks": True,
    }


@contextlib.contextmanager
def stores():
    opened = {}
    with clients() as client:

        def open_store(config):
            if config not in opened:
                name = f"JclipTest{uuid.uuid4().hex}"
                dimensions = E if config.embedding_dim is None else None
                opened[config] = name, WeaviateStore.open(client, name, config, dimensions=dimensions)
            opened[config][1].delete(where={})
            return opened[config][1]

        try:
            yield open_store
        finally:
            for name, _ in opened.values():
                client.collections.delete(name)
