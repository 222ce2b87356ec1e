"""Numbers of the metadata: their properties, and how they are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.testing.store_contract import PLAIN, ids_of, image
from jclip_connectors.weaviate.schema import number_names
from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles.weaviate_collections import PROPERTY_NAME
from tests.weaviate.harness import asked, at_once


def test_two_that_need_one_property_at_once_both_write(server, client, photos):
    other = WeaviateStore.open(client, "Photos", PLAIN)
    server.gather("POST /v1/schema/Photos/properties", 2)  # both have seen that there is none
    _, errors = at_once(
        lambda: photos.upsert([image("a", metadata={"year": 1})]),
        lambda: other.upsert([image("b", metadata={"year": 2})]),
    )
    assert errors == []
    assert photos.count(where={"year": {"gte": 1}}) == 2


def test_a_field_that_another_process_has_brought_is_compared(client, photos):
    assert photos.count(where={"year": {"gt": 0}}) == 0
    WeaviateStore.open(client, "Photos", PLAIN).upsert([image("a", metadata={"year": 1})])
    assert photos.count(where={"year": {"gt": 0}}) == 1


def test_a_property_is_made_once_and_not_looked_for_again(server, photos):
    photos.upsert([image("a", metadata={"year": 1})])
    server.calls.clear()
    photos.upsert([image("b", metadata={"year": 2})])
    assert asked(server) == ["BatchObjects"]


def test_a_property_that_cannot_be_made_stops_the_write(server, photos):
    server.fail("POST /v1/schema/Photos/properties", 422, details="read only")
    with pytest.raises(StoreRequestError, match="read only"):
        photos.upsert([image("a", metadata={"year": 1})])
    assert photos.count() == 0


@given(st.lists(st.text(), unique=True, max_size=5))
def test_any_field_has_property_names_of_its_own_that_weaviate_takes(fields):
    names = [name for field in fields for name in number_names(field)]
    assert len({name.lower() for name in names}) == 2 * len(fields)
    assert all(PROPERTY_NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"gt": 9}, "b"),
        ({"gt": 8.5}, "ab"),
        ({"gte": 9}, "ab"),
        ({"lt": 1}, "b"),
        ({"lt": 1.5}, "ab"),
        ({"lte": 1}, "ab"),
        ({"gt": 3, "lt": 4}, "ab"),
        ({"gt": 20}, ""),
    ],
)
def test_any_number_of_a_list_may_be_the_one_that_is_compared(photos, condition, expected):
    photos.upsert([image("a", metadata={"n": [5, 1, "x", 9]}), image("b", metadata={"n": [20, -2.5]}), image("c")])
    assert sorted(ids_of(photos.scroll(where={"n": condition}))) == list(expected)
    assert photos.count(where={"not": {"n": condition}}) == 3 - len(expected)


def test_zero_has_no_sign(photos):
    photos.upsert([image("minus", metadata={"n": -0.0}), image("plus", metadata={"n": 0.0})])
    for where in ({"n": {"gte": 0.0}}, {"n": {"gte": -0.0}}, {"n": {"lte": 0}}, {"n": {"lte": -0.0}}):
        assert photos.count(where=where) == 2
    for where in ({"n": {"gt": -0.0}}, {"n": {"lt": 0.0}}):
        assert photos.count(where=where) == 0


def test_what_was_deleted_is_not_counted_by_a_negation(photos):
    photos.upsert([image("a", metadata={"n": 1}), image("b", metadata={"n": 2})])
    photos.upsert([image("a", metadata={"n": 3})])
    photos.delete(["b"])
    assert photos.count(where={"n": {"ne": 7}}) == 1
    assert photos.count(where={"not": {"n": {"gt": 7}}}) == 1
    assert photos.count(where={"or": [{"n": {"ne": 7}}, {"m": {"exists": False}}]}) == 1
