"""What stands in an expression: hexadecimal hashes and numbers, whatever a filter or metadata holds."""

import re

import pytest

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import numbers
from jclip_connectors.milvus.filters import EVERYTHING, filter_fields, to_expression
from jclip_connectors.port import NativeFilter

HOSTILE = ['"', "'", "\\", '"] or pk != "', "{t}", "\n", "\0", "%", "日本", "\ud800", "", "pk", "a" * 1000]
# Everything that an expression may hold.
GRAMMAR = re.compile(
    r'(ARRAY_CONTAINS_ANY\(terms, \[|"[0-9a-f]{32}"|numbers\["[0-9a-f]{32}_(min|max)"\]|pk (=|!)= ""'
    r"|modality == \"(text|image)\"|not|and|or|[()\], ]|[<>]=?|-?\d+(\.\d+)?(e[+-]\d+)?)*"
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_users_stands_in_an_expression(text):
    for where in (
        {text: text},
        {text: {"in": [text, 1, None, True]}},
        {text: {"exists": True}},
        {text: {"gt": 1.5}},
        {"not": {text: {"lte": -1e300}}},
        {"or": [{text: {"ne": text}}, {"not": {"and": [{text: 1}, {text: {"lt": 1e-7}}]}}]},
    ):
        expression = to_expression(where, "image")
        assert GRAMMAR.fullmatch(expression), expression
    kept = filter_fields({text: [text, 1.5]})
    assert all(re.fullmatch("[0-9a-f]{32}", term) for term in kept["terms"])
    assert all(re.fullmatch("[0-9a-f]{32}_(min|max)", name) for name in kept["numbers"])


def test_a_term_of_numbers_is_no_term_of_a_value():
    fields = [filter_fields({"a": value})["terms"] for value in (1, "1", 'numbers"a"', ["a", 1])]
    counts = [len(terms) for terms in fields]
    assert counts == [4, 3, 3, 5]  # always, the field, its values, that it has numbers
    assert len(set(fields[0]) & set(fields[1])) == 2


def test_the_least_and_the_greatest_are_kept_as_python_compares_them():
    metadata = {"n": [2**60, -1.5, "no number", True, None]}
    assert numbers(metadata) == {"n": [float(2**60), -1.5]}
    assert sorted(filter_fields(metadata)["numbers"].values()) == [-1.5, float(2**60)]


def test_what_matches_everything_and_nothing_is_an_expression():
    assert to_expression(None) == to_expression({}) == EVERYTHING
    assert to_expression({"a": {"in": []}}) == 'pk == ""'
    assert to_expression({}, "text") == 'modality == "text"'
    assert to_expression({"a": {"nin": []}}) == '(not (pk == ""))'


@pytest.mark.parametrize("value", ["", " ", None, 5, {"a": 1}, ["pk"]])
def test_a_native_filter_of_another_kind_is_refused(value):
    with pytest.raises(EmbedInputError, match="Milvus needs an expression as a string"):
        to_expression(NativeFilter(value))


def test_a_native_filter_is_one_condition():
    native = NativeFilter('a == 1 or b == "x"')
    assert to_expression(native, "text") == '(a == 1 or b == "x") and modality == "text"'
