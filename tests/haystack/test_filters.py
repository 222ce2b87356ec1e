"""Filters: they mean what Haystack's own matcher says, and what cannot be compared is refused by name."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_connectors import EmbedInputError
from jclip_connectors.filters import matches, parse_filter
from tests.late import late

ours = late("jclip_connectors.haystack.filters")
hidden = late("jclip_connectors.haystack.hidden")
haystack = late("haystack")
errors = late("haystack.errors")
utils = late("haystack.utils.filters")


def found(filters, meta):
    return matches(parse_filter(ours().to_filter(filters)), hidden().with_twins(meta))


def expected(filters, meta):
    return utils().document_matches_filter(filters, haystack().Document(meta=meta))


def asks(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


ZONES = [None, *(datetime.timezone(datetime.timedelta(hours=hours)) for hours in (-9, 0, 2))]
# A few moments of a few clocks, so that many are equal, or are only in one of both ways.
MOMENTS = st.builds(
    lambda day, hour, zone: datetime.datetime(2024, 2, day, hour, tzinfo=zone),
    st.integers(28, 29),
    st.integers(0, 23),
    st.sampled_from(ZONES),
)
DATES = st.builds(lambda moment, between: moment.isoformat(between), MOMENTS, st.sampled_from("T "))
DATES |= st.sampled_from(["2024-02-28", "2024-02-29", "2024-02-29T01:00:00.000001", "2024-02-29T01:00:00Z"])
NUMBERS = st.integers(-2, 2) | st.sampled_from([0.5, 1.0, -0.0, 1e300]) | st.booleans()
WORDS = st.sampled_from(["", "a", "2024", "2024-02", "2024-02-30", "2024-02-28x", "1"])
KEYS = st.sampled_from(["a", "b", "and", "not"])
# Haystack raises where it compares a number with a date, so each key has values of one kind.
OF_KEY = {"a": NUMBERS, "b": DATES, "and": NUMBERS, "not": WORDS}


def _metas(depth):
    nested = st.fixed_dictionaries({}, optional={"o": _metas(depth - 1)}) if depth else st.just({})
    fields = st.fixed_dictionaries({}, optional={key: values | st.none() for key, values in OF_KEY.items()})
    return st.builds(lambda one, other: one | other, fields, nested)


@st.composite
def comparisons(draw):
    key = draw(KEYS)
    values = OF_KEY[key] | st.none()
    above = draw(st.sampled_from(["meta.", "meta.o.", "meta.o.o.", "meta.a.", ""]))
    operator = draw(st.sampled_from(["==", "!=", "in", "not in", *([">", ">=", "<", "<="] if key != "not" else [])]))
    value = draw(st.lists(values, max_size=3) if operator.endswith("in") else values)
    return asks(above + key, operator, value)


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=4,
)


@given(filters=FILTERS, meta=_metas(2))
def test_a_filter_matches_what_haystacks_own_matcher_matches(filters, meta):
    assert found(filters, meta) == expected(filters, meta)


VALUES = [
    None,
    True,
    False,
    1,
    0,
    1.0,
    0.5,
    2,
    "",
    "a",
    "1",
    "2024-02-28",
    "2024-02-28T00:00:00",
    "2024-02-27T23:00:00Z",
]
VALUES += ["2024-02-28T01:00:00+02:00", "2024-02-28 00:00:00+00:00"]
METAS = [{}, *({"a": value} for value in VALUES)]


@pytest.mark.parametrize("operator", ["==", "!=", "in", "not in"])
def test_each_value_equals_what_it_equals_in_haystack(operator):
    for value in VALUES:
        filters = asks("meta.a", operator, [value] if operator.endswith("in") else value)
        for meta in METAS:
            assert found(filters, meta) == expected(filters, meta), (filters, meta)
            assert found(filters | {"field": "meta.o.a"}, {"o": meta}) == expected(filters, meta), (filters, meta)


@pytest.mark.parametrize("operator", [">", ">=", "<", "<="])
def test_each_value_compares_as_in_haystack_with_values_of_its_kind(operator):
    numbers = [value for value in VALUES if not isinstance(value, str)]
    dates = [value for value in VALUES if isinstance(value, str) and value.startswith("2024-02")]
    for kind in (numbers, [None, *dates]):
        for value in kind:
            filters = asks("meta.a", operator, value)
            for other in kind:
                assert found(filters, {"a": other}) == expected(filters, {"a": other}), (filters, other)


@pytest.mark.parametrize("operator", ["==", "!=", ">", ">=", "<", "<="])
@given(one=DATES, other=DATES)
def test_dates_compare_as_in_haystack_with_zones_and_without(operator, one, other):
    filters = asks("meta.d", operator, other)
    assert found(filters, {"d": one}) == expected(filters, {"d": one})


def test_dates_of_python_compare_like_their_texts():
    noon = datetime.datetime(2024, 2, 28, 12, tzinfo=datetime.UTC)
    for filters in (asks("meta.d", ">=", noon), asks("meta.d", "==", noon), asks("meta.d", "in", [noon])):
        assert found(filters, {"d": "2024-02-28T14:00:00+02:00"})
    assert found(asks("meta.d", "<", datetime.date(2024, 2, 29)), {"d": "2024-02-28T23:59:59"})


def test_a_list_is_found_by_each_of_its_elements_and_this_differs_from_haystack():
    filters, meta = asks("meta.tags", "==", "x"), {"tags": ["x", "y"]}
    assert found(filters, meta)
    assert not expected(filters, meta)
    assert found(asks("meta.o.n", ">", 2), {"o": {"n": [1, 3]}})
    assert not found(asks("meta.tags", "not in", ["y", "z"]), meta)


def test_no_filter_matches_everything():
    assert ours().to_filter(None) == ours().to_filter({}) == {}


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("year", "'year' where a condition is needed"),
        ({"operator": "AND"}, "no 'conditions'"),
        ({"conditions": []}, "no 'operator'"),
        ({"operator": "XOR", "conditions": []}, "unknown operator 'XOR'; use 'AND', 'OR' or 'NOT'"),
        ({"operator": "AND", "conditions": {}}, "'AND' takes a list"),
        ({"field": "meta.n", "value": 1}, "no 'operator'"),
        ({"field": "meta.n", "operator": "=="}, "no 'value'"),
        (asks("meta.n", "=", 1), "unknown operator '='; use one of '==', '!='"),
        (asks("meta.n", "in", (1, 2)), "'in' of 'meta.n' takes a list"),
        (asks("meta.n", "not in", "ab"), "'not in' of 'meta.n' takes a list"),
        (asks("meta.n", "==", ["a"]), "found by each of its elements"),
        (asks("meta.n", "==", float("nan")), "has nan"),
        (asks("meta.n", ">", float("inf")), "compares numbers, and dates"),
        (asks("meta.n", ">", "abc"), "compares numbers, and dates"),
        (asks("meta.n", ">", "20240131"), "compares numbers, and dates"),
        (asks("meta.n", "<", [1]), "compares numbers, and dates"),
        (asks("id", "==", "x"), "`get_documents` finds documents by id"),
        (asks("content", "==", "x"), "only values of the metadata"),
        (asks("person.name", "==", "x"), "write 'meta.' before"),
        (asks("meta.", "==", "x"), "not a path into the metadata"),
        (asks("meta._haystack_unembedded", "==", True), "not a path into the metadata"),
        (asks("meta." + ".".join("a" * 21), "==", 1), "not a path into the metadata"),
        (asks("", "==", "x"), "the field is ''"),
        (asks(None, "==", "x"), "the field is None"),
    ],
)
def test_what_is_not_complete_or_cannot_be_compared_is_a_filter_error(filters, message):
    with pytest.raises(errors().FilterError, match=message) as caught:
        ours().to_filter(filters)
    assert isinstance(caught.value, EmbedInputError)


def test_filters_are_nested_as_deep_as_the_grammar_allows_and_deeper_ones_are_refused():
    filters = asks("meta.d", "!=", "2024-01-01T00:00:00Z")
    for _ in range(15):
        filters = {"operator": "NOT", "conditions": [filters]}
    parse_filter(ours().to_filter(filters))
    with pytest.raises(errors().FilterError, match="nested more than 15 levels"):
        ours().to_filter({"operator": "NOT", "conditions": [filters]})
