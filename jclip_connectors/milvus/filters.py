"""Translation of portable filters to Milvus expressions, and the fields that they use.

Nothing that a user has written stands in an expression, but hexadecimal hashes and numbers: Milvus Lite has no
templates, and its strings have no escape that holds every character. Every record has the list `terms`, which is never
empty, and for each field with numbers its minimum and maximum: a number is above a bound exactly if the maximum is. A
negated comparison is the opposite one, or that there is no number: Milvus and Milvus Lite do not mean the same by `not`
and a missing key.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import (
    AnyOf,
    Compare,
    Exists,
    Node,
    Not,
    Or,
    exists_term,
    numbers,
    parse_filter,
    term,
    terms,
    without_nested_not,
)
from jclip_connectors.port import Filter, Modality, NativeFilter
from jclip_connectors.store_kit.bounds import ALWAYS, BOUND_OF, OPPOSITE
from jclip_connectors.store_kit.validation import check_modality

EVERYTHING = 'pk != ""'
_NOTHING = 'pk == ""'
_HASH_CHARS = 32
_OPERATORS = MappingProxyType({"gt": ">", "gte": ">=", "lt": "<", "lte": "<="})


def filter_fields(metadata: Mapping[str, object]) -> dict[str, Any]:
    """The fields that filters ask: `terms`, and the smallest and largest of the numbers of each field."""
    known = [ALWAYS, *terms(metadata)]
    bounds: dict[str, float] = {}
    for field, values in numbers(metadata).items():
        known.append(_numbers_term(field))
        bounds[_bound_name("min", field)], bounds[_bound_name("max", field)] = min(values), max(values)
    return {"terms": [_hash(each) for each in known], "numbers": bounds}


def to_expression(where: Filter | None, modality: Modality | None = None) -> str:
    """The expression of a filter and a modality.

    Raises:
        EmbedInputError: `where` is a filter of another database, or not a filter; or a bad modality.
    """
    check_modality(modality)
    parts: list[str] = []
    if isinstance(where, NativeFilter):
        if not isinstance(where.value, str) or not where.value.strip():
            raise EmbedInputError(
                f"`where` is a NativeFilter of {type(where.value).__name__}: Milvus needs an expression as a string, "
                "like 'record_id like \"photos/%\"'"
            )
        parts.append(f"({where.value})")
    elif where is not None and where != {}:
        parts.append(_translate(without_nested_not(parse_filter(where))))
    if modality is not None:
        parts.append(f'modality == "{modality}"')
    return " and ".join(parts) if parts else EVERYTHING


def one_of(field: str, keys: list[str], *, negate: bool = False) -> str:
    """The expression that `field` is one of `keys`, or none: UUIDs, and lineages."""
    return f"{field} {'not ' if negate else ''}in [{_list(keys)}]"


def _translate(node: Node) -> str:
    match node:
        case AnyOf():
            return _has_term([term(node.field, value) for value in node.values])
        case Exists():
            return _has_term([exists_term(node.field)])
        case Compare():
            return _compare(node, _OPERATORS[node.op])
        case Not(Compare() as compared):
            opposite = _compare(compared, _OPERATORS[OPPOSITE[compared.op]])
            return f"(not ({_has_term([_numbers_term(compared.field)])}) or {opposite})"
        case Not():
            return f"(not ({_translate(node.node)}))"  # in Milvus `not a == b` is `(not a) == b`
        case _:
            if not node.nodes:  # an `Or` is never empty
                return EVERYTHING
            children = [_translate(child) for child in node.nodes]
            return (
                children[0]
                if len(children) == 1
                else f"({(' or ' if isinstance(node, Or) else ' and ').join(children)})"
            )


def _compare(node: Compare, operator: str) -> str:
    return f'numbers["{_bound_name(BOUND_OF[node.op], node.field)}"] {operator} {node.bound!r}'


def _has_term(wanted: list[str]) -> str:
    if not wanted:
        return _NOTHING
    return f"ARRAY_CONTAINS_ANY(terms, [{_list([_hash(each) for each in wanted])}])"


def _list(words: list[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _numbers_term(field: str) -> str:
    return f"numbers{json.dumps(field)}"


def _bound_name(bound: str, field: str) -> str:
    return f"{_hash(json.dumps(field))}_{bound}"


def _hash(text: str) -> str:
    """Source: any 128 bits of SHA-256 are as good as others for telling texts apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_CHARS]
