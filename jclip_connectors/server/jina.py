"""The hosted API's dialect of `POST /v1/embeddings`, with what its clients and OpenAI's send besides.

Source: the OpenAPI file of the hosted API, version 2026.04.02, and the sources of its clients.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from core_encoder.matryoshka import encode_binary, encode_ubinary
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.requests import EmbeddingRequest, Encoding, ImageItem, Item, RequestError, TextItem

_ENCODINGS: tuple[Encoding, ...] = ("float", "base64", "binary", "ubinary")
_ENCODING_FIELDS = ("embedding_type", "encoding_type", "encoding_format")  # the schema's, older clients', OpenAI's
_IMAGE_FIELDS = ("image", "bytes", "url")  # the schema's, and two that older clients send
_ALLOWED_ITEM = "a string, {'text': ...} or {'image': base64 or data URI}"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def parse_request(
    body: bytes,
    *,
    model_names: Sequence[str],
    embedding_dim: int,
    default_dimensions: int,
    limits: ServerLimits,
) -> EmbeddingRequest:
    """Read a request.

    Args:
        body: as it arrived.
        model_names: what `model` may be.
        embedding_dim: length E of a full vector.
        default_dimensions: length where the request names none.
        limits: what a request may ask for.

    Raises:
        RequestError: the request as a whole cannot be answered; a bad item only keeps its error in its place.
    """
    raw = _read_json(body)
    _check_model(raw, model_names)
    dimensions = _dimensions(raw.get("dimensions"), embedding_dim)
    encodings, named = _encodings(raw)
    length = default_dimensions if dimensions is None else dimensions
    if {"binary", "ubinary"} & set(encodings) and length % 8:
        raise RequestError(f"`dimensions` is {length}: binary embeddings take a multiple of 8", field="dimensions")
    return EmbeddingRequest(
        items=_items(raw, limits),
        dimensions=dimensions,
        normalized=_flag(raw, "normalized"),
        query=_is_query(raw.get("task")),
        encodings=encodings,
        named=named,
        truncate=_flag(raw, "truncate") is True,
        partial=_flag(raw, "partial") is True,
    )


def format_answer(
    request: EmbeddingRequest,
    results: Sequence[NDArray[np.float32] | RequestError],
    *,
    model: str,
    text_tokens: int,
    image_tokens: int,
) -> bytes:
    """Write the answer to a request.

    Args:
        request: what was asked.
        results: the finished vector (dimensions,) of each item, or why it has none.
        model: the name of the model.
        text_tokens: of all texts that have vectors.
        image_tokens: the price of all images that have vectors.
    """
    data = [
        {"object": "embedding", "index": index, "embedding": _encode(result, request)}
        for index, result in enumerate(results)
        if not isinstance(result, RequestError)
    ]
    usage = {"total_tokens": text_tokens + image_tokens, "prompt_tokens": text_tokens + image_tokens}
    if any(isinstance(item, ImageItem) for item in request.items):
        usage["image_tokens"] = image_tokens
    answer: dict[str, object] = {"object": "list", "model": model, "data": data, "usage": usage}
    if request.partial:
        answer["errors"] = [
            {"index": index, "code": result.code, "detail": result.detail}
            for index, result in enumerate(results)
            if isinstance(result, RequestError)
        ]
    return json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()


def format_error(error: RequestError, *, request_id: str) -> bytes:
    """Write an error; `detail` is a string whatever the status, as clients show it to people."""
    body: dict[str, object] = {"detail": error.detail, "code": error.code, "request_id": request_id}
    if error.status == 422:
        body["errors"] = [{"field": error.field or "", "message": error.detail, "type": error.code.lower()}]
    return json.dumps(body).encode()


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise RequestError("the body is nested too deeply", status=400) from None
    except ValueError as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"the body is not JSON in UTF-8{place}", status=400) from None
    if not isinstance(raw, dict):
        raise RequestError(f"the body is {_kind(raw)}: send an object with `model` and `input`", field="body")
    return raw


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


def _check_model(raw: Mapping[str, object], names: Sequence[str]) -> None:
    model = raw.get("model")
    if not isinstance(model, str):
        raise RequestError(f"`model` is {_kind(model)}: send {names[0]!r}", field="model")
    if model not in names:
        raise RequestError(
            f"the model {_shorten(model)} is not served here: send {names[0]!r}",
            status=400,
            code="INPUT_MODEL_NOT_FOUND",
            field="model",
        )


def _dimensions(value: object, embedding_dim: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)  # as the published examples send it
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= embedding_dim:
        found = str(value) if isinstance(value, int) and abs(value) < 10**9 else _kind(value)
        raise RequestError(f"`dimensions` is {found}: send an integer from 1 to {embedding_dim}", field="dimensions")
    return value


def _encodings(raw: Mapping[str, object]) -> tuple[tuple[Encoding, ...], bool]:
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


def _flag(raw: Mapping[str, object], name: str) -> bool | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"`{name}` is {_kind(value)}: send true or false", field=name)
    return value


def _is_query(task: object) -> bool:
    if task not in (None, "retrieval.query", "retrieval.passage"):  # a passage is what needs no task
        found = _shorten(task) if isinstance(task, str) else _kind(task)
        raise RequestError(
            f"`task` is {found}: send 'retrieval.query' for search queries, 'retrieval.passage' or nothing otherwise",
            field="task",
        )
    return task == "retrieval.query"


def _items(raw: Mapping[str, object], limits: ServerLimits) -> tuple[Item, ...]:
    value = raw.get("input")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise RequestError("`input` is an empty list: send at least one item", field="input")
    if len(values) > limits.max_items:
        raise RequestError(
            f"`input` has {len(values)} items, {limits.max_items} are allowed: send several requests", field="input"
        )
    if all(isinstance(each, int) or (isinstance(each, list) and each) for each in values):
        raise RequestError(
            "`input` holds token ids, which mean nothing to this model: send the text (LangChain's `OpenAIEmbeddings` "
            "does with `check_embedding_ctx_length=False`)",
            status=400,
            field="input",
        )
    items = tuple(_item(each, index, limits) for index, each in enumerate(values))
    chars = sum(len(item.text) for item in items if isinstance(item, TextItem))
    if chars > limits.max_request_chars:
        raise RequestError(
            f"the texts have {chars} characters in all, {limits.max_request_chars} are allowed: send several requests",
            status=400,
            code="INPUT_TOKEN_LIMIT_EXCEEDED",
            field="input",
        )
    return items


def _item(value: object, index: int, limits: ServerLimits) -> Item:
    """Read one item; what is wrong with it is returned in its place."""
    try:
        if isinstance(value, str):
            is_image = value[:11].lower() == "data:image/"  # a bare data URI, as some clients send
            return ImageItem(_image_bytes(value, index, limits)) if is_image else _text(value, index, limits)
        return _document(value, index, limits)
    except RequestError as error:
        return error


def _document(value: object, index: int, limits: ServerLimits) -> Item:
    if not isinstance(value, dict):
        raise _item_error(index, f"is {_kind(value)}: send {_ALLOWED_ITEM}")
    given = [name for name in ("text", *_IMAGE_FIELDS) if value.get(name) is not None]
    if len(given) != 1:
        what = f"has {' and '.join(f'`{name}`' for name in given)}" if given else "has neither `text` nor `image`"
        raise _item_error(index, f"{what}: send {_ALLOWED_ITEM}")
    content = value[given[0]]
    if not isinstance(content, str):
        raise _item_error(index, f"has `{given[0]}` that is {_kind(content)}: send a string")
    if given[0] == "text":
        return _text(content, index, limits)
    return ImageItem(_image_bytes(content, index, limits))


def _text(text: str, index: int, limits: ServerLimits) -> TextItem:
    if len(text) > limits.max_text_chars:
        raise _item_error(
            index,
            f"has {len(text)} characters, {limits.max_text_chars} are allowed: send parts of it",
            code="INPUT_TOKEN_LIMIT_EXCEEDED",
        )
    return TextItem(text)


def _image_bytes(text: str, index: int, limits: ServerLimits) -> bytes:
    """Decode base64 or a data URI; a name of a file or a URL is neither."""
    if _URL.match(text[:64]):
        raise _item_error(
            index, "is the URL of an image, and this server fetches none: send the image as base64", code="INPUT_URL"
        )
    payload = text
    if text[:5].lower() == "data:":
        header, comma, payload = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise _item_error(index, "is a data URI without base64: send 'data:image/png;base64,...'")
    payload = "".join(payload.split())
    if len(payload) * 3 // 4 > limits.max_image_bytes + 2:  # up to two of them are padding
        raise _item_error(
            index,
            f"is an image of {len(payload) * 3 // 4} bytes, {limits.max_image_bytes} are allowed: scale it down",
        )
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise _item_error(index, "is not base64: send the image's file as base64 or as a data URI") from None
    if not data:
        raise _item_error(index, "is an empty image: send the image's file as base64 or as a data URI")
    return data


def _encode(vector: NDArray[np.float32], request: EmbeddingRequest) -> object:
    encoded = {encoding: _encode_as(vector, encoding) for encoding in request.encodings}
    return encoded if request.named else encoded[request.encodings[0]]


def _encode_as(vector: NDArray[np.float32], encoding: Encoding) -> object:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    if encoding == "binary":
        return encode_binary(vector[np.newaxis])[0].tolist()
    if encoding == "ubinary":
        return encode_ubinary(vector[np.newaxis])[0].tolist()
    return vector.tolist()


def _item_error(index: int, what: str, *, code: str = "INPUT_INVALID") -> RequestError:
    return RequestError(f"item {index} {what}", status=400, code=code, field=f"input.{index}")


def _kind(value: object) -> str:
    """Name a JSON type for people; never the value, which may be anything."""
    names = {
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "a boolean",
        list: "a list",
        dict: "an object",
    }
    return "missing or null" if value is None else names[type(value)]


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
