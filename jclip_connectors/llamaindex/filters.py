"""Translation of LlamaIndex's metadata filters to the portable grammar of `jclip_connectors.filters`.

LlamaIndex compares as Python does, where `True` equals 1 and `False` equals 0. Its `MetadataFilter` takes no bool, so a
number 1 or 0 in it finds the bool too.
"""

import datetime
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr

from jclip_connectors.errors import EmbedInputError

_MAX_DEPTH = 20  # each level becomes two levels of the grammar, which allows 50
_NOT_A_FIELD = ("and", "or", "not")
# Operators with a direct equivalent. A list in the metadata matches if one of its elements matches.
_OPERATORS: Mapping[FilterOperator, str] = MappingProxyType(
    {
        FilterOperator.EQ: "eq",
        FilterOperator.NE: "ne",
        FilterOperator.GT: "gt",
        FilterOperator.GTE: "gte",
        FilterOperator.LT: "lt",
        FilterOperator.LTE: "lte",
        FilterOperator.IN: "in",
        FilterOperator.NIN: "nin",
        FilterOperator.ANY: "in",
        FilterOperator.CONTAINS: "eq",
    }
)
_COMPARE: Mapping[FilterOperator, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        FilterOperator.GT: operator.gt,
        FilterOperator.GTE: operator.ge,
        FilterOperator.LT: operator.lt,
        FilterOperator.LTE: operator.le,
    }
)
_LISTS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)
_MORE = (FilterOperator.ALL, FilterOperator.IS_EMPTY)


_Value = StrictBool | StrictInt | StrictFloat | StrictStr | datetime.datetime | datetime.date


class JinaClipMetadataFilter(MetadataFilter):
    """A `MetadataFilter` that also takes bools, dates, and lists of mixed values.

    A bool finds bools only. A date or datetime is the ISO 8601 text that it has in the metadata: it can be equal, but
    not greater or less; keep dates as numbers to compare them.
    """

    value: _Value | list[_Value] | None = None  # type: ignore[assignment]  # more than the base class takes


def to_filter(filters: MetadataFilters | None) -> dict[str, Any]:
    """Translate filters, including nested filters.

    Args:
        filters: filters and the condition that joins them; "not" matches if none of them matches. `None` and an empty
            list match everything.

    Raises:
        EmbedInputError: an operator or a field is not supported, or `filters` is not `MetadataFilters`.
    """
    return {} if filters is None else _translate(filters, depth=0)


def _translate(filters: object, *, depth: int) -> dict[str, Any]:
    if isinstance(filters, MetadataFilter):
        return _translate_one(filters)
    if not isinstance(filters, MetadataFilters):
        raise EmbedInputError(f"`filters` is {type(filters).__name__}, not `MetadataFilters`")
    if depth > _MAX_DEPTH:
        raise EmbedInputError(f"`filters` are nested more than {_MAX_DEPTH} levels deep: use fewer levels")
    parts = [_translate(part, depth=depth + 1) for part in filters.filters]
    if not parts:
        return {}
    if filters.condition is FilterCondition.NOT:
        return {"not": {"or": parts}}
    return {"or" if filters.condition is FilterCondition.OR else "and": parts}


def _translate_one(asked: MetadataFilter) -> dict[str, Any]:
    key, value = asked.key, _plain(asked.value)
    if key in _NOT_A_FIELD:
        raise EmbedInputError(f"`filters`: a field named {key!r} cannot be filtered: it is an operator")
    if asked.operator in _LISTS and not isinstance(value, list):
        raise EmbedInputError(f"`filters`: {asked.operator.value!r} of {key!r} takes a list, not {value!r}")
    if asked.operator in _COMPARE:
        return _compare(key, asked.operator, value, exact=isinstance(asked, JinaClipMetadataFilter))
    if asked.operator in _OPERATORS:
        return _equal(key, _OPERATORS[asked.operator], value, exact=isinstance(asked, JinaClipMetadataFilter))
    if asked.operator is FilterOperator.IS_EMPTY:
        return {"or": [{key: {"exists": False}}, {key: None}]}
    if asked.operator is FilterOperator.ALL:
        if not isinstance(value, list) or not value:
            raise EmbedInputError(f"`filters`: 'all' of {key!r} takes a list of at least one value, not {value!r}")
        exact = isinstance(asked, JinaClipMetadataFilter)
        return {"and": [_equal(key, "eq", one, exact=exact) for one in value]}
    allowed = ", ".join(repr(operator.value) for operator in (*_OPERATORS, *_MORE))
    raise EmbedInputError(
        f"`filters`: the stores cannot search within a text ({asked.operator.value!r} of {key!r}); use one of {allowed}"
    )


def _plain(value: object) -> object:
    """A value as metadata has it."""
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _equal(key: str, name: str, value: object, *, exact: bool) -> dict[str, Any]:
    """A condition of equality; unless it is `exact`, the numbers 1 and 0 stand for bools too."""
    values: list[object] = value if isinstance(value, list) else [value]
    bools = [] if exact else [bool(each) for each in values if each in (0, 1) and not isinstance(each, bool)]
    if not bools:
        return {key: {name: value}}
    return {key: {"in" if name in ("eq", "in") else "nin": [*values, *bools]}}


def _compare(key: str, asked: FilterOperator, value: object, *, exact: bool) -> dict[str, Any]:
    """A comparison; unless it is `exact`, `True` compares as 1 and `False` as 0."""
    condition: dict[str, Any] = {key: {_OPERATORS[asked]: value}}
    if exact or not isinstance(value, int | float):
        return condition
    bools = [each for each in (False, True) if _COMPARE[asked](each, value)]
    return {"or": [condition, {key: {"in": bools}}]} if bools else condition
