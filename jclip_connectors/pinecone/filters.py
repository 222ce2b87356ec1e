"""Translation of portable filters for Pinecone, and the metadata fields that they use.

Pinecone compares single numbers and searches lists of strings. It has no `$not` for a group, and `$ne` and `$nin` match
only if the field exists. So every record has the list `terms`, which is never empty, and for each field with numbers
their minimum and maximum: a number is above a bound exactly if the maximum is.
"""

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
    parse_filter,
    term,
    without_nested_not,
)
from jclip_connectors.port import Filter, NativeFilter
from jclip_connectors.store_kit.bounds import ALWAYS, BOUND_OF, OPPOSITE, bound_name, numbers_term

Expression: TypeAlias = dict[str, Any]

_MAX_VALUES = 10_000  # per $in or $nin
_EVERYTHING: Expression = {"terms": {"$in": [ALWAYS]}}
_NOTHING: Expression = {"terms": {"$nin": [ALWAYS]}}


def to_expression(where: Filter | None, *others: Expression) -> Expression:
    """Combine `where` and all of `others` in one filter expression.

    Args:
        where: a portable filter, or a `NativeFilter` with a dict or a `pinecone.Condition`.
        others: at least one expression.

    Raises:
        EmbedInputError: `where` is not a filter, or has more values than Pinecone accepts.
    """
    if isinstance(where, NativeFilter):
        return _all([*others, _native(where.value)])
    tree = without_nested_not(parse_filter(where))
    return _all([*others, _translate(tree)]) if tree != And(()) else _all([*others])


def none_of(field: str, values: list[str]) -> Expression:
    """Match records whose `field` has none of the values; every searched record must have the field."""
    return {field: {"$nin": values}}


def _native(value: object) -> Expression:
    expression = value.to_dict() if isinstance(value, Condition) else value
    if not isinstance(expression, dict) or not expression:
        raise EmbedInputError(f"`where` is a NativeFilter of {value!r}; use a non-empty dict or a `pinecone.Condition`")
    return expression


def _translate(node: Node) -> Expression:
    match node:
        case AnyOf():
            return _any_of(node, "$in", empty=_NOTHING)
        case Exists():
            return {"terms": {"$in": [exists_term(node.field)]}}
        case Compare():
            return {bound_name(BOUND_OF[node.op], node.field): {f"${node.op}": node.bound}}
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
            without_numbers = {"terms": {"$nin": [numbers_term(node.field)]}}
            # No number is above the bound: the field has no numbers, or its maximum is not above the bound.
            bound = bound_name(BOUND_OF[node.op], node.field)
            return {"$or": [without_numbers, {bound: {f"${OPPOSITE[node.op]}": node.bound}}]}
        case _:
            return _translate(without_nested_not(node, negate=True))


def _any_of(node: AnyOf, op: str, *, empty: Expression) -> Expression:
    if len(node.values) > _MAX_VALUES:
        raise EmbedInputError(
            f"`where` has {len(node.values)} values for {node.field!r}, and Pinecone accepts {_MAX_VALUES}: split it"
        )
    return {"terms": {op: [term(node.field, value) for value in node.values]}} if node.values else empty


def _all(expressions: list[Expression]) -> Expression:
    if not expressions:
        return _EVERYTHING
    return expressions[0] if len(expressions) == 1 else {"$and": expressions}
