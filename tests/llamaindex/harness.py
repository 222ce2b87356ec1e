"""Nodes, queries and filters of the tests of the LlamaIndex vector store."""

import dataclasses

from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterCondition, MetadataFilter, MetadataFilters, VectorStoreQuery

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig

E = 8
PLAIN = EmbeddingConfig(model="hash", revision="1", dimensions=E)
TILED = dataclasses.replace(PLAIN, tiling=Tiling(max_tiles=4))
NANO = EmbeddingConfig(model="nano")


def vector(*values):
    return [float(value) for value in (*values, *[0] * (E - len(values)))]


RED, BLUE = vector(1), vector(0, 1)


def note(node_id, embedding=RED, **fields):
    return TextNode(id_=node_id, embedding=embedding, **{"text": f"text of {node_id}", **fields})


def photo(node_id, embedding=RED, **fields):
    return ImageNode(id_=node_id, embedding=embedding, **{"image_path": f"/photos/{node_id}.png", **fields})


def of_document(ref_doc_id):
    return {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc_id)}


def ask(embedding=RED, *, top_k=10, **fields):
    return VectorStoreQuery(query_embedding=embedding, similarity_top_k=top_k, **fields)


def where(*asked, condition=FilterCondition.AND):
    parts = [part if isinstance(part, MetadataFilters) else MetadataFilter(**part) for part in asked]
    return MetadataFilters(filters=parts, condition=condition)


def one(key, value, operator="=="):
    return {"key": key, "value": value, "operator": operator}


def image_path(node):
    assert isinstance(node, ImageNode)
    return node.image_path


def found_by(nodes, query):
    return list(nodes.query(query).nodes or [])


METADATA = {
    "a": {"year": 2019, "tags": ["x", "y"], "name": "anna"},
    "b": {"year": 2020.5, "tags": ["x"], "name": "bob"},
    "c": {"year": None, "tags": []},
    "d": {"tags": ["z", "y"], "name": ""},
}


def pictures_of(gallery):
    return [ImageNode(image_path=path, metadata={"file_path": path}) for path in gallery.values()]
