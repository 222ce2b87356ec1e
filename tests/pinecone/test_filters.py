"""Filters in Pinecone's language."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinecone import Field

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.pinecone.filters import to_expression
from jclip_connectors.port import NativeFilter
from jclip_connectors.store_kit.bounds import filter_fields
from jclip_connectors.testing.store_contract import ids_of, image, text, vector
from tests.doubles import pinecone_rules
from tests.every_store.test_agreement import filters, metadata, values
from tests.pinecone.harness import requests_for, tiles


@given(where=filters, found=metadata)
def test_a_filter_in_pinecones_language_means_what_it_means_in_ours(where, found):
    item = pinecone_rules.VECTOR_RULES.stored(filter_fields(found))
    assert pinecone_rules.matches(item, to_expression(where)) == matches(parse_filter(where), found)


@pytest.mark.parametrize("bound", [1, 2, 3])
@pytest.mark.parametrize("op", ["gt", "gte", "lt", "lte"])
def test_the_contrary_of_a_comparison_matches_what_has_no_number_too(op, bound):
    where = {"not": {"n": {op: bound}}}
    cases: list[dict[str, Any]] = [{"n": value} for value in ("x", None, [], 1, 2, 3, [1, 3], [2, "x"])]
    for found in ({}, *cases):
        item = pinecone_rules.VECTOR_RULES.stored(filter_fields(found))
        assert pinecone_rules.matches(item, to_expression(where)) == matches(parse_filter(where), found)


@given(st.dictionaries(st.text(alphabet=st.characters()), values, max_size=3))
def test_the_fields_that_filters_ask_are_names_that_pinecone_takes(found):
    for name in filter_fields(found):
        assert not name.startswith(("$", "_"))
        assert len(name.encode()) <= 64


def test_fields_with_ordinary_names_can_be_asked_for_natively(store):
    store.upsert([image("old", metadata={"year": 1999}), text("new", metadata={"year": [2020, 2024]}), text("none")])
    for native in ({"max_year": {"$gte": 2024}}, Field("max_year").gte(2024)):
        where = NativeFilter(native)
        assert ids_of(store.search(vector(1), where=where)) == ["new"]
        assert ids_of(store.scroll(where=where)) == ["new"]
        assert store.count(where=where) == 1
        assert store.count(where=where, modality="image") == 0
    store.delete(where=NativeFilter({"record_id": {"$in": ["old", "none"]}}))
    assert ids_of(store.scroll()) == ["new"]


@pytest.mark.parametrize("value", [None, {}, [], "year > 2020", 7])
def test_a_native_filter_that_pinecone_cannot_take_is_refused_before_any_request(server, store, value):
    def calls():
        for call in (
            lambda: store.search(vector(1), where=NativeFilter(value)),
            lambda: store.count(where=NativeFilter(value)),
            lambda: store.delete(where=NativeFilter(value)),
        ):
            with pytest.raises(EmbedInputError, match="NativeFilter"):
                call()

    assert requests_for(server, calls) == []


def test_a_native_filter_reaches_tiles(tiled):
    tiled.upsert([image("a", uri="a.png", **tiles((1,))), image("b", uri="b.png", **tiles((1,)))])
    where = NativeFilter({"uri": {"$eq": "b.png"}})
    assert ids_of(tiled.search(vector(1), where=where, tiles=True)) == ["b"]


def test_more_values_than_pinecone_takes_are_refused(store):
    with pytest.raises(EmbedInputError, match="10001 values for 'n', and Pinecone accepts 10000"):
        store.count(where={"n": {"in": list(range(10_001))}})
    assert store.count(where={"n": {"in": list(range(10_000))}}) == 0
