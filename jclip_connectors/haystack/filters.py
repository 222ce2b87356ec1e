"""Translation of Haystack's filters to the portable grammar of `jclip_connectors.filters`.

The filters mean what they mean in Haystack: a missing key is `None`, `True` equals 1, two spellings of one date are
equal. One thing more is found here: a list in the metadata also matches by each of its elements.
"""

import dataclasses
import datetime
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from haystack import Document

from jclip_connectors.haystack.errors import FilterInputError
from jclip_connectors.haystack.hidden import MAX_DEPTH, PREFIX, Moment, clock_of, field_of, instant_of, read_moment

_MAX_LEVELS = 15  # each becomes three of the grammar, which allows 50
_COMPARE: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = MappingProxyType(
    {
        ">": ("gt", operator.gt),
        ">=": ("gte", operator.ge),
        "<": ("lt", operator.lt),
        "<=": ("lte", operator.le),
    }
)
_EQUAL, _NOT_EQUAL, _IN, _NOT_IN = "==", "!=", "in", "not in"
_COMPARISONS = (_EQUAL, _NOT_EQUAL, *_COMPARE, _IN, _NOT_IN)
_AND, _OR, _NOT = "AND", "OR", "NOT"
_FIELDS = tuple(field.name for field in dataclasses.fields(Document))


def to_filter(filters: object) -> dict[str, Any]:
    """Translate filters.

    Args:
        filters: Haystack's filters; `None` and `{}` match everything.

    Raises:
        FilterInputError: the filters are not complete, or ask for what the stores cannot compare; it is a FilterError.
    """
    return {} if filters is None or filters == {} else _translate(filters, level=0)


def _translate(condition: object, *, level: int) -> dict[str, Any]:
    if not isinstance(condition, Mapping):
        raise FilterInputError(f"`filters` has {condition!r} where a condition is needed: use a dict")
    if level > _MAX_LEVELS:
        raise FilterInputError(f"`filters` are nested more than {_MAX_LEVELS} levels deep: use fewer levels")
    if "field" in condition:
        return _comparison(condition)
    _check_keys(condition, "operator", "conditions")
    joined, parts = condition["operator"], condition["conditions"]
    if joined not in (_AND, _OR, _NOT):
        raise FilterInputError(f"`filters`: unknown operator {joined!r}; use {_AND!r}, {_OR!r} or {_NOT!r}")
    if not isinstance(parts, list):
        raise FilterInputError(f"`filters`: {joined!r} takes a list of conditions, not {parts!r}")
    translated = [_translate(part, level=level + 1) for part in parts]
    if joined == _OR:
        return {"or": translated} if translated else _nothing("")
    both = {"and": translated} if translated else {}
    return {"not": both} if joined == _NOT else both


def _comparison(condition: Mapping[str, Any]) -> dict[str, Any]:
    _check_keys(condition, "operator", "value")
    path, asked, value = _path(condition["field"]), condition["operator"], condition["value"]
    if asked not in _COMPARISONS:
        raise FilterInputError(
            f"`filters`: unknown operator {asked!r}; use one of {', '.join(map(repr, _COMPARISONS))}"
        )
    if asked in _COMPARE:
        return _compare(path, asked, value)
    if asked in (_IN, _NOT_IN) and not isinstance(value, list):
        raise FilterInputError(f"`filters`: {asked!r} of {_name(path)} takes a list, not {value!r}")
    found = _any_of(path, asked, value if asked in (_IN, _NOT_IN) else [value])
    return {"not": found} if asked in (_NOT_EQUAL, _NOT_IN) else found


def _check_keys(condition: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in condition:
            raise FilterInputError(f"`filters`: {dict(condition)!r} has no {key!r}")


def _path(field: object) -> tuple[str, ...]:
    """The keys that lead to a value of the metadata."""
    if not isinstance(field, str) or not field:
        raise FilterInputError(
            f"`filters`: the field is {field!r}; use the name of a value of the metadata, 'meta.year'"
        )
    prefix, dot, rest = field.partition(".")
    if field in _FIELDS or (dot and prefix != "meta"):
        write = (
            "`get_documents` finds documents by id" if field == "id" else "write 'meta.' before a key of the metadata"
        )
        raise FilterInputError(f"`filters`: only values of the metadata can be filtered, not {field!r}; {write}")
    path = tuple(rest.split(".")) if dot else (field,)
    if not all(path) or len(path) > MAX_DEPTH or path[0].startswith(PREFIX):
        raise FilterInputError(f"`filters`: {field!r} is not a path into the metadata like 'meta.year' or 'meta.a.b'")
    return path


def _name(path: Sequence[str]) -> str:
    return repr(".".join(("meta", *path)))


def _any_of(path: Sequence[str], asked: str, values: Sequence[object]) -> dict[str, Any]:
    """A value is one of `values`, none of which is a list or an object."""
    field, plain, parts = field_of(path), list[Any](), list[dict[str, Any]]()
    for value in values:
        given = value.isoformat() if isinstance(value, datetime.date) else value
        if isinstance(given, float) and not math.isfinite(given):
            raise FilterInputError(
                f"`filters`: {asked!r} of {_name(path)} has {given!r}, which metadata cannot contain"
            )
        if given is not None and not isinstance(given, str | int | float):
            raise FilterInputError(
                f"`filters`: {asked!r} of {_name(path)} takes a string, number, bool or None, not {given!r}; a list of "
                "the metadata is found by each of its elements"
            )
        plain.append(given)
        if given is None:
            parts.append({field: {"exists": False}})
        elif isinstance(given, str):
            moment = read_moment(given)
            parts += [] if moment is None else [_at(path, "eq", moment)]
        elif given in (0, 1):
            plain.append(int(given) if isinstance(given, bool) else bool(given))
    found: dict[str, Any] = {field: {"in": plain}}
    return {"or": [found, *parts]} if parts else found


def _compare(path: Sequence[str], asked: str, value: object) -> dict[str, Any]:
    name, holds = _COMPARE[asked]
    if value is None:
        return _nothing(field_of(path))
    given = value.isoformat() if isinstance(value, datetime.date) else value
    if isinstance(given, str):
        moment = read_moment(given)
        if moment is not None:
            return _at(path, name, moment)
    if not isinstance(given, int | float) or not math.isfinite(given):
        raise FilterInputError(
            f"`filters`: {asked!r} of {_name(path)} compares numbers, and dates like '2024-01-31T12:00', not {value!r}"
        )
    number = int(given) if isinstance(given, bool) else given
    found: dict[str, Any] = {field_of(path): {name: number}}
    bools = [each for each in (False, True) if holds(each, number)]
    return {"or": [found, {field_of(path): {"in": bools}}]} if bools else found


def _at(path: Sequence[str], name: str, moment: Moment) -> dict[str, Any]:
    """A date compares with another: by their clocks, unless both have a zone."""
    by_clock = {clock_of(path): {name: moment.clock}}
    if moment.instant is None:
        return by_clock
    instant = instant_of(path)
    return {"or": [{instant: {name: moment.instant}}, {"and": [{instant: {"exists": False}}, by_clock]}]}


def _nothing(field: str) -> dict[str, Any]:
    return {field: {"in": []}}
