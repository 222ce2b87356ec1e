"""The Weaviate store, on a double of the server over real sockets."""

import asyncio
import dataclasses
import re
import threading
import types
import uuid

import grpc  # type: ignore[import-untyped]  # no stubs
import numpy as np
import pytest
import weaviate
from hypothesis import given
from hypothesis import strategies as st
from weaviate.classes.config import Configure
from weaviate.classes.query import Filter

from core_encoder.tiling import Box, Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import (
    CollectionMismatchError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.port import NativeFilter, record_uuid
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import PLAIN, TILED, StoreContract, ids_of, image, text, vector
from jclip_connectors.weaviate import operations as weaviate_flows
from jclip_connectors.weaviate.schema import batches, number_names, read_description, size_bytes, to_object
from jclip_connectors.weaviate.store import AsyncWeaviateStore, Hybrid, WeaviateStore, stored_fingerprint
from tests.doubles.weaviate_collections import PROPERTY_NAME
from tests.doubles.weaviate_server import WeaviateDouble

KEY = "secret-3f1c"
FOLDER = dataclasses.replace(PLAIN, dimensions=None)  # like a model in a folder: the length is not known
UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
def server():
    with WeaviateDouble() as server:
        yield server
        assert server.surprises == []


@pytest.fixture
def client(server):
    with server.connect() as client:
        yield client


@pytest.fixture
def photos(client):
    return WeaviateStore.open(client, "Photos", PLAIN)


@pytest.fixture
def tiled(client):
    return WeaviateStore.open(client, "Tiled", TILED)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that the client and we wait between tries, which nobody waits here."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    retries = types.SimpleNamespace(sleep=slept.append)
    monkeypatch.setattr("weaviate.retry.time", retries)
    monkeypatch.setattr("weaviate.retry.asyncio", types.SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("jclip_connectors.store_kit.retry._FIRST_WAIT_S", 0.0)
    return slept


def stored_index(server, name, vector_name="full"):
    return server.collections[name].definition["vectorConfig"][vector_name]["vectorIndexConfig"]


class TestAsyncWeaviateStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        with WeaviateDouble() as server, EventLoop() as loop:
            client = weaviate.use_async_with_custom(**server.address())
            loop.run(client.connect())

            def open_store(config):
                if config not in opened:
                    dimensions = 8 if config.embedding_dim is None else None
                    opening = AsyncWeaviateStore.open(client, f"Test{len(opened)}", config, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(client.close())
            assert server.surprises == []


# --- opening


@pytest.mark.parametrize(
    ("config", "field", "stored", "now"),
    [
        (dataclasses.replace(PLAIN, model="other"), "model", "contract", "'other'"),
        (dataclasses.replace(PLAIN, dimensions=6), "dimensions", 8, 6),
        (dataclasses.replace(PLAIN, tiling=Tiling(max_tiles=4)), "tiling", None, "'.*max_tiles=4"),
        (dataclasses.replace(PLAIN, revision="2"), "revision", "1", "'2'"),
    ],
)
def test_a_collection_of_another_configuration_is_refused_with_both_values(photos, client, config, field, stored, now):
    assert photos.count() == 0
    with pytest.raises(CollectionMismatchError, match=f"`{field}` {stored!r} \\(now {now}"):
        WeaviateStore.open(client, "Photos", config)


def test_the_same_configuration_opens_it_again_with_what_it_holds(photos, client):
    photos.upsert([image("a", metadata={"n": 1})])
    again = WeaviateStore.open(client, "Photos", PLAIN)
    assert ids_of(again.scroll(where={"n": {"gt": 0}})) == ["a"]


def test_the_fingerprint_can_be_read_without_a_configuration(photos, client):
    assert stored_fingerprint(client, "Photos") == photos.fingerprint == PLAIN.fingerprint()
    assert stored_fingerprint(client, "Nothing") is None


FOREIGN = [
    None,
    "photos of the sea",
    "{}",
    "7",
    '{"jclip": 1}',
    '{"jclip": {"fingerprint": {}}}',
    '{"jclip": {"fingerprint": 1, "dimensions": 8}}',
    '{"jclip": {"fingerprint": {}, "dimensions": 8, "later": 1}}',
]


@pytest.mark.parametrize("description", FOREIGN)
def test_a_collection_of_somebody_else_is_refused(client, description):
    client.collections.create(
        "Theirs", description=description, vector_config=[Configure.Vectors.self_provided(name="full")]
    )
    with pytest.raises(StoreRequestError, match="'Theirs' exists, and it is not one of ours"):
        WeaviateStore.open(client, "Theirs", PLAIN)
    with pytest.raises(StoreRequestError, match="not one of ours"):
        stored_fingerprint(client, "Theirs")
    assert read_description(description) is None


@pytest.mark.parametrize("name", ["photos", "", "Pho-tos", "Phötos", "1Photos", "P" * 256, None, "Photos\n"])
def test_a_name_that_weaviate_refuses_is_refused_before_anything_is_asked(server, client, name):
    server.calls.clear()
    for opening in (lambda: WeaviateStore.open(client, name, PLAIN), lambda: stored_fingerprint(client, name)):
        with pytest.raises(EmbedInputError, match=r"`collection_name` is .*begin with a capital"):
            opening()
    assert server.calls == []


@pytest.mark.parametrize("quantizer", ["rq", "bq", "sq", "pq", None])
def test_a_new_collection_compresses_as_it_is_told_and_not_otherwise(server, client, quantizer):
    WeaviateStore.open(client, "Photos", TILED, quantizer=quantizer)
    for name, asked in (("full", quantizer), ("tiles", None)):
        index = stored_index(server, "Photos", name)
        assert [kind for kind in ("rq", "bq", "sq", "pq") if index[kind]["enabled"]] == ([asked] if asked else [])
    assert stored_index(server, "Photos")["distance"] == "cosine"


@pytest.mark.parametrize("muvera", [True, False])
def test_muvera_is_for_tiles_and_as_it_is_told(server, client, muvera):
    WeaviateStore.open(client, "Tiled", TILED, muvera=muvera)
    index = stored_index(server, "Tiled", "tiles")
    assert index["multivector"]["enabled"]
    assert index["multivector"]["muvera"]["enabled"] is muvera


@pytest.mark.parametrize(
    ("config", "options", "named"),
    [
        (PLAIN, {"quantizer": "zip"}, "`quantizer` is 'zip'; use one of"),
        (PLAIN, {"quantizer": True}, "`quantizer` is True"),
        (PLAIN, {"muvera": True}, "`muvera`"),
        (FOLDER, {}, "give `dimensions`"),
        (FOLDER, {"dimensions": 0}, "`dimensions` is 0; use an int from 1 to 65535"),
        (FOLDER, {"dimensions": True}, "`dimensions` is True"),
        (PLAIN, {"dimensions": 9}, "`dimensions` is 9, but the configuration has 8"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_asked(server, client, config, options, named):
    server.calls.clear()
    with pytest.raises(EmbedInputError, match=named):
        WeaviateStore.open(client, "Photos", config, **options)
    assert server.calls == []


def test_vectors_of_another_length_than_the_collection_has_are_refused(client):
    WeaviateStore.open(client, "Photos", FOLDER, dimensions=8)
    with pytest.raises(EmbedInputError, match="`dimensions` is 9, but the collection 'Photos' was made with 8"):
        WeaviateStore.open(client, "Photos", FOLDER, dimensions=9)


def test_a_collection_that_exists_keeps_its_options_and_is_not_opened_with_others(client):
    WeaviateStore.open(client, "Tiled", TILED, quantizer="rq", muvera=True)
    WeaviateStore.open(client, "Tiled", TILED)
    WeaviateStore.open(client, "Tiled", TILED, quantizer="rq", muvera=True)
    with pytest.raises(EmbedInputError, match="`quantizer` is 'bq', but the collection 'Tiled' was made with 'rq'"):
        WeaviateStore.open(client, "Tiled", TILED, quantizer="bq")
    WeaviateStore.open(client, "Plain", TILED)
    with pytest.raises(EmbedInputError, match="`muvera` is True, but the collection 'Plain' was made with False"):
        WeaviateStore.open(client, "Plain", TILED, muvera=True)


@pytest.mark.parametrize("version", ["1.32.5", "1.27.0"])
def test_a_server_that_is_too_old_is_refused(version):
    refusal = pytest.raises(StoreRequestError, match=f"{re.escape(version)}.*use 1.33 or later")
    with WeaviateDouble(version=version) as server, server.connect() as client, refusal:
        WeaviateStore.open(client, "Photos", PLAIN)


def at_once(*works):
    results, errors = [], []

    def run(work):
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 (told to the test)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, errors


def test_two_that_make_one_collection_at_once_both_have_it(server, client):
    server.gather("GET /v1/schema/Photos", 2)  # both see that there is none
    results, errors = at_once(*[lambda: WeaviateStore.open(client, "Photos", PLAIN)] * 2)
    assert errors == []
    assert server.calls.count("POST /v1/schema") == 2
    results[0].upsert([image("a")])
    assert ids_of(results[1].scroll()) == ["a"]


def test_two_that_make_one_collection_in_two_ways_do_not_share_it(server, client):
    other = dataclasses.replace(PLAIN, revision="2")
    server.gather("GET /v1/schema/Photos", 2)
    results, errors = at_once(
        lambda: WeaviateStore.open(client, "Photos", PLAIN), lambda: WeaviateStore.open(client, "Photos", other)
    )
    assert len(results) == 1
    assert [type(error) for error in errors] == [CollectionMismatchError]


# --- numbers


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
    assert server.calls == ["BatchObjects"]


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


# --- writing


def test_half_of_a_batch_refused_is_told_by_position_and_the_rest_is_written(server, photos):
    server.refused |= {"b": "no room for b", "d": "no room for d"}
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image(name) for name in "abcd"])
    assert {position: str(error) for position, error in caught.value.failed.items()} == {
        1: "the record 'b' is not written: Weaviate refuses it: no room for b",
        3: "the record 'd' is not written: Weaviate refuses it: no room for d",
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
    with pytest.raises(PartialFailureError, match=r"1 of 1 records failed: 0: .*: Weaviate refuses it.*no room"):
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


@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(1, 5), st.integers(1000, 5000))
def test_batches_follow_each_other_and_stay_within_their_limits(lengths, count, max_bytes):
    objects = [to_object(text(str(i), content="x" * length), tiled=False) for i, length in enumerate(lengths)]
    ranges = batches(objects, count=count, max_bytes=max_bytes)
    assert [position for start, end in ranges for position in range(start, end)] == list(range(len(objects)))
    for start, end in ranges:
        assert end - start <= count
        assert end - start == 1 or sum(map(size_bytes, objects[start:end])) <= max_bytes


def test_the_size_of_an_object_is_about_what_goes_over_the_wire():
    record = image("a", vector(1), metadata={"note": "ä" * 5000, "n": 1}, tile_boxes=np.zeros((40, 4), int))
    record = dataclasses.replace(record, tile_embeddings=np.ones((40, 8), np.float32))
    expected = 4 * 8 * 41 + len(str([[0, 0, 0, 0]] * 40)) + 6 * 5000
    assert expected < size_bytes(to_object(record, tiled=True)) < expected + 1500


# --- reading


def test_a_whole_collection_is_read_by_a_cursor_in_pages(server, photos):
    photos.upsert([image(str(number), vector(1, number)) for number in range(200)])
    server.calls.clear()
    assert sorted(ids_of(photos.scroll()), key=int) == [str(number) for number in range(200)]
    assert server.calls == ["Search"] * 5  # the last one is empty


def test_a_filtered_collection_is_read_in_parts_without_loss_whatever_is_deleted_meanwhile(photos):
    photos.upsert([image(str(number), vector(1, number), metadata={"n": number}) for number in range(300)])
    records = photos.scroll(where={"n": {"lt": 200}})
    first = [next(records).record_id for _ in range(10)]
    photos.delete(first)
    photos.upsert([image(f"new {number}", metadata={"n": -number}) for number in range(40)])
    found = first + ids_of(records)
    assert len(found) == len(set(found))
    assert {str(number) for number in range(200)} <= set(found)


def test_a_record_between_two_parts_is_in_one_of_them(server, photos):
    photos.upsert([image(str(number), metadata={"n": 1}) for number in range(128)])
    for record_id, position in (("0", 0.0), ("1", 0.5), ("2", 0.5), ("3", 1 - 2.0**-48)):
        stored = server.collections["Photos"].objects[record_uuid(record_id)]
        stored.properties["position"] = position
    assert sorted(ids_of(photos.scroll(where={"n": 1})), key=int) == [str(number) for number in range(128)]
    assert all(0 <= stored.properties["position"] < 1 for stored in server.collections["Photos"].objects.values())


def test_more_results_than_a_query_gives_are_refused_and_not_cut(photos, server, monkeypatch):
    monkeypatch.setattr(weaviate_flows, "_MOST_RESULTS", 5)
    server.most_results = 5
    photos.upsert([image(str(number), vector(1, number)) for number in range(5)])
    assert len(photos.search(vector(1), limit=6)) == 5
    photos.upsert([text("6th")])
    assert len(photos.search(vector(1), limit=6, modality="image")) == 5
    with pytest.raises(EmbedInputError, match="`limit` is 6: Weaviate gives no more than 5"):
        photos.search(vector(1), limit=6)


def test_a_server_that_gives_less_says_so(photos, server):
    server.most_results = 5
    with pytest.raises(StoreRequestError, match="query maximum results exceeded"):
        photos.search(vector(1), limit=6)


def test_a_part_that_outgrows_a_query_is_no_silent_loss(photos, monkeypatch):
    photos.upsert([image(str(number), metadata={"n": 1}) for number in range(12)])
    monkeypatch.setattr(weaviate_flows, "_PART", 5)
    with pytest.raises(StoreRequestError, match="read it again"):
        list(photos.scroll(where={"n": 1}))


def test_a_search_without_conditions_sends_none(photos, monkeypatch):
    monkeypatch.setattr("tests.doubles.weaviate_server.matching", None)  # whoever filters fails
    assert photos.search(vector(1)) == []
    assert photos.count() == 0


def test_get_goes_in_pages(photos):
    photos.upsert([image(str(number), vector(1, number)) for number in range(150)])
    wanted = [str(number) for number in reversed(range(150))]
    assert ids_of(photos.get(wanted)) == wanted


def test_the_id_of_an_object_is_the_uuid_of_the_record(client, photos):
    photos.upsert([image("any string")])
    (item,) = client.collections.use("Photos").query.fetch_objects().objects
    assert uuid.UUID(int=item.uuid.int) == record_uuid("any string")


# --- deleting


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
        with pytest.raises(StoreRequestError, match="could not delete 1 of"):
            delete()
    assert ids_of(photos.scroll()) == ["b"]


# --- filters in Weaviate's own language


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


# --- words and vectors


@pytest.fixture
def cars(photos):
    photos.upsert(
        [
            text("boat", vector(1), content="a boat"),
            text("red", vector(0.6, 0.8), content="a red car", metadata={"n": 1}),
            image("picture", vector(0, 1), uri="car.png"),
        ]
    )
    return photos


def test_hybrid_goes_from_words_to_the_vector(cars):
    for alpha, expected in ((0, ["red"]), (0.5, ["red", "boat", "picture"]), (1, ["boat", "red", "picture"])):
        assert ids_of(cars.search(vector(1), hybrid=Hybrid(text="Car!", alpha=alpha))) == expected
    first = cars.search(vector(1), limit=1, hybrid=Hybrid(text="car", alpha=0.5))[0]
    assert first.score == pytest.approx(0.8)


def test_hybrid_takes_filters_and_a_modality(cars):
    words = Hybrid(text="car boat", alpha=0.5)
    assert ids_of(cars.search(vector(1), where={"n": {"gte": 1}}, hybrid=words)) == ["red"]
    assert ids_of(cars.search(vector(1), modality="image", hybrid=words)) == ["picture"]


def test_hybrid_tells_the_box_of_the_nearest_tile(tiled):
    boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
    tiles = np.stack([vector(0, 1), vector(1)])
    tiled.upsert([image("a", tile_embeddings=tiles, tile_boxes=boxes), text("b", vector(0, 0, 1), content="car")])
    hits = tiled.search(vector(1), tiles=True, hybrid=Hybrid(text="car", alpha=0.9))
    assert [(hit.record_id, hit.box) for hit in hits] == [("a", Box(5, 0, 9, 9)), ("b", None)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"text": ""}, "`text`"),
        ({"text": "  "}, "`text`"),
        ({"text": 7}, "`text`"),
        ({"text": "a", "alpha": 1.1}, "`alpha`"),
        ({"text": "a", "alpha": -0.1}, "`alpha`"),
        ({"text": "a", "alpha": float("nan")}, "`alpha`"),
        ({"text": "a", "alpha": True}, "`alpha`"),
        ({"text": "a", "alpha": "1"}, "`alpha`"),
    ],
)
def test_a_bad_hybrid_is_refused_by_name(arguments, named):
    with pytest.raises(EmbedInputError, match=named):
        Hybrid(**arguments)


def test_words_alone_are_no_hybrid(photos):
    with pytest.raises(EmbedInputError, match="`hybrid` is str; use a `Hybrid`"):
        photos.search(vector(1), hybrid="red car")


def test_many_tiles_of_a_record_are_one_score_that_of_the_nearest(tiled):
    tiles = np.stack([vector(0.6, 0.8), vector(0, 1), vector(0.8, 0.6)])
    first = image("a", tile_embeddings=tiles, tile_boxes=np.arange(12).reshape(3, 4))
    tiled.upsert([first, image("b", vector(0.7, 0.7))])
    first, second = tiled.search(vector(1), tiles=True)
    assert (first.record_id, first.box) == ("a", Box(8, 9, 10, 11))
    assert (first.score, second.score) == pytest.approx((0.8, 0.5**0.5))


# --- a server that is away, slow, busy or broken

CALLS = {
    "search": ("Search", lambda store: store.search(vector(1))),
    "get": ("Search", lambda store: store.get(["a"])),
    "scroll": ("Search", lambda store: store.scroll()),
    "count": ("Aggregate", lambda store: store.count()),
    "delete": ("BatchDelete", lambda store: store.delete(["a"])),
    "upsert": ("BatchObjects", lambda store: store.upsert([image("a")])),
}
every_call = pytest.mark.parametrize(("method", "call"), CALLS.values(), ids=CALLS)


@every_call
@pytest.mark.parametrize("code", [INTERNAL, EXHAUSTED])
def test_a_busy_server_is_asked_again_and_then_answers(server, photos, method, call, code):
    server.fail(method, code, times=2)
    server.calls.clear()
    call(photos)
    assert server.calls == [method] * 3


@every_call
def test_a_server_that_stays_busy_is_unavailable_after_three_tries(server, photos, method, call):
    server.fail(method, EXHAUSTED, times=10, details="too many requests")
    server.calls.clear()
    with pytest.raises(StoreUnavailableError, match=r"overloaded or broken .RESOURCE_EXHAUSTED.: too many requests"):
        call(photos)
    assert server.calls == [method] * 3


@every_call
def test_what_the_client_has_tried_often_enough_is_not_tried_again(server, photos, method, call, waits):
    server.fail(method, UNAVAILABLE, times=100)
    server.calls.clear()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        call(photos)
    assert len(server.calls) <= 6
    assert len(waits) <= 6


def test_a_server_that_is_away_for_a_moment_is_waited_for_by_the_client(server, photos, waits):
    server.fail("Search", UNAVAILABLE, times=2)
    assert photos.search(vector(1)) == []
    assert waits == [1, 2]


@every_call
def test_a_slow_server_is_unavailable_once_and_not_thrice(server, method, call):
    server.delay(method, 20)
    with server.connect(timeout_s=1) as hasty:
        store = WeaviateStore.open(hasty, "Photos", PLAIN)
        server.calls.clear()
        with pytest.raises(StoreUnavailableError, match="not answered in time"):
            call(store)
    assert server.calls == [method]


@pytest.mark.parametrize("call", [call for _, call in CALLS.values()], ids=CALLS)
def test_a_server_that_is_gone_is_unavailable(call):
    with WeaviateDouble() as server, server.connect() as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        server.__exit__()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            call(store)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            WeaviateStore.open(client, "Photos", PLAIN)
        server.__enter__()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_when_a_collection_is_opened(server, client, status):
    for call in ("GET /v1/meta", "GET /v1/schema/Photos", "POST /v1/schema"):
        server.fail(call, status, times=2)
    assert WeaviateStore.open(client, "Photos", PLAIN).count() == 0


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy_cannot_be_opened(server, client, status):
    server.fail("GET /v1/meta", status, times=3, details="slow down")
    with pytest.raises(StoreUnavailableError, match=f"HTTP {status}.*slow down"):
        WeaviateStore.open(client, "Photos", PLAIN)


def test_a_slow_server_cannot_be_opened(server):
    with server.connect(timeout_s=0.5) as hasty:
        server.delay("GET /v1/meta", 20)
        with pytest.raises(StoreUnavailableError, match="not answered in time"):
            WeaviateStore.open(hasty, "Photos", PLAIN)


def test_a_message_that_is_too_long_is_refused_and_not_tried_again(server, photos):
    details = "Sent message larger than max (120 vs. 100)"
    server.fail("BatchObjects", EXHAUSTED, times=3, details=details)
    server.calls.clear()
    with pytest.raises(StoreRequestError, match="too long"):
        photos.upsert([image("a")])
    assert server.calls == ["BatchObjects"]


def test_what_the_server_refuses_is_not_tried_again(server, photos):
    server.fail("Search", grpc.StatusCode.UNKNOWN, times=3, details="shard is read only")
    server.calls.clear()
    with pytest.raises(StoreRequestError, match=r"refuses this .UNKNOWN.: shard is read only"):
        photos.search(vector(1))
    assert server.calls == ["Search"]


def test_a_client_that_is_closed_is_named(server):
    with server.connect() as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
    for call in (store.count, lambda: store.upsert([image("a")]), lambda: WeaviateStore.open(client, "Photos", PLAIN)):
        with pytest.raises(StoreRequestError, match="not connected"):
            call()


# --- keys


@pytest.fixture
def guarded():
    with WeaviateDouble(api_key=KEY) as server:
        yield server
        assert server.surprises == []


def test_the_right_key_opens_everything(guarded):
    with guarded.connect(api_key=KEY) as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        store.upsert([image("a")])
        assert ids_of(store.search(vector(1))) == ["a"]
        assert KEY not in repr(store) + repr(vars(store)) + str(store.fingerprint)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_an_error_without_the_key(guarded, caplog, status):
    caplog.set_level(0)
    with guarded.connect(api_key=KEY) as client:
        guarded.fail("GET /v1/meta", status)
        refusal = f"refuses the credentials .HTTP {status}.: check the API key"
        with pytest.raises(StoreRequestError, match=refusal) as caught:
            WeaviateStore.open(client, "Photos", PLAIN)
    assert KEY not in str(caught.value) + repr(caught.value) + caplog.text


@every_call
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
def test_a_key_that_is_withdrawn_is_an_error_without_the_key(guarded, caplog, method, call, code):
    caplog.set_level(0)
    with guarded.connect(api_key=KEY) as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        guarded.fail(method, code, times=3)
        guarded.calls.clear()
        with pytest.raises(StoreRequestError, match=f"refuses the credentials .{code.name}.") as caught:
            call(store)
    assert guarded.calls == [method]
    assert KEY not in str(caught.value) + repr(caught.value) + caplog.text


# --- asyncio


@pytest.fixture
async def async_photos(server):
    async with server.connect_async() as client:
        yield await AsyncWeaviateStore.open(client, "Photos", PLAIN)


async def test_the_loop_goes_on_while_the_server_thinks(server, async_photos):
    server.gather("Search", 2)
    search = asyncio.ensure_future(async_photos.search(vector(1)))
    while "Search" not in server.calls:
        await asyncio.sleep(0.01)
    assert not search.done()
    assert await async_photos.search(vector(1)) == []  # for which the server waits before it answers the first
    assert await search == []


async def test_many_at_once_share_one_client(async_photos):
    await asyncio.gather(*(async_photos.upsert([image(str(number), metadata={"n": number})]) for number in range(20)))
    assert await async_photos.count(where={"n": {"gte": 0}}) == 20


async def test_hybrid_works_without_blocking_too(async_photos):
    await async_photos.upsert([text("a", content="red car"), text("b", content="boat")])
    hits = await async_photos.search(vector(1), hybrid=Hybrid(text="boat", alpha=0.0))
    assert ids_of(hits) == ["b"]


async def test_opening_with_another_configuration_is_refused_there_too(server, async_photos):
    async with server.connect_async() as client:
        with pytest.raises(CollectionMismatchError, match="`model` 'contract'"):
            await AsyncWeaviateStore.open(client, "Photos", dataclasses.replace(PLAIN, model="other"))
    assert await async_photos.count() == 0


@pytest.mark.parametrize(("code", "tries"), [(EXHAUSTED, 3), (UNAVAILABLE, 6), (grpc.StatusCode.UNKNOWN, 1)])
async def test_errors_are_the_same_without_blocking(server, async_photos, code, tries):
    server.fail("Search", code, times=10)
    server.calls.clear()
    kind = StoreRequestError if code is grpc.StatusCode.UNKNOWN else StoreUnavailableError
    with pytest.raises(kind):
        await async_photos.search(vector(1))
    assert server.calls == ["Search"] * tries


async def test_half_a_batch_refused_is_told_without_blocking(server, async_photos):
    server.refused["b"] = "no room"
    with pytest.raises(PartialFailureError) as caught:
        await async_photos.upsert([image("a"), image("b")])
    assert sorted(caught.value.failed) == [1]
