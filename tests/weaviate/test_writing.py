"""Batches, their size, writes that fail in part, and deleting."""

import dataclasses

import numpy as np
import pytest

from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.testing.store_contract import ids_of, image, text, vector
from jclip_connectors.weaviate import operations as weaviate_flows
from jclip_connectors.weaviate.schema import size_bytes, to_object
from tests.weaviate.harness import INTERNAL


def test_half_of_a_batch_refused_is_told_by_position_and_the_rest_is_written(server, photos):
    server.refused |= {"b": "no room for b", "d": "no room for d"}
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image(name) for name in "abcd"])
    assert {position: str(error) for position, error in caught.value.failed.items()} == {
        1: "the record 'b' is not written: Weaviate refused it: no room for b",
        3: "the record 'd' is not written: Weaviate refused it: no room for d",
    }
    assert all(isinstance(error, StoreRequestError) for error in caught.value.failed.values())
    assert caught.value.kept == {0: None, 2: None}
    assert sorted(ids_of(photos.scroll())) == ["a", "c"]


def test_the_positions_are_those_of_the_callers_list_even_with_an_id_twice(server, photos):
    server.refused["a"] = "no room"
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image("a"), image("b"), image("a")])
    assert sorted(caught.value.failed) == [0, 2]
    assert sorted(caught.value.kept) == [1]


def test_a_batch_that_is_refused_whole_is_told_and_the_next_one_is_written(server, photos, monkeypatch):
    monkeypatch.setattr(weaviate_flows, "_BATCH", 2)
    server.refused |= {"a": "no room for a", "b": "no room for b"}
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image(name) for name in "abc"])
    assert sorted(caught.value.failed) == [0, 1]
    assert "no room for a" in str(caught.value.failed[0])
    assert ids_of(photos.scroll()) == ["c"]


def test_if_everything_is_refused_all_of_it_is_told(server, photos):
    server.refused["a"] = "no room"
    with pytest.raises(PartialFailureError, match=r"1 of 1 records failed: 0: .*: Weaviate refused it.*no room"):
        photos.upsert([image("a")])


def test_a_server_that_breaks_between_batches_leaves_nothing_untold(server, photos, monkeypatch):
    monkeypatch.setattr(weaviate_flows, "_BATCH", 2)
    server.fail("BatchObjects", INTERNAL, after=1, times=3, details="disk full")
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image(name) for name in "abcdef"])
    assert sorted(caught.value.failed) == [2, 3, 4, 5]
    untried = ["not tried" in str(caught.value.failed[position]) for position in (2, 3, 4, 5)]
    assert untried == [False, False, True, True]
    assert all(isinstance(error, StoreUnavailableError) for error in caught.value.failed.values())
    assert sorted(ids_of(photos.scroll())) == ["a", "b"]


def test_a_server_that_breaks_at_once_is_unavailable_and_nothing_is_written(server, photos):
    server.fail("BatchObjects", INTERNAL, times=3)
    with pytest.raises(StoreUnavailableError):
        photos.upsert([image(str(number)) for number in range(300)])
    assert photos.count() == 0


def test_many_records_go_in_batches_that_all_arrive(server, photos):
    photos.upsert([image(str(number), vector(1, number)) for number in range(450)])
    assert server.calls.count("BatchObjects") == 3
    assert photos.count() == 450


def test_a_record_that_no_message_can_hold_is_refused_before_anything_is_asked(server, photos, monkeypatch):
    monkeypatch.setattr(weaviate_flows, "_MESSAGE_BYTES", 5000)
    server.calls.clear()
    with pytest.raises(EmbedInputError, match=r"the record 'big' has [0-9]+ bytes"):
        photos.upsert([image("small"), text("big", content="x" * 5000)])
    assert server.calls == []


def test_the_size_of_an_object_is_about_what_goes_over_the_wire():
    record = image("a", vector(1), metadata={"note": "ä" * 5000, "n": 1}, tile_boxes=np.zeros((40, 4), int))
    record = dataclasses.replace(record, tile_embeddings=np.ones((40, 8), np.float32))
    expected = 4 * 8 * 41 + len(str([[0, 0, 0, 0]] * 40)) + 6 * 5000
    assert expected < size_bytes(to_object(record, tiled=True)) < expected + 1500


def test_a_filter_deletes_more_than_one_call_can(photos, server):
    photos.upsert([image(str(number), metadata={"odd": number % 2 == 1}) for number in range(40)])
    server.most_results = 15
    photos.delete(where={"odd": True})
    server.most_results = 10_000
    assert photos.count() == 20
    assert server.calls.count("BatchDelete") == 3


def test_what_cannot_be_deleted_is_told(photos, server):
    photos.upsert([image("a"), image("b")])
    server.refused["b"] = "locked"
    for delete in (lambda: photos.delete(["a", "b"]), lambda: photos.delete(where={})):
        with pytest.raises(StoreRequestError, match="could not delete all of"):
            delete()
    assert ids_of(photos.scroll()) == ["b"]
