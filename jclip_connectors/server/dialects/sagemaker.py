"""The dialect of a model on AWS SageMaker: `GET /ping` and `POST /invocations`.

The body is what the `jina-sagemaker` client sends, {"data": [...], "parameters": {...}}, or a request of the hosted API
in which `model` may be absent, because an endpoint has only one model.

Source: SageMaker's contract for inference containers, and the source of `jina-sagemaker`.
"""

from collections.abc import Mapping
from typing import Any

from jclip_connectors.server.dialects.encodings import write_json
from jclip_connectors.server.dialects.fields import (
    check_items,
    check_model,
    read_choice,
    read_dimensions,
    read_list,
    read_mapping,
)
from jclip_connectors.server.dialects.items import any_items, check_no_images, refuse_token_ids
from jclip_connectors.server.dialects.jina import read_fields, write_error, write_vectors
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.requests import Answer, Call, Dialect, EmbeddingRequest, Served

# Without a task, the client sends "text-matching", a task of other models.
_TASKS = {None: False, "retrieval.query": True, "retrieval.passage": False, "text-matching": False}


def read_request(body: bytes, served: Served) -> Call:
    """Read a request in either form.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`data`, or with `input`")
    return _read_data(raw, served) if "data" in raw else read_plain(raw, served)


def read_plain(raw: Mapping[str, Any], served: Served) -> Call:
    """Read a request of the hosted API in which `model` may be absent; errors as for `read_request`."""
    if raw.get("model") is not None:
        check_model(raw["model"], served)
    return read_fields(raw, served)


DIALECT = Dialect(read_request, write_error)


def _read_data(raw: Mapping[str, Any], served: Served) -> Call:
    parameters = read_mapping(raw, "parameters")
    values = read_list(raw, "data", served)
    refuse_token_ids(values, "data")
    check_no_images(raw, "data")
    request = EmbeddingRequest(
        items=check_items(any_items(values, {**parameters, **raw}, served), "data", served),
        dimensions=read_dimensions(parameters, "dimensions", served),
        query=read_choice(parameters, "task", _TASKS),
    )
    return Call(request, _write)


def _write(answer: Answer) -> bytes:
    total = answer.text_tokens + answer.image_tokens
    body = {"data": write_vectors(answer), "usage": {"total_tokens": total}}
    return write_json(body)
