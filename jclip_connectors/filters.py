"""The portable filter grammar: it parses JSON filters into a typed tree and evaluates the tree.

`{"year": {"gte": 2020}, "tag": {"in": ["cat", "dog"]}}` requires both conditions; a bare value means `eq`. `"and"` and
`"or"` take a list of filters and `"not"` takes one filter, so fields with these three names cannot be filtered. A
field is a top-level key of the metadata. A scalar field has one value; the values of a list are its scalar elements;
an object has no values.

| operator | matches when |
|---|---|
| `eq`, `in` | a value equals the operand, or one of the operands |
| `ne`, `nin` | no value equals an operand: a missing field matches |
| `gt`, `gte`, `lt`, `lte` | one of the numeric values satisfies the comparison, as float64 |
| `exists` | the key is present (`true`: also with null or an empty list) or absent (`false`) |

A bool is not a number: `true` is not 1, but 1 is 1.0. `null` equals `null`. `{}` matches everything.

`terms` and `numbers` turn metadata into two forms that any database can index: strings for equality, and float64
numbers for comparison.
"""

import hashlib
import json
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Filter, NativeFilter

Scalar: TypeAlias = str | bool | int | float | None
Comparison = Literal["gt", "gte", "lt", "lte"]

_COMPARE: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
)
_OPERATORS = ("eq", "ne", "in", "nin", *_COMPARE, "exists")
_MAX_DEPTH = 50  # far below the recursion limits of Python and of the engines
_MAX_TERM_CHARS = 200  # a longer term is replaced by its hash, which keeps the index small


@dataclass(frozen=True)
class AnyOf:
    """A value of `field` equals one of `values`; empty `values` match nothing."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Compare:
    """One of the numeric values of `field` satisfies the comparison `op` with `bound`."""

    field: str
    op: Comparison
    bound: float


@dataclass(frozen=True)
class Exists:
    """The metadata has the key `field`."""

    field: str


@dataclass(frozen=True)
class Not:
    """`node` does not match."""

    node: "Node"


@dataclass(frozen=True)
class And:
    """All of `nodes` match; an empty `nodes` matches everything."""

    nodes: tuple["Node", ...]


@dataclass(frozen=True)
class Or:
    """At least one of `nodes` matches; `nodes` is never empty."""

    nodes: tuple["Node", ...]


Node: TypeAlias = AnyOf | Compare | Exists | Not | And | Or


def parse_filter(where: Filter | None) -> And:
    """Parse a filter from its JSON form.

    Args:
        where: the filter; `None` matches everything, like `{}`.

    Returns:
        The tree; the negated operators `ne` and `nin` become `Not`.

    Raises:
        EmbedInputError: an unknown operator, or an operand of a type that the operator cannot take.
    """
    return And(()) if where is None else _parse(where, depth=0)


def _parse(where: object, *, depth: int) -> And:
    if depth > _MAX_DEPTH:
        raise EmbedInputError(f"`where` is nested more than {_MAX_DEPTH} levels deep: use fewer levels")
    if isinstance(where, NativeFilter):
        raise EmbedInputError(
            "`where` is a NativeFilter, which only the store of its database accepts: write a portable filter"
        )
    if not isinstance(where, Mapping):
        raise EmbedInputError(f'`where` must be an object like {{"year": {{"gte": 2020}}}}, not {where!r}')
    nodes: list[Node] = []
    for key, operand in where.items():
        if key in ("and", "or"):
            branches = tuple(_parse(branch, depth=depth + 1) for branch in _non_empty_list(key, operand))
            nodes.append(And(branches) if key == "and" else Or(branches))
        elif key == "not":
            nodes.append(Not(_parse(operand, depth=depth + 1)))
        elif not isinstance(key, str):
            raise EmbedInputError(f"`where` has the key {key!r}: a field name is a string")
        else:
            nodes.extend(_parse_field(key, operand))
    return And(tuple(nodes))


def _non_empty_list(key: str, operand: object) -> Sequence[object]:
    if not isinstance(operand, list | tuple) or not operand:
        raise EmbedInputError(f"`where`: {key!r} takes a list of at least one filter, not {operand!r}")
    return operand


def _parse_field(field: str, condition: object) -> list[Node]:
    if isinstance(condition, list | tuple):
        raise EmbedInputError(f'`where`: {field!r} is a list; write {{"in": {list(condition)!r}}} to match any of it')
    if not isinstance(condition, Mapping):
        return [AnyOf(field, (_scalar(field, "eq", condition),))]
    if not condition:
        raise EmbedInputError(f"`where`: {field!r} has no operator; use one of {', '.join(_OPERATORS)}")
    return [_parse_operator(field, op, operand) for op, operand in condition.items()]


def _parse_operator(field: str, op: object, operand: object) -> Node:
    match op:
        case "eq" | "ne":
            equals = AnyOf(field, (_scalar(field, op, operand),))
            return equals if op == "eq" else Not(equals)
        case "in" | "nin":
            if not isinstance(operand, list | tuple):
                raise EmbedInputError(f"`where`: {op!r} of {field!r} takes a list, not {operand!r}")
            any_of = AnyOf(field, tuple(_scalar(field, op, value) for value in operand))
            return any_of if op == "in" else Not(any_of)
        case "gt" | "gte" | "lt" | "lte":
            bound = _scalar(field, op, operand)
            if not _is_number(bound):
                raise EmbedInputError(
                    f"`where`: {op!r} of {field!r} compares numbers, not {operand!r}; "
                    "keep a date as a number (20240131, or seconds) to compare it"
                )
            return Compare(field, op, _float64(bound))
        case "exists":
            if not isinstance(operand, bool):
                raise EmbedInputError(f"`where`: 'exists' of {field!r} takes true or false, not {operand!r}")
            return Exists(field) if operand else Not(Exists(field))
        case _:
            raise EmbedInputError(f"`where`: unknown operator {op!r} of {field!r}; use one of {', '.join(_OPERATORS)}")


def _scalar(field: str, op: str, value: object) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise EmbedInputError(f"`where`: {op!r} of {field!r} has the value {value!r}, which metadata cannot contain")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise EmbedInputError(
        f"`where`: {op!r} of {field!r} takes a string, number, bool or null, not {value!r} ({type(value).__name__})"
    )


def matches(node: Node, metadata: Mapping[str, object]) -> bool:
    """Whether `metadata` matches; every store must give the same result."""
    match node:
        case AnyOf():
            return any(_equal(value, wanted) for value in _values(metadata, node.field) for wanted in node.values)
        case Compare():
            compare = _COMPARE[node.op]
            return any(compare(number, node.bound) for number in _numbers_of(_values(metadata, node.field)))
        case Exists():
            return node.field in metadata
        case Not():
            return not matches(node.node, metadata)
        case And():
            return all(matches(child, metadata) for child in node.nodes)
        case Or():
            return any(matches(child, metadata) for child in node.nodes)


def without_nested_not(node: Node, *, negate: bool = False) -> Node:
    """The same filter, in which every `Not` directly contains an `AnyOf`, `Compare` or `Exists`.

    For databases that cannot negate a group of conditions.

    Args:
        node: the filter.
        negate: return the filter that matches exactly when `node` does not match.
    """
    match node:
        case Not():
            return without_nested_not(node.node, negate=not negate)
        case And() | Or():
            children = tuple(without_nested_not(child, negate=negate) for child in node.nodes)
            if isinstance(node, And) == (not negate):
                return And(children)
            # An empty `And` matches everything; its negation is an `AnyOf` without values, which matches nothing.
            return Or(children) if children else AnyOf("", ())
        case _:
            return Not(node) if negate else node


def compared_fields(node: Node) -> set[str]:
    """The fields that a filter compares as numbers."""
    match node:
        case Compare():
            return {node.field}
        case Not():
            return compared_fields(node.node)
        case And() | Or():
            return set().union(*map(compared_fields, node.nodes))
        case _:
            return set()


def term(field: str, value: Scalar) -> str:
    """The string that represents "`field` has the value `value`"; equal values have equal strings.

    Returns:
        ASCII, at most 200 characters.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1 equals 1.0, and -0.0 equals 0
    return _short(json.dumps([field, value]))


def exists_term(field: str) -> str:
    """The string that represents "`field` is present"."""
    return _short(json.dumps([field]))


def terms(metadata: Mapping[str, object]) -> list[str]:
    """Every term of `metadata`, without duplicates."""
    found: dict[str, None] = {}
    for field in metadata:
        found[exists_term(field)] = None
        found.update(dict.fromkeys(term(field, value) for value in _values(metadata, field)))
    return list(found)


def numbers(metadata: Mapping[str, object]) -> dict[str, list[float]]:
    """The numeric values of each field that has any, as float64."""
    found = {field: _numbers_of(_values(metadata, field)) for field in metadata}
    return {field: values for field, values in found.items() if values}


def _values(metadata: Mapping[str, object], field: str) -> list[Scalar]:
    value = metadata.get(field, [])
    elements: Sequence[object] = value if isinstance(value, list) else [value]
    return [element for element in elements if element is None or isinstance(element, str | bool | int | float)]


def _equal(value: Scalar, wanted: Scalar) -> bool:
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers_of(values: Sequence[Scalar]) -> list[float]:
    return [_float64(value) for value in values if _is_number(value)]


def _float64(value: Scalar) -> float:
    """`value` as a float; an int that is too large becomes the largest float."""
    number = value if isinstance(value, int | float) else math.nan
    try:
        return float(number)
    except OverflowError:
        return sys.float_info.max if number > 0 else -sys.float_info.max


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TERM_CHARS else "sha256:" + hashlib.sha256(text.encode()).hexdigest()
