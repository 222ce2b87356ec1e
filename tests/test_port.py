import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.errors import JinaClipError
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    MissingDependencyError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.filters import matches, numbers, parse_filter, term, terms
from jclip_connectors.port import record_uuid

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=5)
    | st.just("long" * 100)
)


def test_an_id_has_the_same_uuid_in_every_process():
    here = record_uuid("ü/🚲")
    code = "from jclip_connectors.port import record_uuid; print(record_uuid('ü/🚲'))"
    command = [sys.executable, "-X", "utf8", "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 (our own code)
    assert uuid.UUID(there.strip()) == here == uuid.UUID("23798a44-f393-5441-827d-c1dccc8483d9")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, min_size=2, max_size=2))
def test_two_ids_have_two_uuids(pair):
    assert record_uuid(pair[0]) != record_uuid(pair[1])


def test_every_error_of_this_package_has_one_base_and_the_right_builtin_kin():
    failures = {1: ValueError("first"), 7: EmbedInputError("second")}
    errors: list[Exception] = [
        MissingDependencyError("torch", extra="local"),
        EmbedInputError("x"),
        CollectionMismatchError({}, {"a": 1}, collection="c"),
        StoreUnavailableError("x"),
        StoreRequestError("x"),
        PartialFailureError("images", failed=failures, kept={0: None}),
    ]
    assert all(isinstance(error, ConnectorError) and not isinstance(error, JinaClipError) for error in errors)
    assert isinstance(errors[0], ImportError)
    assert isinstance(errors[1], ValueError)
    assert StoreUnavailableError("x", retry_after_s=2.5).retry_after_s == 2.5
    assert StoreUnavailableError("x").retry_after_s is None


def test_a_partial_failure_names_the_first_items_and_keeps_all():
    failed = {position: ValueError(f"reason {position}") for position in range(3, 10)}
    error = PartialFailureError("images", failed=failed, kept={0: "a"})
    assert str(error).startswith("7 of 8 images failed: 3: reason 3; 4: reason 4;")
    assert str(error).endswith("7: reason 7; and 2 more")
    assert error.failed == failed
    assert error.kept == {0: "a"}


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
