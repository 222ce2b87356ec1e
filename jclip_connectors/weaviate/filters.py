"""Translation of portable filters for Weaviate.

The translation relies on the server's inverted index (documentation of 1.33 and later, and its source):

- `ContainsAny` on a text[] matches if one of its elements is one of the tokens. With the tokenization FIELD, a token is
  the whole element without white space at its ends; our terms have none there.
- `Not` matches every object that its operand does not match, also objects without the property. On some servers it also
  matches a deleted object, which a search drops but a count includes (source of 1.36; not so on 1.40.0-dev). So every
  filter has a positive condition on `modality`, which every existing object meets and no deleted object meets.
- A condition on a property that the collection does not have is an error, or is silently left out of an `And`. So a
  comparison with a field without numbers in any record becomes a condition that matches nothing.
- `IsNull` and the length of a property are not used: they ignore properties that were added later.
"""

from collections.abc import Collection

from weaviate.classes.query import Filter as Condition
from weaviate.collections.classes.filters import FilterReturn

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
from jclip_connectors.weaviate.schema import number_names


def parse(where: Filter | None) -> And | NativeFilter:
    """Parse a portable filter; a `NativeFilter` for Weaviate is returned unchanged.

    Raises:
        EmbedInputError: `where` is not a portable filter and not a filter of weaviate-client.
    """
    if not isinstance(where, NativeFilter):
        return parse_filter(where)
    if not isinstance(where.value, FilterReturn):
        raise EmbedInputError(
            f"`where` is a NativeFilter of {type(where.value).__name__}: "
            "make one for Weaviate with `weaviate.classes.query.Filter`"
        )
    return where


def condition(
    parsed: And | NativeFilter, modality: Modality | None, *, properties: Collection[str]
) -> FilterReturn | None:
    """The condition for records that match a filter and a modality; `None` for all records.

    Args:
        parsed: the result of `parse`.
        modality: `None` for both.
        properties: the names of all properties of the collection.
    """
    if modality is None and parsed == And(()):
        return None
    living = every_record() if modality is None else Condition.by_property("modality").equal(modality)
    if isinstance(parsed, NativeFilter):
        return Condition.all_of([living, parsed.value])
    tree = without_nested_not(parsed)
    nodes = tree.nodes if isinstance(tree, And) else (tree,)
    return Condition.all_of([living, *(_translate(node, properties) for node in nodes)])


def every_record() -> FilterReturn:
    """A condition that every record matches."""
    return Condition.by_property("modality").contains_any(list(MODALITIES))


def _translate(node: Node, properties: Collection[str]) -> FilterReturn:
    match node:
        case AnyOf():
            values = [term(node.field, value) for value in node.values]
            return Condition.by_property("terms").contains_any(values) if values else _nothing()
        case Exists():
            return Condition.by_property("terms").contains_any([exists_term(node.field)])
        case Compare():
            return _compare(node, properties)
        case Not():
            return Condition.not_(_translate(node.node, properties))
        case Or():
            return Condition.any_of([_translate(child, properties) for child in node.nodes])
        case _:
            children = [_translate(child, properties) for child in node.nodes]
            return Condition.all_of(children) if children else every_record()


def _compare(node: Compare, properties: Collection[str]) -> FilterReturn:
    least, greatest = number_names(node.field)
    if least not in properties or greatest not in properties:
        return _nothing()
    bound = node.bound + 0.0  # see `to_object`
    match node.op:
        case "gt":
            return Condition.by_property(greatest).greater_than(bound)
        case "gte":
            return Condition.by_property(greatest).greater_or_equal(bound)
        case "lt":
            return Condition.by_property(least).less_than(bound)
        case "lte":
            return Condition.by_property(least).less_or_equal(bound)


def _nothing() -> FilterReturn:
    return Condition.by_property("modality").equal("none of them")
