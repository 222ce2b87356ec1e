"""Translation of LlamaIndex's metadata filters to the portable grammar of `jclip_connectors.filters`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

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
_MORE = (FilterOperator.ALL, FilterOperator.IS_EMPTY)


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
    key, value = asked.key, asked.value
    if key in _NOT_A_FIELD:
        raise EmbedInputError(f"`filters`: a field named {key!r} cannot be filtered: it is an operator")
    if asked.operator in _OPERATORS:
        return {key: {_OPERATORS[asked.operator]: value}}
    if asked.operator is FilterOperator.IS_EMPTY:
        return {"or": [{key: {"exists": False}}, {key: None}]}
    if asked.operator is FilterOperator.ALL:
        if not isinstance(value, list) or not value:
            raise EmbedInputError(f"`filters`: 'all' of {key!r} takes a list of at least one value, not {value!r}")
        return {"and": [{key: {"eq": one}} for one in value]}
    allowed = ", ".join(repr(operator.value) for operator in (*_OPERATORS, *_MORE))
    raise EmbedInputError(
        f"`filters`: the stores cannot search within a text ({asked.operator.value!r} of {key!r}); use one of {allowed}"
    )
