"""The dialect of Hugging Face's text-embeddings-inference: `POST /embed` and `GET /info`.

Source: the OpenAPI document of text-embeddings-inference, and huggingface_hub's `InferenceClient`.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jclip_connectors.server.dialects.encodings import encode_vector, write_json
from jclip_connectors.server.dialects.fields import (
    check_items,
    read_choice,
    read_dimensions,
    read_flag,
    read_items,
)
from jclip_connectors.server.dialects.items import any_items, check_no_images
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.requests import Answer, Call, Dialect, EmbeddingRequest, RequestError, Served

_PROMPTS = {None: False, "query": True, "document": False, "passage": False}
_DIRECTIONS = {None: True, "right": True, "Right": True}  # the model can truncate only at the end
_ERROR_TYPES: Mapping[int, str] = MappingProxyType({401: "Unauthorized", 404: "NotFound", 429: "Overloaded"})


def read_request(body: bytes, served: Served) -> Call:
    """Read a request.

    Raises:
        RequestError: the request as a whole cannot be answered.
    """
    raw = read_object(body, expected="`inputs`")
    values = read_items(raw, "inputs", served)
    check_no_images(raw, "inputs")
    read_choice(raw, "truncation_direction", _DIRECTIONS)
    request = EmbeddingRequest(
        items=check_items(any_items(values, raw, served), "inputs", served),
        dimensions=read_dimensions(raw, "dimensions", served),
        normalized=read_flag(raw, "normalize"),
        query=read_choice(raw, "prompt_name", _PROMPTS),
        truncate=read_flag(raw, "truncate") is True,
    )
    return Call(request, _write)


def describe(served: Served, *, precision: str, max_tokens: int, batch_tokens: int, version: str) -> dict[str, Any]:
    """Answer `/info`, with the fields that clients read, and with the limits on images and bodies."""
    limits = served.limits
    return {
        "model_id": served.names[0],
        "model_sha": None,
        "model_dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision],
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_concurrent_requests": limits.max_waiting_requests,
        "max_input_length": max_tokens,
        "max_batch_tokens": batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": limits.max_items,
        "auto_truncate": False,
        "tokenization_workers": 2,
        "version": version,
        "served_model_names": list(served.names),
        "embedding_dim": served.embedding_dim,
        "dimensions": served.dimensions,
        "max_body_bytes": limits.max_body_bytes,
        "max_text_chars": limits.max_text_chars,
        "max_request_chars": limits.max_request_chars,
        "max_waiting_tokens": limits.max_waiting_tokens,
        "max_image_bytes": limits.max_image_bytes,
        "max_image_pixels": limits.max_pixels,
        "max_image_urls": limits.max_image_urls if served.image_urls else 0,
    }


def write_error(error: RequestError, request_id: str) -> bytes:
    """Write an error as text-embeddings-inference does, plus our code and request id."""
    kind = _ERROR_TYPES.get(error.status, "Validation" if error.status < 500 else "Backend")
    body = {"error": error.detail, "error_type": kind, "code": error.code, "request_id": request_id}
    return json.dumps(body).encode()


DIALECT = Dialect(read_request, write_error)


def _write(answer: Answer) -> bytes:
    vectors = [encode_vector(each, "float") for each in answer.vectors if not isinstance(each, RequestError)]
    return write_json(vectors)
