"""What is kept of numbers in metadata where a database compares single numbers and has no `not` for a missing one.

For each field with numbers a record has their minimum and maximum, and a term that says that there are numbers. A
number is above a bound exactly if the maximum is; none is, if the field has no numbers or its maximum is not above it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jclip_connectors.filters import numbers, terms

ALWAYS = (
    "all"  # in the terms of every record, so that they are never empty; terms of metadata begin with "[" or "sha256:"
)
OPPOSITE: Mapping[str, str] = MappingProxyType({"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"})
BOUND_OF: Mapping[str, str] = MappingProxyType({"gt": "max", "gte": "max", "lt": "min", "lte": "min"})
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,50}")  # others are hashed: Pinecone's names have at most 64 bytes


def filter_fields(metadata: Mapping[str, object]) -> dict[str, Any]:
    """The fields that filters use: `terms`, and `min_...` and `max_...` of each field with numbers."""
    found: dict[str, Any] = {}
    known = [ALWAYS, *terms(metadata)]
    for field, values in numbers(metadata).items():
        known.append(numbers_term(field))
        found[bound_name("min", field)], found[bound_name("max", field)] = min(values), max(values)
    return {"terms": known, **found}


def numbers_term(field: str) -> str:
    """The term that says that a field has numbers."""
    return f"numbers {_name(field)}"


def bound_name(bound: str, field: str) -> str:
    """The name of the minimum ("min") or the maximum ("max") of a field."""
    return f"{bound}_{_name(field)}"


def is_bound_name(key: str) -> bool:
    """Whether a key is the minimum or the maximum of a field."""
    return key.startswith(("min_", "max_"))


def _name(field: str) -> str:
    if _PLAIN_NAME.fullmatch(field):
        return field
    digest = hashlib.sha256(json.dumps(field).encode()).hexdigest()  # of the escaped text: a key may be invalid Unicode
    return f"sha256:{digest[:40]}"
