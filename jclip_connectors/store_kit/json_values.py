"""Values of a program as JSON: what metadata may hold when a person or a framework gives it.

A record's metadata is JSON and nothing else. Programs also hold dates, paths and numbers of numpy. Those with one
obvious form in JSON get it here, and for the others the error says what to write.
"""

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_kit.validation import check_metadata

# What to write in place of a value that has several forms in JSON.
_WRITE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (decimal.Decimal, "write float(...) to compare it as a number, or str(...) to keep every digit"),
    ((set, frozenset), "write sorted(...): a set has no order"),
    (datetime.timedelta, "write its total_seconds()"),
    ((bytes, bytearray, memoryview), "write text, such as base64"),
    (complex, "write its real and imaginary part"),
)


def as_metadata(metadata: object, *, name: str) -> dict[str, object]:
    """Convert metadata to JSON and check it.

    Dates and times become ISO 8601 text; a UUID, a path and a URL of pydantic become text; numbers and arrays of numpy
    become numbers and lists; a member of an enumeration becomes its value.

    Args:
        metadata: a mapping.
        name: its name in errors.

    Returns:
        A deep copy.

    Raises:
        EmbedInputError: not a mapping, or a value that has no form in JSON; the message names its key, and says what to
            write.
    """
    if not isinstance(metadata, Mapping):
        return check_metadata(metadata, name=name)
    converted = {key: _convert(value, name=f"{name}[{key!r}]", depth=0) for key, value in metadata.items()}
    return check_metadata(converted, name=name)


def _convert(value: object, *, name: str, depth: int) -> object:
    if depth > 100:  # far below the recursion limit; `check_metadata` refuses what is nested without end
        return value
    if isinstance(value, enum.Enum):
        return _convert(value.value, name=name, depth=depth + 1)
    if isinstance(value, np.generic | np.ndarray):
        return _from_numpy(value, name=name, depth=depth)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | PurePath) or _is_url(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _convert(each, name=f"{name}[{key!r}]", depth=depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        converted = [_convert(each, name=f"{name}[{at}]", depth=depth + 1) for at, each in enumerate(value)]
        return converted if isinstance(value, list) else tuple(converted)  # `check_metadata` refuses a tuple
    for kinds, advice in _WRITE:
        if isinstance(value, kinds):
            raise EmbedInputError(f"{name} is not JSON: it is {type(value).__name__}; {advice}")
    return value


def _from_numpy(
    value: "np.generic | np.ndarray[tuple[int, ...], np.dtype[np.generic]]", *, name: str, depth: int
) -> object:
    if value.dtype.kind in "mM":
        if value.dtype.kind == "m":
            raise EmbedInputError(f"{name} is not JSON: it is a timedelta of numpy; write its seconds as a number")
        return np.datetime_as_string(np.asarray(value, dtype=value.dtype)).tolist()
    return _convert(value.tolist(), name=name, depth=depth + 1)


def _is_url(value: object) -> bool:
    """Whether it is a URL of pydantic, which this module does not import."""
    return any(
        kind.__module__.partition(".")[0] in ("pydantic", "pydantic_core") and kind.__name__.endswith("Url")
        for kind in type(value).__mro__
    )
