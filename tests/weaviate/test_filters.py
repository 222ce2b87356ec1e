"""Filters in Weaviate's own language."""

import pytest
from weaviate.classes.query import Filter

from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import NativeFilter
from jclip_connectors.testing.store_contract import ids_of, image, text, vector


def test_a_native_filter_is_handed_on_and_goes_along_with_a_modality(photos):
    photos.upsert([text("t", content="red car"), text("u", content="blue car"), image("i")])
    red = NativeFilter(Filter.by_property("content").equal("red"))
    assert ids_of(photos.search(vector(1), where=red)) == ["t"]
    assert ids_of(photos.scroll(where=red)) == ["t"]
    assert photos.count(where=red, modality="image") == 0
    photos.delete(where=red)
    assert photos.count() == 2


@pytest.mark.parametrize("value", [{"a": 1}, None, "x", Filter.by_property("content")])
def test_a_native_filter_of_another_database_is_refused_before_anything_is_asked(server, photos, value):
    server.calls.clear()
    calls = (photos.count, lambda where: photos.search(vector(1), where=where), photos.scroll)
    for call in (*calls, lambda where: photos.delete(where=where)):
        with pytest.raises(EmbedInputError, match="`where` is a NativeFilter of"):
            call(where=NativeFilter(value))
    assert server.calls == []


def test_a_native_filter_that_the_server_refuses_is_its_error(photos):
    with pytest.raises(StoreRequestError, match="no such prop with name 'colour'"):
        photos.count(where=NativeFilter(Filter.by_property("colour").equal("red")))
