"""A portable filter in Pinecone's language, and the metadata fields that it asks.

Pinecone compares single numbers and looks into lists of strings, has no `$not` for a group, and lets `$ne` and `$nin`
match only where the field is there. So every record has the list `terms`, never empty, and for each field with numbers
the smallest and the largest of them: a number among the values is above a bound just where the largest is.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from pinecone import Condition

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import (
    And,
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
from jclip_connectors.port import Filter, NativeFilter

Expression: TypeAlias = dict[str, Any]

_ALWAYS = "all"  # among the terms of every record; a term of the metadata begins with "[" or "sha256:"
_MAX_VALUES = 10_000  # of one $in or $nin
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,50}")  # others are hashed: a field's name has 64 bytes at most
_OPPOSITE = MappingProxyType({"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"})
_BOUND_OF = MappingProxyType({"gt": "max", "gte": "max", "lt": "min", "lte": "min"})
_EVERYTHING: Expression = {"terms": {"$in": [_ALWAYS]}}
_NOTHING: Expression = {"terms": {"$nin": [_ALWAYS]}}


def filter_fields(metadata: Mapping[str, object]) -> dict[str, Any]:
    """The fields that filters ask: `terms`, and `min_...` and `max_...` of each field with numbers."""
    found: dict[str, Any] = {}
    known = [_ALWAYS, *terms(metadata)]
    for field, values in numbers(metadata).items():
        known.append(_numbers_term(field))
        found[_bound_name("min", field)], found[_bound_name("max", field)] = min(values), max(values)
    return {"terms": known, **found}


def to_expression(where: Filter | None, *others: Expression) -> Expression:
    """`where` and all of `others` as one filter expression.

    Args:
        where: portable, or a `NativeFilter` of a dict or of `pinecone.Condition`.
        others: expressions; one at least.

    Raises:
        EmbedInputError: `where` is no filter, or has more values than Pinecone takes.
    """
    if isinstance(where, NativeFilter):
        return _all([*others, _native(where.value)])
    tree = without_nested_not(parse_filter(where))
    return _all([*others, _translate(tree)]) if tree != And(()) else _all([*others])


def none_of(field: str, values: list[str]) -> Expression:
    """The expression for a field that every record asked for has, with another value."""
    return {field: {"$nin": values}}


def _native(value: object) -> Expression:
    expression = value.to_dict() if isinstance(value, Condition) else value
    if not isinstance(expression, dict) or not expression:
        raise EmbedInputError(
            f"`where` is a NativeFilter of {value!r}; Pinecone's is a dict that is not empty, or a `pinecone.Condition`"
        )
    return expression


def _translate(node: Node) -> Expression:
    match node:
        case AnyOf():
            return _any_of(node, "$in", empty=_NOTHING)
        case Exists():
            return {"terms": {"$in": [exists_term(node.field)]}}
        case Compare():
            return {_bound_name(_BOUND_OF[node.op], node.field): {f"${node.op}": node.bound}}
        case Not():
            return _negate(node.node)
        case And():
            return _all([_translate(child) for child in node.nodes])
        case Or():
            branches = [_translate(child) for child in node.nodes]
            return branches[0] if len(branches) == 1 else {"$or": branches}


def _negate(node: Node) -> Expression:
    match node:
        case AnyOf():
            return _any_of(node, "$nin", empty=_EVERYTHING)
        case Exists():
            return {"terms": {"$nin": [exists_term(node.field)]}}
        case Compare():
            without_numbers = {"terms": {"$nin": [_numbers_term(node.field)]}}
            # No number is above the bound: there is none, or the largest is not.
            bound = _bound_name(_BOUND_OF[node.op], node.field)
            return {"$or": [without_numbers, {bound: {f"${_OPPOSITE[node.op]}": node.bound}}]}
        case _:
            return _translate(without_nested_not(node, negate=True))


def _any_of(node: AnyOf, op: str, *, empty: Expression) -> Expression:
    if len(node.values) > _MAX_VALUES:
        raise EmbedInputError(
            f"`where` has {len(node.values)} values for {node.field!r}, and Pinecone takes {_MAX_VALUES}: ask in parts"
        )
    return {"terms": {op: [term(node.field, value) for value in node.values]}} if node.values else empty


def _all(expressions: list[Expression]) -> Expression:
    if not expressions:
        return _EVERYTHING
    return expressions[0] if len(expressions) == 1 else {"$and": expressions}


def _numbers_term(field: str) -> str:
    return f"numbers {_name(field)}"


def _bound_name(bound: str, field: str) -> str:
    return f"{bound}_{_name(field)}"


def _name(field: str) -> str:
    if _PLAIN_NAME.fullmatch(field):
        return field
    digest = hashlib.sha256(json.dumps(field).encode()).hexdigest()  # of the escaped text: a key may be no Unicode
    return f"sha256:{digest[:40]}"
