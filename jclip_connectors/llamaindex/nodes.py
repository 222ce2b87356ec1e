"""Conversion between LlamaIndex's nodes and our records, and access to a node's image.

A record's metadata contains the node's metadata; `_node_content` and `_node_type`, LlamaIndex's own serialisation of
the node; and `_node_id` and `_ref_doc_id`, which identify the record.
"""

import base64
import binascii
import dataclasses
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any
from urllib.request import url2pathname

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    Node,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.utils import node_to_metadata_dict

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.port import Embedder, ImageSource, Modality, Record, SearchHit
from jclip_connectors.store_kit.json_values import as_metadata
from jclip_connectors.store_kit.validation import check_embedding, check_id

BOX = "box"  # key in the metadata of a result: its nearest tile
NODE_ID, REF_DOC_ID = "_node_id", "_ref_doc_id"
_CONTENT, _TYPE = "_node_content", "_node_type"
_RESERVED = (NODE_ID, REF_DOC_ID, _CONTENT, _TYPE)
_DOC_ID_KEYS = ("document_id", "doc_id", "ref_doc_id")  # keys of the document's id in LlamaIndex's other stores
_CLASSES: Mapping[str, type[BaseNode]] = MappingProxyType(
    {kind.class_name(): kind for kind in (TextNode, ImageNode, IndexNode, Node, Document, ImageDocument)}
)
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)  # a single letter is a drive


def is_image(node: BaseNode) -> bool:
    """Whether a node has an image, with or without a text."""
    return isinstance(node, ImageNode) or (isinstance(node, Node) and node.image_resource is not None)


def image_of(node: BaseNode) -> ImageSource:
    """The image of a node. As in LlamaIndex, bytes come first, then the path, then the URL.

    Raises:
        EmbedInputError: the node has no image, damaged base64, or a URL other than file://.
    """
    data, path, url = _image_fields(node)
    if data is not None:
        return _from_base64(data)
    if path is not None:
        return image_source(str(path))
    if url is not None:
        return image_source(str(url))
    raise EmbedInputError("it has no image: set `image_path`, or `image` to base64")


def image_source(image: str | BytesIO | ImageSource) -> ImageSource:
    """Convert an image from LlamaIndex for an `Embedder`.

    Raises:
        EmbedInputError: the image is a URL other than file://.
    """
    if isinstance(image, BytesIO):
        return image.getvalue()
    if not isinstance(image, str) or (url := _URL.match(image)) is None:
        return image
    scheme, rest = url.groups()
    host, slash, path = rest.partition("/")
    if scheme.lower() != "file":
        # The message leaves out the rest of the URL: it may contain a password.
        raise EmbedInputError(
            f"the image is a URL ('{scheme}://...'), and URLs are not downloaded: download it and pass its bytes"
        )
    if host not in ("", "localhost"):
        raise EmbedInputError("the image is a file:// URL with another host: write file:///path")
    return url2pathname(slash + path)


def text_of(node: BaseNode) -> str:
    """The text of a node, without its metadata."""
    if isinstance(node, TextNode):
        return node.text
    resource = node.text_resource if isinstance(node, Node) else None
    return "" if resource is None or resource.text is None else resource.text


def to_record(node: BaseNode, *, position: int, modality: Modality | None) -> Record:
    """Make the record of a node with an embedding; the record has the node's id.

    Args:
        node: the node; `to_node` restores it without its embedding and the bytes of its image.
        position: its position in the call, for messages.
        modality: what was embedded; `None` is the image if the node has one, else the text.

    Raises:
        EmbedInputError: the node has no embedding or an unsupported type, or its metadata is not JSON or has a
            reserved key.
    """
    if not isinstance(node, BaseNode):
        raise EmbedInputError(f"node {position} is {type(node).__name__}, not a node of LlamaIndex")
    check_id(node.node_id, name=f"the id of node {position}")
    name = f"node {position} ({node.node_id!r})"
    if _CLASSES.get(node.class_name()) is not type(node):
        raise EmbedInputError(f"{name} is a {type(node).__name__}, which cannot be restored; use {', '.join(_CLASSES)}")
    if node.embedding is None:
        raise EmbedInputError(f"{name} has no `embedding`: embed it first, with an index or a pipeline")
    if modality == "image" and not is_image(node):
        raise EmbedInputError(f"{name} is a {type(node).__name__} without an image, but `modality` is 'image'")
    kind: Modality = modality if modality is not None else "image" if is_image(node) else "text"
    path, url = _image_fields(_without_bytes(node))[1:]
    return Record(
        record_id=node.node_id,
        modality=kind,
        embedding=check_embedding(node.embedding, dimensions=None, name=f"`embedding` of {name}"),
        content=text_of(node) if kind == "text" else None,
        uri=str(path) if path is not None else None if url is None else str(url),
        metadata=_metadata(node, modality=kind, name=name),
    )


def to_node(found: Record | SearchHit) -> BaseNode:
    """Restore the node of a record; a record of another program becomes a `TextNode` or an `ImageNode`.

    Raises:
        StoreRequestError: the record contains a node that cannot be read.
    """
    metadata = found.metadata
    if _CONTENT not in metadata:
        return _foreign_node(found)
    kind = _CLASSES.get(metadata.get(_TYPE, ""))
    if kind is None:
        raise StoreRequestError(f"{found.record_id!r} holds a node of the unknown type {metadata.get(_TYPE)!r}")
    try:
        node = kind.from_json(metadata[_CONTENT])
    except (ValueError, TypeError) as error:
        raise StoreRequestError(f"{found.record_id!r} holds a {kind.__name__} that cannot be read: {error}") from error
    if isinstance(node, TextNode) and found.modality == "text":
        node.set_content("" if found.content is None else found.content)
    return node


def with_tiles(records: Sequence[Record], nodes: Sequence[BaseNode], embedder: Embedder | None) -> list[Record]:
    """Add the tiles of images to their records.

    Raises:
        EmbedInputError: there is no embedder, or an image cannot be read.
    """
    positions = [at for at, record in enumerate(records) if record.modality == "image"]
    if not positions:
        return list(records)
    if embedder is None:
        raise EmbedInputError(
            "this collection stores the tiles of images: give the vector store an `embedder` to make them, like "
            "`embedding.embedder`"
        )
    for at in positions:
        if BOX in nodes[at].metadata:
            raise EmbedInputError(
                f"`metadata` of node {at} ({nodes[at].node_id!r}) has the key {BOX!r}, which a search sets to the "
                "nearest tile: rename it, or remove it from a search result"
            )
    tiled = dict(zip(positions, _embed_tiles(embedder, nodes, positions), strict=True))
    return [
        dataclasses.replace(record, tile_embeddings=tiled[at].vectors, tile_boxes=tiled[at].boxes)
        if at in tiled
        else record
        for at, record in enumerate(records)
    ]


def _embed_tiles(embedder: Embedder, nodes: Sequence[BaseNode], positions: Sequence[int]) -> list[TileEmbeddings]:
    failed: dict[int, Exception] = {}
    images = []
    for at in positions:
        try:
            images.append(image_of(nodes[at]))
        except EmbedInputError as error:
            failed[at] = error
    if not failed:
        try:
            return embedder.embed_image_tiles(images)
        except PartialFailureError as error:
            failed = {positions[at]: failure for at, failure in error.failed.items()}
    named = "; ".join(f"node {at} ({nodes[at].node_id!r}): {failure}" for at, failure in list(failed.items())[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    raise EmbedInputError(f"nothing was written, because images cannot be read: {named}{more}")


def _metadata(node: BaseNode, *, modality: Modality, name: str) -> dict[str, Any]:
    own = as_metadata(node.metadata, name=f"`metadata` of {name}")
    if taken := [key for key in _RESERVED if key in own]:
        raise EmbedInputError(f"`metadata` of {name} has the key {taken[0]!r}, which is reserved for the node itself")
    relationships = {kind: _related(related, name=name) for kind, related in node.relationships.items()}
    node = node.model_copy(update={"metadata": own, "relationships": relationships})
    try:
        # The text is already stored as the record's content.
        text_is_kept = modality == "text" and isinstance(node, TextNode)
        written = node_to_metadata_dict(_without_bytes(node), remove_text=text_is_kept)
        ref_doc_id = node.ref_doc_id
    except (ValueError, TypeError) as error:
        raise EmbedInputError(f"{name} cannot be written as JSON: {error}") from error
    of_document = {} if ref_doc_id is None else {**dict.fromkeys(_DOC_ID_KEYS, ref_doc_id), REF_DOC_ID: ref_doc_id}
    # The filter "is empty" means missing, null or [], but stores cannot filter []: drop it here (the node keeps it).
    filterable = {key: value for key, value in own.items() if value != []}
    return {**of_document, **filterable, NODE_ID: node.node_id, **{key: written[key] for key in (_CONTENT, _TYPE)}}


def _related(related: RelatedNodeInfo | list[RelatedNodeInfo], *, name: str) -> RelatedNodeInfo | list[RelatedNodeInfo]:
    """A relation of a node, with metadata that JSON can hold."""
    if isinstance(related, list):
        return [info.model_copy(update={"metadata": _related_metadata(info, name=name)}) for info in related]
    return related.model_copy(update={"metadata": _related_metadata(related, name=name)})


def _related_metadata(info: RelatedNodeInfo, *, name: str) -> dict[str, Any]:
    return as_metadata(info.metadata, name=f"the metadata of {info.node_id!r}, a relation of {name},")


def _image_fields(node: BaseNode) -> tuple[Any, Any, Any]:
    """Base64, path and URL of a node's image; each may be `None`."""
    if isinstance(node, ImageNode):
        return node.image, node.image_path, node.image_url
    resource = node.image_resource if isinstance(node, Node) else None
    return (None, None, None) if resource is None else (resource.data, resource.path, resource.url)


def _without_bytes(node: BaseNode) -> BaseNode:
    """The node without the image's bytes: a collection stores only the location of an image."""
    in_url = str(_image_fields(node)[2])[:5].lower() == "data:"
    if isinstance(node, ImageNode):
        return node.model_copy(update={"image": None, "image_url": None if in_url else node.image_url})
    if isinstance(node, Node) and node.image_resource is not None and in_url:
        return node.model_copy(update={"image_resource": node.image_resource.model_copy(update={"url": None})})
    return node  # other resources do not serialise bytes


def _foreign_node(found: Record | SearchHit) -> BaseNode:
    fields: dict[str, Any] = {"id_": found.record_id, "metadata": dict(found.metadata)}
    if found.modality == "text":
        return TextNode(text="" if found.content is None else found.content, **fields)
    is_url = found.uri is not None and _URL.match(found.uri) is not None
    return ImageNode(**{"image_url" if is_url else "image_path": found.uri}, **fields)


def _from_base64(data: str | bytes) -> ImageSource:
    text = data.decode("ascii", "replace") if isinstance(data, bytes) else data
    if text[:5].lower() == "data:":
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EmbedInputError("its `image` is not base64") from error
