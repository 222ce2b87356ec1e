"""Translation of portable filters to conditions in SQL, as LanceDB's engine (DataFusion) reads it.

`array_has_any(terms, [...])` matches if the list has one of the strings. One of the numbers of a field is above a bound
if the largest is: `greatest` has it, at the place that the field has in `number_fields`. No condition is ever NULL.
"""

from collections.abc import Iterable
from types import MappingProxyType

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
    parse_filter,
    term,
    without_nested_not,
)
from jclip_connectors.port import Filter, Modality, NativeFilter
from jclip_connectors.store_kit.validation import check_modality

_OPERATORS = MappingProxyType({"gt": ">", "gte": ">=", "lt": "<", "lte": "<="})
_MOST_GROUPS = 18  # in one another; the engine's parser stops at 21
_MOST_CONDITIONS = 2048  # the time of the engine's planner grows with their square: a second


def to_sql(where: Filter | None, modality: Modality | None = None) -> str | None:
    """The condition of a filter and a modality; `None` if it matches everything.

    Raises:
        EmbedInputError: `where` is a filter of another database, is not a filter, or has too many groups or conditions.
    """
    check_modality(modality)
    if isinstance(where, NativeFilter):
        if not isinstance(where.value, str):
            raise EmbedInputError(
                f"`where` is a NativeFilter of {type(where.value).__name__}: LanceDB needs a string of SQL, like "
                "\"uri LIKE '%.png'\""
            )
        conditions = [f"({where.value})"]
    else:
        conditions = _all_of(without_nested_not(parse_filter(where)))
    if modality is not None:
        conditions.append(f"modality = {quoted(modality)}")
    return " AND ".join(conditions) or None


def quoted(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def any_of(column: str, values: Iterable[str]) -> str:
    """The condition that a column has one of some values, which are SQL."""
    return f"{column} IN ({', '.join(values)})"


def number_name(field: str) -> str:
    """The name of a field in `number_fields`: ASCII, at most 200 characters."""
    return exists_term(field)


def _all_of(node: Node) -> list[str]:
    """Conditions that all have to match, each of which can stand between two AND."""
    budget = _Budget()
    return _conjuncts(node, budget, groups=0)


class _Budget:
    """Counts the conditions of a filter."""

    def __init__(self) -> None:
        self._left = _MOST_CONDITIONS

    def spend(self, condition: str) -> str:
        """Count one condition.

        Raises:
            EmbedInputError: there are too many.
        """
        self._left -= 1
        if self._left < 0:
            raise EmbedInputError(
                f"`where` has more than {_MOST_CONDITIONS} conditions, which LanceDB takes too long to read: use 'in' "
                "with a list of values, or several requests"
            )
        return condition


def _conjuncts(node: Node, budget: _Budget, *, groups: int) -> list[str]:
    nodes = _flat(node, And)
    absent = [name for child in nodes if isinstance(child, Not) for name in _terms(child.node)]
    found = [f"NOT {budget.spend(_has_term(absent))}"] if absent else []
    for child in nodes:
        if isinstance(child, Or):
            if groups == _MOST_GROUPS:
                raise EmbedInputError(
                    f"`where` has more than {_MOST_GROUPS} groups of 'or' inside one another, which LanceDB cannot "
                    "read: write it with fewer levels"
                )
            found.append(f"({' OR '.join(_disjuncts(child, budget, groups=groups + 1))})")
        elif not (isinstance(child, Not) and _is_term(child.node)):
            found.append(budget.spend(_leaf(child)))
    return found


def _disjuncts(node: Or, budget: _Budget, *, groups: int) -> list[str]:
    nodes = _flat(node, Or)
    present = [name for child in nodes for name in _terms(child)]
    found = [budget.spend(_has_term(present))] if present else []
    for child in nodes:
        if isinstance(child, And):
            found.append(" AND ".join(_conjuncts(child, budget, groups=groups)) or "true")
        elif not _is_term(child):
            found.append(budget.spend(_leaf(child)))
    return found or ["false"]


def _flat(node: Node, kind: type[And] | type[Or]) -> list[Node]:
    """The children of a group, with those of its children of the same kind, and of groups of one, in their place."""
    if isinstance(node, And | Or) and (isinstance(node, kind) or len(node.nodes) == 1):
        return [inner for child in node.nodes for inner in _flat(child, kind)]
    return [node]


def _is_term(node: Node) -> bool:
    return isinstance(node, AnyOf | Exists)


def _terms(node: Node) -> list[str]:
    match node:
        case AnyOf():
            return [term(node.field, value) for value in node.values]
        case Exists():
            return [exists_term(node.field)]
        case _:
            return []


def _leaf(node: Node) -> str:
    match node:
        case Not():
            return f"NOT {_leaf(node.node)}"
        case Compare():
            column = "greatest" if node.op in ("gt", "gte") else "least"
            place = f"cast(array_position(number_fields, {quoted(number_name(node.field))}) AS bigint)"
            bound = f"cast('{node.bound!r}' AS double)"
            return f"coalesce(array_element({column}, {place}) {_OPERATORS[node.op]} {bound}, false)"
        case _:
            return _has_term(_terms(node))


def _has_term(terms: Iterable[str]) -> str:
    listed = ", ".join(map(quoted, terms))
    return f"array_has_any(terms, [{listed}])" if listed else "false"
