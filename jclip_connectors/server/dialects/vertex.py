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
    read_choice,
    read_dimensions,
    read_list,
    read_mapping,
)
from jclip_connectors.server.dialects.items import (
    Mark,
    check_no_images,
    image_item,
    kind,
    object_item,
    other_content,
    read_marks,
    string_item,
    text_item,
)
from jclip_connectors.server.dialects.jina import write_error
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.dialects.pairs import Pairs
from jclip_connectors.server.requests import (
    Answer,
    Call,
    Dialect,
    EmbeddingRequest,
    ImageItem,
    Item,
    Served,
    UrlItem,
    item_error,
)

_TASKS = {None: False, "retrieval.query": True, "retrieval.passage": False}


def read_request(body: bytes, served: Served) -> Call:
    """Read a request.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`instances`")
    parameters = read_mapping(raw, "parameters")
    instances = read_list(raw, "instances", served)
    check_no_images(raw, "instances")
    marks = read_marks({**parameters, **raw}, len(instances))
    pairs = Pairs.of(_instance(value, i, served, marks[i]) for i, value in enumerate(instances))
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


def _instance(value: object, index: int, served: Served, mark: Mark) -> dict[str, Item]:
    """Read one instance: its items, keyed by the names of their vectors."""
    if isinstance(value, str):
        return _named(string_item(value, index, served, mark))
    if not isinstance(value, dict):
        return {"": item_error(index, f"is {kind(value)}: send an object with `text` or `image`")}
    if value.get("text") is None or value.get("image") is None or other_content(value):
        return _named(object_item(value, index, served, mark))
    texts = {"textEmbedding": text_item(value["text"], index, served)}
    return {**texts, "imageEmbedding": image_item(value["image"], index, served)}


def _named(item: Item) -> dict[str, Item]:
    return {"imageEmbedding" if isinstance(item, ImageItem | UrlItem) else "textEmbedding": item}


def _write(pairs: Pairs, model: str, answer: Answer) -> bytes:
    body = {"predictions": pairs.write(answer), "model": model}
    return write_json(body)
