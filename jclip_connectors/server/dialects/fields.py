"""Reading requests in all dialects: JSON, fields, texts, images; each error says what to send instead."""

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from jclip_connectors.server.requests import ImageItem, Item, RequestError, Served, TextItem, UrlItem, item_error

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WEB_URL = re.compile(r"https?://", re.IGNORECASE)
_OWNERS = ("jina-ai/", "jinaai/")  # clients may put one before a model's name
_MAX_PARTS = 2**20  # parsing holds the GIL, so all other threads wait meanwhile
_SEPARATORS = (b",", b"[", b"{")
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "a boolean", list: "a list", dict: "an object"}


def read_object(body: bytes, *, expected: str) -> dict[str, Any]:
    """Read a body that must be a JSON object.

    Raises:
        RequestError: it is not JSON, or not an object; `expected` says what to send.
    """
    if sum(map(body.count, _SEPARATORS)) > _MAX_PARTS:
        raise RequestError(f"the body has more than {_MAX_PARTS} parts: send several requests", status=400)
    try:
        raw = _DECODER.decode(body.decode("utf-8-sig"))  # some clients send a byte order mark first
    except RecursionError:
        raise RequestError("the body is nested too deeply", status=400) from None
    except ValueError as error:
        place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"the body is not JSON in UTF-8{place}", status=400) from None
    if not isinstance(raw, dict):
        raise RequestError(f"the body is {kind(raw)}: send an object with {expected}", field="body")
    return raw


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
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise RequestError(f"`{name}` is {kind(value)}: send a list", field=name)
    if not value and required:
        raise RequestError(f"`{name}` is an empty list: send at least one item", field=name)
    check_count(len(value), name, served)
    return value


def check_count(count: int, name: str, served: Served) -> None:
    """Refuse more items than a request may have."""
    allowed = served.limits.max_items
    if count > allowed:
        raise RequestError(f"`{name}` has {count} items, {allowed} are allowed: send several requests", field=name)


def check_items(items: Iterable[Item], name: str, served: Served) -> tuple[Item, ...]:
    """Refuse items that together have too many characters or URLs."""
    checked, limits = tuple(items), served.limits
    chars = sum(_num_chars(item.text) for item in checked if isinstance(item, TextItem))
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
    name = served.names[0]
    if not isinstance(model, str):
        raise RequestError(f"`model` is {kind(model)}: send {name!r}", field="model")
    if not is_served(model, served.names):
        raise RequestError(
            f"the model {shorten(model)} is not served here: send {name!r}",
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
        found = str(value) if isinstance(value, int) and abs(value) < 10**9 else kind(value)
        raise RequestError(f"`{name}` is {found}: send an integer from 1 to {served.embedding_dim}", field=name)
    return value


def check_bits(encodings: Iterable[str], dimensions: int | None, name: str, served: Served) -> None:
    """Refuse a length that is not a multiple of 8 if a binary encoding is requested."""
    length = served.dimensions if dimensions is None else dimensions
    if not {"binary", "ubinary"}.isdisjoint(encodings) and length % 8:
        raise RequestError(f"`{name}` is {length}: binary embeddings take a multiple of 8", field=name)


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
        found = "missing or null" if value is None else shorten(value)
    allowed = ", ".join(repr(choice) for choice in choices if choice is not None)
    raise RequestError(f"`{name}` is {found}: send one of {allowed}{' or nothing' * (None in choices)}", field=name)


def string_item(value: str, index: int, served: Served) -> Item:
    """Read a bare string: a text, or an image as a data URI, because some clients send images so."""
    return (image_item if value[:11].lower() == "data:image/" else text_item)(value, index, served)


def text_item(value: object, index: int, served: Served) -> Item:
    """Read a text, or return its error."""
    if not isinstance(value, str):
        return item_error(index, f"is {kind(value)}: send a string")
    allowed, chars = served.limits.max_text_chars, _num_chars(value)
    if chars > allowed:
        return item_error(
            index,
            f"has {chars} characters, {allowed} are allowed: send parts of it",
            code="INPUT_TOKEN_LIMIT_EXCEEDED",
        )
    return TextItem(value)


def image_item(value: object, index: int, served: Served) -> Item:
    """Read base64, a data URI or a URL, or return the image's error; a file name is an error."""
    if not isinstance(value, str):
        return item_error(index, f"is {kind(value)}: send the image's file as base64 or as a data URI")
    if _URL.match(value[:64]):
        if served.image_urls and _WEB_URL.match(value[:8]):
            return UrlItem(value)
        rule = "fetches only http and https URLs" if served.image_urls else "does not fetch images"
        what = f"is the URL of an image, and this server {rule}: send the image as base64"
        return item_error(index, what, code="INPUT_URL")
    payload = value
    if value[:5].lower() == "data:":
        header, comma, payload = value.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            return item_error(index, "is a data URI without base64: send 'data:image/png;base64,...'")
    return _image_bytes(payload, index, served)


def _num_chars(text: str) -> int:
    """The number of characters after the tokenizer's normalisation, which expands one ligature to up to eighteen."""
    return len(text) if text.isascii() else len(unicodedata.normalize("NFKC", text))


def _image_bytes(payload: str, index: int, served: Served) -> Item:
    payload = "".join(payload.split())
    allowed = served.limits.max_image_bytes
    if len(payload) * 3 // 4 > allowed + 2:  # up to two of them are padding
        return item_error(index, f"is an image of {len(payload) * 3 // 4} bytes, {allowed} are allowed: scale it down")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return item_error(index, "is not base64: send the image's file as base64 or as a data URI")
    if not data:
        return item_error(index, "is an empty image: send the image's file as base64 or as a data URI")
    return ImageItem(data)


def kind(value: object) -> str:
    """Name a JSON type for people; never the value, which may be private."""
    return "missing or null" if value is None else _NAMES[type(value)]


def shorten(text: str) -> str:
    """Quote a client's text, cut to 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # Python reads NaN and Infinity, but JSON does not have them


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
