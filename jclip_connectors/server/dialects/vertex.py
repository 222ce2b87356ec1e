"""The dialect of a model on Google's Vertex AI: `instances` in, `predictions` out.

An instance has a text, an image, or both, and gets `textEmbedding` and `imageEmbedding`, as from Google's own
multimodal model.

Source: Vertex AI's requirements for custom containers, and its reference of multimodal embeddings.
"""

from functools import partial

from jclip_connectors.server.dialects.encodings import write_json
from jclip_connectors.server.dialects.fields import (
    check_count,
    check_items,
    image_item,
    kind,
    read_choice,
    read_dimensions,
    read_list,
    read_mapping,
    read_object,
    string_item,
    text_item,
)
from jclip_connectors.server.dialects.jina import write_error
from jclip_connectors.server.dialects.pairs import Pairs
from jclip_connectors.server.requests import Answer, Call, Dialect, EmbeddingRequest, Item, Served, item_error

_TASKS = {None: False, "retrieval.query": True, "retrieval.passage": False}


def read_request(body: bytes, served: Served) -> Call:
    """Read a request.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`instances`")
    parameters = read_mapping(raw, "parameters")
    instances = read_list(raw, "instances", served)
    pairs = Pairs.of(_instance(instance, index, served) for index, instance in enumerate(instances))
    check_count(len(pairs.items), "instances", served)
    name = "dimension" if "dimension" in parameters else "dimensions"
    request = EmbeddingRequest(
        items=check_items(pairs.items, "instances", served),
        numbers=pairs.rows,
        dimensions=read_dimensions(parameters, name, served),
        query=read_choice(parameters, "task", _TASKS),
    )
    return Call(request, partial(_write, pairs, served.names[0]))


DIALECT = Dialect(read_request, write_error)


def _instance(value: object, index: int, served: Served) -> dict[str, Item]:
    """Read one instance: its items, keyed by the names of their vectors."""
    if isinstance(value, str):
        return {"textEmbedding": string_item(value, index, served)}
    if not isinstance(value, dict):
        return {"": item_error(index, f"is {kind(value)}: send an object with `text` or `image`")}
    items: dict[str, Item] = {}
    if value.get("text") is not None:
        items["textEmbedding"] = text_item(value["text"], index, served)
    if value.get("image") is not None:
        items["imageEmbedding"] = _image(value["image"], index, served)
    return items if items else {"": item_error(index, "has neither `text` nor `image`: send one of them, or both")}


def _image(value: object, index: int, served: Served) -> Item:
    if not isinstance(value, dict):
        return image_item(value, index, served)
    if value.get("bytesBase64Encoded") is None:
        return item_error(index, "is an image without `bytesBase64Encoded`: send its bytes, buckets are not read")
    return image_item(value["bytesBase64Encoded"], index, served)


def _write(pairs: Pairs, model: str, answer: Answer) -> bytes:
    body = {"predictions": pairs.write(answer), "model": model}
    return write_json(body)
