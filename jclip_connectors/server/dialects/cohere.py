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
    missing,
    read_choice,
    read_dimensions,
    read_list,
)
from jclip_connectors.server.dialects.items import (
    Mark,
    check_no_images,
    check_texts,
    image_item,
    object_item,
    plain_text_item,
    read_marks,
)
from jclip_connectors.server.dialects.json_bodies import read_object
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
        if not given:
            raise missing(raw, "texts")
        found = " and ".join(f"`{name}`" for name in given)
        raise RequestError(f"the request has {found}: send one of `texts`, `images`, `inputs`", field="texts")
    check_no_images(raw, "images", known=("images",))
    values = read_list(raw, given[0], served)
    marks = read_marks(raw, len(values))
    if given[0] == "texts":
        check_texts(values, raw, "texts")
        items = [plain_text_item(value, index, served) for index, value in enumerate(values)]
    elif given[0] == "images":
        items = [image_item(value, index, served) for index, value in enumerate(values)]
    else:
        items = [
            _input(value, index, served, mark) for index, (value, mark) in enumerate(zip(values, marks, strict=True))
        ]
    return check_items(items, given[0], served)


def _input(value: object, index: int, served: Served, mark: Mark) -> Item:
    """Read one of `inputs`: a list of parts, which must have exactly one part for this model."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        return item_error(index, "has no `content`: send {'content': [{'type': 'text', 'text': ...}]}")
    return object_item(value, index, served, mark)


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
