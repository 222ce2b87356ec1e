"""What the tests of the Pinecone store share."""

import contextlib

import numpy as np

from jclip_connectors.pinecone import dialects as pinecone_dialects
from jclip_connectors.testing.store_contract import E, vector

LEGACY = {"fields": {"_values": {"type": "dense_vector", "dimension": E, "metric": "cosine"}}}
MANAGED = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}


@contextlib.contextmanager
def quiet(server):
    """The double, and an error where it has met what it has no rule for."""
    with server:
        yield server
    assert server.surprises == []


def make_legacy(client, name="old"):
    client.indexes.create(name=name, schema=LEGACY, deployment=MANAGED, timeout=-1)
    return name


def upsert_route(store):
    return "vectors_upsert" if isinstance(store._flows._dialect, pinecone_dialects.Vectors) else "documents_upsert"


def delete_route(store):
    return upsert_route(store).replace("upsert", "delete")


def tiles(*rows):
    return {
        "tile_embeddings": np.array([vector(*row) for row in rows]),
        "tile_boxes": np.array([[position, 0, position + 1, 9] for position in range(len(rows))]),
    }


def requests_for(server, call):
    before = len(server.requests)
    call()
    return [route for _, route in server.requests[before:]]


def items_of(server, kind=None):
    ((name, index),) = server.indexes.items()
    items = server.items(name) if index.namespaces else {}
    return {item_id: item for item_id, item in items.items() if kind in (None, item["kind"])}
