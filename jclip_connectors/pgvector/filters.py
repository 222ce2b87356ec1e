"""Translation of portable filters to SQL conditions on the JSONB columns `terms` and `numbers`.

`terms ?| array` matches if the list contains one of the strings, and uses a GIN index. Numbers are compared as float64,
because PostgreSQL's JSONB numbers (numeric) would round a float64 parameter to 15 digits.
"""

from types import MappingProxyType
from typing import Any

from psycopg import sql

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import AnyOf, Compare, Exists, Node, Not, Or, exists_term, parse_filter, term
from jclip_connectors.port import Filter, Modality, NativeFilter
from jclip_connectors.store_kit.payload import number_key
from jclip_connectors.store_kit.validation import check_modality

_OPERATORS = MappingProxyType(
    {"gt": sql.SQL(">"), "gte": sql.SQL(">="), "lt": sql.SQL("<"), "lte": sql.SQL("<=")},
)
_TRUE, _FALSE = sql.SQL("TRUE"), sql.SQL("FALSE")


def to_sql(where: Filter | None) -> tuple[sql.Composable, dict[str, Any]]:
    """The condition of a filter, and the values of its placeholders.

    Raises:
        EmbedInputError: `where` is a filter of another database, or not a filter.
    """
    if isinstance(where, NativeFilter):
        if not isinstance(where.value, sql.Composable):
            raise EmbedInputError(
                f"`where` is a NativeFilter of {type(where.value).__name__}: PostgreSQL needs a "
                "`psycopg.sql.Composable`, like SQL(\"fields->>'year' = {}\").format('2020'); "
                "the metadata is in `fields`"
            )
        return where.value, {}
    values: dict[str, Any] = {}
    return _translate(parse_filter(where), values), values


def of_modality(modality: Modality) -> sql.Composable:
    """The condition of a modality, as a literal: PostgreSQL uses a partial index only for a constant condition."""
    return sql.SQL("modality = {}").format(sql.Literal(modality))


def with_modality(condition: sql.Composable, modality: Modality | None) -> sql.Composable:
    """The condition of a filter and a modality."""
    check_modality(modality)
    return condition if modality is None else sql.SQL("({}) AND {}").format(condition, of_modality(modality))


def _translate(node: Node, values: dict[str, Any]) -> sql.Composable:
    match node:
        case AnyOf():
            return _has_term([term(node.field, value) for value in node.values], values)
        case Exists():
            return _has_term([exists_term(node.field)], values)
        case Compare():
            return sql.SQL(
                "EXISTS (SELECT FROM jsonb_array_elements(numbers -> {field}::text) AS number "
                "WHERE number::float8 {operator} {bound}::float8)"
            ).format(
                field=_value(number_key(node.field), values),
                operator=_OPERATORS[node.op],
                bound=_value(node.bound, values),
            )
        case Not():
            return sql.SQL("NOT ({})").format(_translate(node.node, values))
        case _:
            word, empty = (" OR ", _FALSE) if isinstance(node, Or) else (" AND ", _TRUE)
            children = [sql.SQL("({})").format(_translate(child, values)) for child in node.nodes]
            return sql.SQL(word).join(children) if children else empty


def _has_term(terms: list[str], values: dict[str, Any]) -> sql.Composable:
    return sql.SQL("terms ?| {}::text[]").format(_value(terms, values))


def _value(value: object, values: dict[str, Any]) -> sql.Placeholder:
    """A placeholder, whose value is added to `values`."""
    name = f"filter_{len(values)}"
    values[name] = value
    return sql.Placeholder(name)
