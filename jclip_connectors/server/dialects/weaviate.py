"""The dialect of Weaviate's container for multi2vec-clip: `POST /vectorize` and `/meta`.

Weaviate sends the texts and images of one object per request, and computes the mean of their vectors itself. It cannot
send dimensions, so they are in the path: `/weaviate/256/vectorize`.

Source: the container's `app.py` and Weaviate's `modules/multi2vec-clip/clients`.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from jclip_connectors.server.dialects.encodings import encode_vector, write_json
from jclip_connectors.server.dialects.fields import (
    check_count,
    check_items,
    read_dimensions,
    read_list,
)
from jclip_connectors.server.dialects.items import check_no_images, check_texts, image_item, plain_text_item
from jclip_connectors.server.dialects.json_bodies import read_object
from jclip_connectors.server.requests import Answer, Call, Dialect, EmbeddingRequest, RequestError, Served


def dialect(dimensions: str | None = None) -> Dialect:
    """Make the dialect; `dimensions` is the part of the path, and `None` means the server's default."""
    return Dialect(partial(_read, dimensions), _write_error)


def describe(served: Served, dimensions: str | None = None) -> dict[str, Any]:
    """Answer `/meta`, which Weaviate shows to its operators.

    Raises:
        RequestError: the model has no vectors of this length.
    """
    length = read_dimensions({"dimensions": dimensions}, "dimensions", served)
    return {"model": served.names[0], "dimensions": served.dimensions if length is None else length}


def _read(dimensions: str | None, body: bytes, served: Served) -> Call:
    raw = read_object(body, expected="`texts` and `images`")
    texts = read_list(raw, "texts", served, required=False)
    images = read_list(raw, "images", served, required=False)
    check_count(len(texts) + len(images), "texts", served)
    check_no_images(raw, "images", known=("images",))
    check_texts(texts, raw, "texts")
    items = [plain_text_item(text, index, served) for index, text in enumerate(texts)]
    items += [image_item(image, index, served) for index, image in enumerate(images, start=len(texts))]
    request = EmbeddingRequest(
        items=check_items(items, "texts", served),
        dimensions=read_dimensions({"dimensions": dimensions}, "dimensions", served),
        truncate=True,  # as Weaviate's container does: a long text must not make its object fail
    )
    return Call(request, partial(_write, len(texts)))


def _write(num_texts: int, answer: Answer) -> bytes:
    vectors = [encode_vector(each, "float") for each in answer.vectors if not isinstance(each, RequestError)]
    body: Mapping[str, object] = {"textVectors": vectors[:num_texts], "imageVectors": vectors[num_texts:]}
    return write_json(body)


def _write_error(error: RequestError, request_id: str) -> bytes:
    return json.dumps({"error": error.detail, "code": error.code, "request_id": request_id}).encode()
