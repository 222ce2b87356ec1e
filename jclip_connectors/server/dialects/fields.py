"""Reading the fields of requests in all dialects; each error says what to send instead."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jclip_connectors.server.dialects.items import ALLOWED_ITEM, kind, num_chars, refuse_token_ids
from jclip_connectors.server.requests import Item, RequestError, Served, TextItem, UrlItem

_OWNERS = ("jina-ai/", "jinaai/")  # clients may put one before a model's name
# Fields that hold what is to be embedded, in the order in which an error names them, and where they belong.
_CONTENT_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "messages": "chats, which have no vectors",
        "input": "/v1/embeddings",
        "inputs": "/embed and /v2/embed",
        "texts": "/v2/embed and /vectorize",
        "instances": "Vertex AI's route",
        "input_data": "/score",
        "data": "/invocations",
        "images": "/v2/embed and /vectorize",
        **dict.fromkeys(("text", "prompt", "query", "queries", "documents", "sentences", "content", "contents"), ""),
        **dict.fromkeys(("image", "requests"), ""),
    }
)


def missing(raw: Mapping[str, object], name: str) -> RequestError:
    """The error for a field that is missing or null, which names the field that the client sent in its place."""
    state = "is null" if name in raw else "is missing"
    for other, place in _CONTENT_FIELDS.items():
        if other != name and raw.get(other) is not None:
            belongs = f" (that is for {place})" if place else ""
            return RequestError(f"`{name}` {state}: this route takes `{name}`, not `{other}`{belongs}", field=name)
    return RequestError(f"`{name}` {state}: send `{name}`", field=name)


def read_mapping(raw: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Read a field that is an object; an absent field gives an empty one."""
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(f"`{name}` is {kind(value)}: send an object", field=name)
    return value


def read_list(raw: Mapping[str, object], name: str, served: Served, *, required: bool = True) -> list[Any]:
    """Read a list of items, and check their number; an absent field gives an empty list unless `required`."""
    value = raw.get(name)
    if value is None:
        if not required:
            return []
        raise missing(raw, name)
    if not isinstance(value, list):
        raise RequestError(f"`{name}` is {kind(value)}: send a list", field=name)
    if not value and required:
        raise RequestError(f"`{name}` is an empty list: send at least one item", field=name)
    check_count(len(value), name, served)
    return value


def read_items(raw: Mapping[str, object], name: str, served: Served) -> list[Any]:
    """Read a field that is one item or a list of items, which may be texts and images; checks their number."""
    value = raw.get(name)
    if isinstance(value, str | dict):
        return [value]
    if value is not None and not isinstance(value, list):
        if isinstance(value, int):
            refuse_token_ids([value], name)
        raise RequestError(f"`{name}` is {kind(value)}: send {ALLOWED_ITEM}, or a list of them", field=name)
    values = read_list(raw, name, served)
    refuse_token_ids(values, name)
    return values


def check_count(count: int, name: str, served: Served) -> None:
    """Refuse more items than a request may have."""
    allowed = served.limits.max_items
    if count > allowed:
        raise RequestError(f"`{name}` has {count} items, {allowed} are allowed: send several requests", field=name)


def check_items(items: Iterable[Item], name: str, served: Served) -> tuple[Item, ...]:
    """Refuse items that together have too many characters or URLs."""
    checked, limits = tuple(items), served.limits
    chars = sum(num_chars(item.text) for item in checked if isinstance(item, TextItem))
    if chars > limits.max_request_chars:
        raise RequestError(
            f"the texts have {chars} characters in all, {limits.max_request_chars} are allowed: send several requests",
            status=400,
            code="INPUT_TOKEN_LIMIT_EXCEEDED",
            field=name,
        )
    urls = sum(isinstance(item, UrlItem) for item in checked)
    if urls > limits.max_image_urls:
        raise RequestError(
            f"`{name}` has {urls} URLs of images, {limits.max_image_urls} are allowed: send several requests",
            field=name,
        )
    return checked


def check_model(model: object, served: Served) -> None:
    """Refuse a model other than the served one."""
    names = " or ".join(map(repr, served.names))
    if not isinstance(model, str):
        state = "missing or null" if model is None else kind(model)
        raise RequestError(f"`model` is {state}: send {names}", field="model")
    if not is_served(model, served.names):
        raise RequestError(
            f"`model` is a model that is not served here: send {names}",
            status=400,
            code="INPUT_MODEL_NOT_FOUND",
            field="model",
        )


def is_served(model: str, names: Sequence[str]) -> bool:
    """Whether a client's name for a model, with or without its owner, is one of `names`."""
    return not {model, *(model.removeprefix(owner) for owner in _OWNERS)}.isdisjoint(names)


def read_dimensions(raw: Mapping[str, object], name: str, served: Served) -> int | None:
    """Read the length of the vectors: an integer, or a string of digits, as in the published examples."""
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not tell 256.0 from 256
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= served.embedding_dim:
        found = kind(value)
        if isinstance(value, int) and not isinstance(value, bool):
            found = "less than 1" if value < 1 else f"more than {served.embedding_dim}"
        raise RequestError(f"`{name}` is {found}: send an integer from 1 to {served.embedding_dim}", field=name)
    return value


def check_bits(encodings: Iterable[str], dimensions: int | None, name: str, served: Served) -> None:
    """Refuse a length that is not a multiple of 8 if a binary encoding is requested."""
    length = served.dimensions if dimensions is None else dimensions
    if not {"binary", "ubinary"}.isdisjoint(encodings) and length % 8:
        raise RequestError(f"`{name}` is no multiple of 8, which binary embeddings need: send one", field=name)


def read_flag(raw: Mapping[str, object], name: str) -> bool | None:
    """Read true or false; `None` if the field is absent."""
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"`{name}` is {kind(value)}: send true or false", field=name)
    return value


def read_choice(raw: Mapping[str, object], name: str, choices: Mapping[str | None, bool]) -> bool:
    """Read one of a few strings; `choices` has the meaning of each, with `None` as a key if the field may be absent."""
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        found = kind(value)
    elif value in choices:
        return choices[value]
    else:
        found = "missing or null" if value is None else "a value that is not known"
    allowed = ", ".join(repr(choice) for choice in choices if choice is not None)
    raise RequestError(f"`{name}` is {found}: send one of {allowed}{' or nothing' * (None in choices)}", field=name)
