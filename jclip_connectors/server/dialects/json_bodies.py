"""Reading a body as a JSON object; the error says what the body is instead, and repeats none of it."""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from jclip_connectors.server.dialects.items import kind
from jclip_connectors.server.requests import RequestError

_MAX_PARTS = 2**20  # parsing holds the GIL, so all other threads wait meanwhile
_SEPARATORS = (b",", b"[", b"{")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x78\x9c": "deflate"}
# How bodies in other languages begin, each with its name.
_LANGUAGES = (
    (re.compile(rb"\s*--[^\n]*\n(?i:content-)"), "a form in several parts"),
    (re.compile(rb"[\w.%\[\]-]{1,64}="), "a form"),
    (re.compile(rb"\s*<"), "XML or HTML"),
    (re.compile(rb"\s*[{\[]\s*'"), "JSON with single quotation marks, where it needs double ones"),
    (re.compile(rb"\s*%"), "a template or percent-encoding"),
)
# How the errors of Python's parser begin; what follows may be the client's.
_PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "Extra data": "something follows after its end",
        "Unterminated string": "a string has no end",
        "Invalid control character": "a string has a control character, such as a new line, that is not escaped",
        "Invalid \\": "a string has a backslash that begins no escape",
        "Expecting property name": "a field's name in double quotation marks is missing",
        "Illegal trailing comma": "there is a comma too many",
        "Expecting ',' delimiter": "a comma or a closing bracket is missing",
        "Expecting ':' delimiter": "a colon is missing",
        "Expecting value": "a value is missing",
    }
)


class _NotANumberError(ValueError):
    """NaN or an infinity, which Python reads and JSON does not have."""


def read_object(body: bytes, *, expected: str) -> dict[str, Any]:
    """Read a body that must be a JSON object.

    Raises:
        RequestError: it is not JSON, or not an object; `expected` says what to send.
    """
    if sum(map(body.count, _SEPARATORS)) > _MAX_PARTS:
        raise RequestError(f"the body has more than {_MAX_PARTS} parts: send several requests", status=400)
    if not body.strip():
        raise RequestError(f"the body is empty: send a JSON object with {expected}", status=400, field="body")
    try:
        raw = _DECODER.decode(body.decode("utf-8-sig"))  # some clients send a byte order mark first
    except RecursionError:
        raise RequestError("the body is nested too deeply", status=400) from None
    except ValueError as error:
        raise _diagnose(body, error) from None
    if not isinstance(raw, dict):
        raise RequestError(f"the body is {kind(raw)}: send an object with {expected}", field="body")
    return raw


def _diagnose(body: bytes, error: ValueError) -> RequestError:
    for start, name in _COMPRESSED.items():
        if body.startswith(start):
            return RequestError(f"the body is compressed with {name}: send it uncompressed", status=415)
    if isinstance(error, UnicodeDecodeError):
        what = "is in UTF-16 or UTF-32" if b"\0" in body[:64] else f"is not UTF-8 at byte {error.start}"
        return RequestError(f"the body {what}: send JSON in UTF-8", status=400)
    if isinstance(error, _NotANumberError):
        return RequestError("the body has NaN or Infinity, which JSON does not have: send numbers", status=400)
    if not isinstance(error, json.JSONDecodeError):
        return RequestError("the body has a number with too many digits", status=400)
    if b"\0" in body[:64]:
        return RequestError("the body is in UTF-16 or UTF-32, or not a text: send JSON in UTF-8", status=400)
    language = next((name for start, name in _LANGUAGES if start.match(body)), None)
    if language is not None:
        return RequestError(f"the body is {language}: send JSON", status=400)
    problem = next((words for start, words in _PROBLEMS.items() if error.msg.startswith(start)), "it cannot be read")
    return RequestError(f"the body is not JSON: {problem}, at line {error.lineno}, column {error.colno}", status=400)


def _refuse_constant(_name: str) -> NoReturn:
    raise _NotANumberError


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
