"""The dialect of Cohere's `POST /v2/embed`.

Source: the reference of Cohere's API, version 2, and the source of its Python client.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from jclip_connectors.server.dialects.encodings import encode_vector, write_json
from jclip_connectors.server.dialects.fields import (
    check_bits,
    check_items,
    check_model,
    image_item,
    kind,
    read_choice,
    read_dimensions,
    read_list,
    read_object,
    text_item,
)
from jclip_connectors.server.requests import (
    Answer,
    Call,
    Dialect,
    EmbeddingRequest,
    Item,
    RequestError,
    Served,
    TextItem,
    item_error,
)

_ENCODINGS = ("float", "int8", "binary", "ubinary", "base64")
_INPUT_TYPES: Mapping[str | None, bool] = MappingProxyType(
    {
        "search_query": True,
        "search_document": False,
        "classification": False,
        "clustering": False,
        "image": False,
    }
)
_TRUNCATE: Mapping[str | None, bool] = MappingProxyType({None: True, "END": True, "NONE": False})


def read_request(body: bytes, served: Served) -> Call:
    """Read a request.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`model`, `input_type` and one of `texts`, `images`, `inputs`")
    check_model(raw.get("model"), served)
    dimensions = read_dimensions(raw, "output_dimension", served)
    encodings = _encodings(raw)
    check_bits(encodings, dimensions, "output_dimension", served)
    request = EmbeddingRequest(
        items=_items(raw, served),
        dimensions=dimensions,
        query=read_choice(raw, "input_type", _INPUT_TYPES),
        truncate=read_choice(raw, "truncate", _TRUNCATE),
    )
    return Call(request, partial(_write, request.items, encodings))


def write_error(error: RequestError, request_id: str) -> bytes:
    """Write an error as Cohere does."""
    return json.dumps({"id": request_id, "message": error.detail, "code": error.code}).encode()


DIALECT = Dialect(read_request, write_error)


def _encodings(raw: Mapping[str, object]) -> tuple[str, ...]:
    given = raw.get("embedding_types")
    values = ["float"] if given is None else given
    if not isinstance(values, list) or not values or any(each not in _ENCODINGS for each in values):
        raise RequestError(f"`embedding_types` must be a list of {', '.join(_ENCODINGS)}", field="embedding_types")
    return tuple(encoding for encoding in _ENCODINGS if encoding in values)


def _items(raw: Mapping[str, Any], served: Served) -> tuple[Item, ...]:
    given = [name for name in ("texts", "images", "inputs") if raw.get(name) is not None]
    if len(given) != 1:
        found = f"has {' and '.join(f'`{name}`' for name in given)}" if given else "has no items"
        raise RequestError(f"the request {found}: send one of `texts`, `images`, `inputs`", field="texts")
    read = {"texts": text_item, "images": image_item, "inputs": _input}[given[0]]
    values = read_list(raw, given[0], served)
    return check_items((read(value, index, served) for index, value in enumerate(values)), given[0], served)


def _input(value: object, index: int, served: Served) -> Item:
    """Read one of `inputs`: a list of parts, which must have exactly one part for this model."""
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return item_error(index, "has no `content`: send {'content': [{'type': 'text', 'text': ...}]}")
    if len(content) != 1:
        return item_error(index, f"has {len(content)} parts: this model embeds one text or one image: send one part")
    part = content[0]
    if part.get("type") == "text":
        return text_item(part.get("text"), index, served)
    if part.get("type") == "image_url":
        image = part.get("image_url")
        return image_item(image.get("url") if isinstance(image, dict) else image, index, served)
    return item_error(index, f"has a part whose `type` is {kind(part.get('type'))}: send 'text' or 'image_url'")


def _write(items: Sequence[Item], encodings: Sequence[str], answer: Answer) -> bytes:
    vectors = [vector for vector in answer.vectors if not isinstance(vector, RequestError)]
    texts = [item.text for item in items if isinstance(item, TextItem)]
    num_images = len(items) - len(texts)
    billed = {"input_tokens": answer.text_tokens} if texts else {}
    if num_images:
        billed |= {"images": num_images, "image_tokens": answer.image_tokens}
    body = {
        "id": str(uuid.uuid4()),
        "response_type": "embeddings_by_type",
        "embeddings": {encoding: [encode_vector(vector, encoding) for vector in vectors] for encoding in encodings},
        "texts": texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": billed},
    }
    return write_json(body)
