"""Translate the queries of LangChain's SelfQueryRetriever into our portable filter."""

import datetime
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery, Visitor

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import parse_filter

_OPERATORS: Mapping[Comparator, str] = MappingProxyType(
    {
        Comparator.EQ: "eq",
        Comparator.NE: "ne",
        Comparator.GT: "gt",
        Comparator.GTE: "gte",
        Comparator.LT: "lt",
        Comparator.LTE: "lte",
        Comparator.CONTAIN: "eq",  # a field that is a list equals each of its elements
        Comparator.IN: "in",
        Comparator.NIN: "nin",
    }
)


class JinaClipTranslator(Visitor):
    """Writes a structured query as a filter of `JinaClipVectorStore`; pass one as `structured_query_translator`.

    Every operator and comparator is known but `like`, which is refused: no store has it. `contain` means that a list
    has the value as an element. A date is the text that metadata has for it, so it can be equal but not greater; to
    compare dates, keep them as numbers.
    """

    allowed_comparators = tuple(_OPERATORS)
    allowed_operators = (Operator.AND, Operator.OR, Operator.NOT)

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        """Translate `and`, `or` and `not`.

        Args:
            operation: an operator and the conditions that it joins.

        Raises:
            EmbedInputError: `not` has another number of arguments than one, or another operator has none.
        """
        branches = [argument.accept(self) for argument in operation.arguments]
        if operation.operator is Operator.NOT:
            if len(branches) != 1:
                raise EmbedInputError(f"`not` takes one condition, and the query has {len(branches)}")
            return {"not": branches[0]}
        if not branches:
            raise EmbedInputError(f"`{operation.operator.value}` of the query has no conditions")
        return {operation.operator.value: branches}

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        """Translate a comparison of one field.

        Args:
            comparison: a comparator, a field and a value.

        Raises:
            EmbedInputError: the comparator is `like`, the value is of a type that the comparator cannot take, or the
                field has the name of an operator.
        """
        field, comparator = comparison.attribute, comparison.comparator
        if comparator not in _OPERATORS:
            raise EmbedInputError(
                f"the comparator {comparator.value!r} of {field!r} is not supported: use one of "
                f"{', '.join(known.value for known in _OPERATORS)}"
            )
        if field in ("and", "or", "not"):
            raise EmbedInputError(
                f"the field {field!r} has the name of an operator, so it cannot be filtered: rename it"
            )
        value = _plain(comparison.value)
        if comparator in (Comparator.IN, Comparator.NIN) and not isinstance(value, list | tuple):
            value = [value]
        operator = _OPERATORS[comparator]
        if isinstance(value, list | tuple) and operator in ("eq", "ne"):  # "equals one of these"
            operator = "in" if operator == "eq" else "nin"
        condition = {field: {operator: value}}
        parse_filter(condition)  # refuses what the stores refuse
        return condition

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Translate a whole query.

        Args:
            structured_query: a text, and a condition or none.

        Returns:
            The text, and the options of the search: `filter`, if there is a condition.

        Raises:
            EmbedInputError: a condition is not supported; see the other methods.
        """
        if structured_query.filter is None:
            return structured_query.query, {}
        return structured_query.query, {"filter": structured_query.filter.accept(self)}


def _plain(value: object) -> object:
    """A value of LangChain's parser as metadata has it: a date is a dict with its type, or a date."""
    if isinstance(value, Mapping) and set(value) == {"date", "type"}:
        return value["date"]
    if isinstance(value, Mapping) and set(value) == {"datetime", "type"}:
        return value["datetime"]
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
