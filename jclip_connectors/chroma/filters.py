"""Translation of portable filters for Chroma, and the metadata that they use.

Chroma compares single numbers, and finds a string in a list. It has no `$not`, and no group of fewer than two. So every
record has the list `terms`, which is never empty, and for each field with numbers their minimum and maximum: a number
is above a bound exactly if the maximum is. A term says that there are numbers: a write leaves keys of the metadata that
it replaces, if another write has come between.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from jclip_connectors.chroma.schema import MODALITY, TERMS
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
from jclip_connectors.port import MODALITIES, Filter, Modality, NativeFilter
from jclip_connectors.store_kit.bounds import ALWAYS, BOUND_OF, OPPOSITE, bound_name, numbers_term
from jclip_connectors.store_kit.validation import check_modality

Where: TypeAlias = dict[str, Any]

_EVERYTHING: Where = {MODALITY: {"$in": list(MODALITIES)}}
_NOTHING: Where = {TERMS: {"$not_contains": ALWAYS}}
_GROUP = 16  # a long group becomes a tree: SQLite refuses an expression that is 1000 deep
# SQLite takes 32,766 values for one statement, three for a condition; a long flat group ends the whole process.
_MOST_CONDITIONS = 8000
_MOST_LEVELS = 60  # Chroma reads JSON of 128 levels, two for a group


def to_where(where: Filter | None, modality: Modality | None) -> Where | None:
    """A filter and a modality in Chroma's language; `None` for all records.

    Args:
        where: a portable filter, or a `NativeFilter` with a dict.
        modality: "text", "image" or `None`.

    Raises:
        EmbedInputError: not a filter, not a modality, or more conditions or levels than Chroma can take.
    """
    check_modality(modality)
    parts: list[Where] = [] if modality is None else [{MODALITY: {"$eq": modality}}]
    if isinstance(where, NativeFilter):
        parts.append(_native(where.value))
    else:
        tree = without_nested_not(parse_filter(where))
        _check_size(tree)
        translated = _translate(tree)
        if translated is not _EVERYTHING:
            parts.append(translated)
    return _group("$and", parts) if parts else None


def every_record(where: Where | None) -> Where:
    """A filter for a method that needs one."""
    return _EVERYTHING if where is None else where


def _native(value: object) -> Where:
    if not isinstance(value, dict) or not value:
        raise EmbedInputError(f"`where` is a NativeFilter of {value!r}; use a non-empty dict in Chroma's language")
    return value


def _translate(node: Node) -> Where:
    match node:
        case AnyOf():
            return _group("$or", list(map(_has, _terms(node))))
        case Exists():
            return _has(exists_term(node.field))
        case Compare():
            return _group("$and", [_has(numbers_term(node.field)), _compare(node, node.op)])
        case Not():
            return _negate(node.node)
        case And():
            children = [_translate(child) for child in node.nodes]
            return _group("$and", [child for child in children if child is not _EVERYTHING])
        case Or():
            children = [_translate(child) for child in node.nodes]
            return _EVERYTHING if any(child is _EVERYTHING for child in children) else _group("$or", children)


def _negate(node: Node) -> Where:
    match node:
        case AnyOf():
            return _group("$and", list(map(_has_not, _terms(node))))
        case Exists():
            return _has_not(exists_term(node.field))
        case Compare():
            # No number is above the bound: the field has no numbers, or its maximum is not above the bound.
            return _group("$or", [_has_not(numbers_term(node.field)), _compare(node, OPPOSITE[node.op])])
        case _:
            return _translate(without_nested_not(node, negate=True))


def _terms(node: AnyOf) -> list[str]:
    return list(dict.fromkeys(term(node.field, value) for value in node.values))


def _compare(node: Compare, op: str) -> Where:
    return {bound_name(BOUND_OF[node.op], node.field): {f"${op}": node.bound}}


def _has(wanted: str) -> Where:
    return {TERMS: {"$contains": wanted}}


def _has_not(unwanted: str) -> Where:
    return {TERMS: {"$not_contains": unwanted}}


def _group(op: str, parts: Sequence[Where]) -> Where:
    """All or any of the parts, as a tree."""
    if not parts:
        return _EVERYTHING if op == "$and" else _NOTHING
    level = list(parts)
    while len(level) > 1:
        groups = [level[start : start + _GROUP] for start in range(0, len(level), _GROUP)]
        level = [group[0] if len(group) == 1 else {op: group} for group in groups]
    return level[0]


def _check_size(node: Node) -> None:
    conditions = _count(node)
    if conditions > _MOST_CONDITIONS:
        raise EmbedInputError(
            f"`where` has {conditions} values and conditions, and Chroma can take {_MOST_CONDITIONS}: split it"
        )
    levels = _levels(node)
    if levels > _MOST_LEVELS:
        raise EmbedInputError(
            f"`where` needs {levels} levels of `and` and `or`, and Chroma can take {_MOST_LEVELS}: use fewer"
        )


def _count(node: Node) -> int:
    match node:
        case AnyOf():
            return len(node.values)
        case Compare():
            return 2
        case Not():
            return _count(node.node)
        case And() | Or():
            return sum(map(_count, node.nodes))
        case _:
            return 1


def _levels(node: Node) -> int:
    match node:
        case AnyOf():
            return _depth(len(node.values))
        case Compare():
            return 1
        case Not():
            return _levels(node.node)
        case And() | Or():
            return _depth(len(node.nodes)) + max(map(_levels, node.nodes), default=0)
        case _:
            return 0


def _depth(parts: int) -> int:
    """How many levels `_group` makes of so many parts."""
    levels = 0
    while parts > 1:
        parts = -(-parts // _GROUP)
        levels += 1
    return levels
