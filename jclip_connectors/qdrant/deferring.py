"""The links of the search index of a collection: none while many records are written, then the index is built once.

Source: Qdrant, Bulk Upload Vectors (documentation of 1.16 and later): `m=0` defers the building of the graph.
"""

from typing import Any

from qdrant_client import models

from jclip_connectors.qdrant.requests import first_of
from jclip_connectors.store_kit.flows import Flow


def read_links(name: str) -> Flow[int]:
    """How many links a vector has in the index: 0 where none is built."""
    info: models.CollectionInfo = yield lambda client: client.get_collection(name)
    vectors: Any = info.config.params.vectors  # always named vectors in a collection of ours
    own = vectors[first_of(vectors)].hnsw_config
    usual = info.config.hnsw_config.m
    return int(usual if own is None or own.m is None else own.m)


def usual_links(name: str) -> Flow[int]:
    """How many links the collection's own setting says."""
    info: models.CollectionInfo = yield lambda client: client.get_collection(name)
    return int(info.config.hnsw_config.m)


def write_links(name: str, links: int) -> Flow[None]:
    """Change how many links a vector has; the server builds the index anew, and answers before that is done."""
    info: models.CollectionInfo = yield lambda client: client.get_collection(name)
    vectors: Any = info.config.params.vectors
    changed = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=links))
    yield lambda client: client.update_collection(name, vectors_config={first_of(vectors): changed})
