"""The filter language, and the terms and numbers that stores index for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import matches, numbers, parse_filter, term, terms

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=5)
    | st.just("long" * 100)
)


@given(scalars, scalars)
def test_values_have_one_term_if_they_are_equal_and_two_if_not(first, second):
    equal = matches(parse_filter({"f": {"eq": first}}), {"f": second})
    assert (term("f", first) == term("f", second)) == equal
    assert equal == (isinstance(first, bool) == isinstance(second, bool) and first == second)


@given(
    st.dictionaries(st.sampled_from(["a", "", "ü", "a.b"]), scalars | st.lists(scalars, max_size=3), max_size=3),
    scalars,
)
def test_terms_and_numbers_answer_as_the_filter_does(metadata, value):
    for field in metadata:
        assert (term(field, value) in terms(metadata)) == matches(parse_filter({field: {"in": [value]}}), metadata)
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                bound = float(value)
            except OverflowError:
                continue
            answer = any(number >= bound for number in numbers(metadata).get(field, []))
            assert answer == matches(parse_filter({field: {"gte": value}}), metadata)


@given(scalars, st.text(max_size=400))
def test_terms_are_short_ascii(value, field):
    for found in terms({field: value}):
        assert len(found) <= 200
        assert found.isascii()


def test_a_field_is_not_mistaken_for_another_fields_value():
    assert set(terms({"a": "b"})).isdisjoint(terms({"a,b": None, 'a", "b': 1, "[a": "b"}))


def test_where_none_and_empty_match_everything():
    assert matches(parse_filter(None), {})
    assert matches(parse_filter({}), {"a": 1})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"year": {"like": 1}},
            "unknown operator 'like' of 'year'; use one of eq, ne, in, nin, gt, gte, lt, lte, exists",
        ),
        ({"year": [1, 2]}, r'write \{"in": \[1, 2\]\}'),
        ({"day": {"gt": "2024-01-31"}}, r"keep a date as a number \(20240131"),
        ({"or": []}, "'or' takes a list of at least one filter"),
    ],
)
def test_a_bad_filter_is_told_what_to_write(where, message):
    with pytest.raises(EmbedInputError, match=message):
        parse_filter(where)
