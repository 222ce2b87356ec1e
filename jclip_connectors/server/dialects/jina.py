"""The hosted API's dialect of `POST /v1/embeddings`, with the further fields that its clients and OpenAI's send.

Source: the OpenAPI file of the hosted API, version 2026.04.02, and the sources of its clients.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jclip_connectors.server.dialects.encodings import encode_vector, write_json
from jclip_connectors.server.dialects.fields import (
    check_bits,
    check_items,
    check_model,
    read_choice,
    read_dimensions,
    read_flag,
    read_items,
)
from jclip_connectors.server.dialects.items import any_items, check_no_images
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.requests import (
    Answer,
    Call,
    Dialect,
    EmbeddingRequest,
    ImageItem,
    Item,
    RequestError,
    Served,
    UrlItem,
)

_ENCODINGS = ("float", "base64", "binary", "ubinary")
_ENCODING_FIELDS = ("embedding_type", "encoding_type", "encoding_format")  # from the schema, older clients, and OpenAI
_TASKS = {None: False, "retrieval.query": True, "retrieval.passage": False}  # a passage gets no instruction


def read_request(body: bytes, served: Served) -> Call:
    """Read a request; the error of a bad item takes the item's place.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`model` and `input`")
    check_model(raw.get("model"), served)
    return read_fields(raw, served)


def read_fields(raw: Mapping[str, Any], served: Served) -> Call:
    """Read all fields except `model`, which must be checked before; errors as for `read_request`."""
    dimensions = read_dimensions(raw, "dimensions", served)
    encodings, named = _encodings(raw)
    check_bits(encodings, dimensions, "dimensions", served)
    request = EmbeddingRequest(
        items=_items(raw, served),
        dimensions=dimensions,
        normalized=read_flag(raw, "normalized"),
        query=read_choice(raw, "task", _TASKS),
        truncate=read_flag(raw, "truncate") is True,
        partial=read_flag(raw, "partial") is True,
    )
    # Repeat the client's name for the model: some clients refuse an answer with another name.
    model = served.names[0] if raw.get("model") is None else raw["model"]
    return Call(request, partial(_write, request, model, encodings, named))


def write_vectors(
    answer: Answer, encodings: tuple[str, ...] = ("float",), *, named: bool = False
) -> list[dict[str, Any]]:
    """Write the vectors of all items without an error, each with the number of its item."""
    return [
        {"object": "embedding", "index": index, "embedding": _encode(vector, encodings, named=named)}
        for index, vector in enumerate(answer.vectors)
        if not isinstance(vector, RequestError)
    ]


def write_error(error: RequestError, request_id: str) -> bytes:
    """Write an error: OpenAI's clients read `error`, all others read `detail`.

    `detail` is a string for every status, because clients show it to people.
    """
    kind_of_error = "invalid_request_error" if error.status < 500 else "server_error"
    body: dict[str, object] = {
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "error": {"message": error.detail, "type": kind_of_error, "param": error.field, "code": error.code},
    }
    if error.status == 422:
        body["errors"] = [{"field": error.field or "", "message": error.detail, "type": error.code.lower()}]
    return json.dumps(body).encode()


DIALECT = Dialect(read_request, write_error)


def is_weaviate(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from Weaviate's module for the hosted API."""
    return headers.get("x-header-vectordb-source", "").lower() == "weaviate"


def _read_from_weaviate(body: bytes, served: Served) -> Call:
    raw = read_object(body, expected="`model` and `input`")
    check_model(raw.get("model"), served)
    items = raw.get("input")
    if isinstance(items, list):
        # The module leaves out what is empty, so an object without fields stands for an empty text.
        raw["input"] = [{"text": ""} if item == {} else item for item in items]
    return read_fields(raw, served)


WEAVIATES_DIALECT = Dialect(_read_from_weaviate, write_error)


def _encodings(raw: Mapping[str, object]) -> tuple[tuple[str, ...], bool]:
    """The encodings of each vector, and whether they were given as a list: then the answer names each encoding."""
    given = {name: raw[name] for name in _ENCODING_FIELDS if raw.get(name) is not None}
    if not given:
        return ("float",), False
    name, value = next(iter(given.items()))
    if any(other != value for other in given.values()):
        raise RequestError(f"{' and '.join(f'`{each}`' for each in given)} differ: send one of them", field=name)
    values = value if isinstance(value, list) else [value]
    chosen = tuple(encoding for encoding in _ENCODINGS if encoding in values)
    if not values or any(each not in _ENCODINGS for each in values):
        raise RequestError(f"`{name}` must be one of {', '.join(_ENCODINGS)}, or a list of them", field=name)
    return chosen, isinstance(value, list)


def _items(raw: Mapping[str, object], served: Served) -> tuple[Item, ...]:
    values = read_items(raw, "input", served)
    check_no_images(raw, "input")
    return check_items(any_items(values, raw, served), "input", served)


def _write(
    request: EmbeddingRequest,
    model: str,
    encodings: tuple[str, ...],
    named: bool,  # noqa: FBT001 (bound by `partial`)
    answer: Answer,
) -> bytes:
    total = answer.text_tokens + answer.image_tokens
    usage = {"total_tokens": total, "prompt_tokens": total}
    if any(isinstance(item, ImageItem | UrlItem) for item in request.items):
        usage["image_tokens"] = answer.image_tokens
    body: dict[str, object] = {
        "object": "list",
        "model": model,
        "data": write_vectors(answer, encodings, named=named),
        "usage": usage,
    }
    if request.partial:
        body["errors"] = [
            {"index": index, "code": vector.code, "detail": vector.detail}
            for index, vector in enumerate(answer.vectors)
            if isinstance(vector, RequestError)
        ]
    return write_json(body)


def _encode(vector: NDArray[np.float32], encodings: tuple[str, ...], *, named: bool) -> object:
    encoded = {encoding: encode_vector(vector, encoding) for encoding in encodings}
    return encoded if named else encoded[encodings[0]]
