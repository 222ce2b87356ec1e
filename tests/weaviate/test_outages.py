"""A server that is killed while it writes, accepts no writes, loses the collection, or has too much to answer."""

import dataclasses
import logging

import grpc  # type: ignore[import-untyped]  # no stubs
import numpy as np
import pytest

from jclip_connectors.errors import (
    CollectionMismatchError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.testing.store_contract import PLAIN, ids_of, image, text, vector
from jclip_connectors.weaviate import operations as weaviate_flows
from jclip_connectors.weaviate.store import AsyncWeaviateStore, WeaviateStore
from tests.weaviate.harness import INTERNAL, UNAVAILABLE


def found(store):
    return sorted(ids_of(store.search(vector(1), limit=100)))


def test_a_record_whose_write_has_failed_is_not_there_and_is_deleted_before_it_is_written_again(server, photos):
    server.kill_during("BatchObjects", grpc.StatusCode.UNKNOWN)
    with pytest.raises(StoreRequestError):
        photos.upsert([image("a")])
    assert photos.get(["a"]) == []
    photos.upsert([image("a")])
    assert found(photos) == ids_of(photos.get(["a"])) == ["a"]


def test_a_record_that_was_refused_and_stored_all_the_same_is_indexed_when_it_is_written_again(server, photos):
    collection = server.collections["Photos"]
    photos.upsert([image("b", metadata={"year": 2020})])
    collection.unbuilt = {name for name in photos._flows._definition.properties if name.startswith("least")}
    with pytest.raises(PartialFailureError, match="no bucket rangeable"):
        photos.upsert([image("a", metadata={"year": 1999})])
    collection.restart()
    photos.upsert([image("a", metadata={"year": 1999})])
    assert "a" in found(photos)
    assert photos.count(where={"year": {"lt": 2000}}) == 1
    assert server.calls.count("BatchDelete") >= 1


@pytest.mark.parametrize("code", [INTERNAL, UNAVAILABLE])
def test_a_write_that_is_tried_again_brings_back_what_the_index_has_lost(server, photos, code):
    """INTERNAL is retried by us, UNAVAILABLE by the client itself."""
    server.kill_during("BatchObjects", code)
    photos.upsert([image(name) for name in "abc"])
    assert found(photos) == ["a", "b", "c"]


def test_a_retry_that_the_client_does_not_log_is_noticed_by_its_time(server, photos, monkeypatch):
    monkeypatch.setattr("jclip_connectors.weaviate.client_log._FIRST_WAIT_S", 0.0)
    logger = logging.getLogger("weaviate-client")
    level = logger.level
    logger.setLevel(logging.WARNING)
    server.kill_during("BatchObjects", UNAVAILABLE)
    try:
        photos.upsert([image(name) for name in "abc"])
    finally:
        logger.setLevel(level)
    assert found(photos) == ["a", "b", "c"]


def test_what_was_acknowledged_shortly_before_an_outage_is_verified_after_it(server, photos, caplog):
    photos.upsert([image("early")])
    server.lose("Photos", ["early"])
    server.fail("BatchObjects", UNAVAILABLE, times=20)
    with pytest.raises(StoreUnavailableError):
        photos.upsert([image("late")])
    server._faults.clear()
    photos.upsert([image("late")])
    assert found(photos) == ["early", "late"]
    assert "'Photos': 1 records were lost from the vector index, and are written again" in caplog.text


def test_a_failed_verification_is_made_up_for(server, photos):
    photos.upsert([image("early")])
    server.lose("Photos", ["early"])
    server.fail("BatchObjects", UNAVAILABLE, times=20)
    with pytest.raises(StoreUnavailableError):
        photos.upsert([image("late")])
    server._faults.clear()
    server.fail("Search", INTERNAL, times=3)
    with pytest.raises(StoreUnavailableError):
        photos.upsert([image("late")])
    photos.upsert([image("late")])
    assert found(photos) == ["early", "late"]


def tiles_of(*rows):
    return {"tile_embeddings": np.stack(rows), "tile_boxes": np.zeros((len(rows), 4), int)}


def test_verify_names_what_the_index_has_lost_and_brings_it_back(server, tiled):
    tiled.upsert(
        [image(f"{number}", vector(1, number), **tiles_of(vector(number, 1), vector(1))) for number in range(9)]
    )
    tiled.upsert([text("t")])
    server.lose("Tiled", ["3", "t"])
    report = tiled.verify()
    assert (report.counted, report.found, sorted(report.missing), report.repaired) == (10, 8, ["3", "t"], ())
    report = tiled.verify(repair=True)
    assert sorted(report.repaired) == sorted(report.missing) == ["3", "t"]
    assert dataclasses.astuple(tiled.verify()) == (10, 10, (), ())


async def test_verify_works_without_blocking(server):
    async with server.connect_async() as client:
        store = await AsyncWeaviateStore.open(client, "Photos", PLAIN)
        await store.upsert([image("a"), image("b")])
        server.lose("Photos", ["a"])
        assert (await store.verify(repair=True)).repaired == ("a",)
        server.kill_during("BatchObjects", INTERNAL)
        await store.upsert([image("c", vector(0, 1))])
        server.kill_during("BatchObjects", UNAVAILABLE)
        await store.upsert([image("d", vector(0, 0, 1))])
        assert (await store.verify()).missing == ()


def test_a_repair_that_cannot_write_names_what_it_has_deleted(server, photos):
    photos.upsert([image("a"), image("b")])
    server.lose("Photos", ["b"])
    server.fail("BatchObjects", INTERNAL, times=3)
    with pytest.raises(StoreUnavailableError, match=r"the records \['b'\] were deleted and could not be written again"):
        photos.verify(repair=True)


@pytest.mark.parametrize("auto_schema", [True, False])
def test_a_collection_that_was_deleted_is_noticed_before_the_next_write(server, client, photos, auto_schema):
    server.auto_schema = auto_schema
    photos.upsert([image("a", metadata={"n": 1})])
    client.collections.delete("Photos")
    for write in (lambda: photos.upsert([image("b", metadata={"n": 2})]), lambda: photos.delete(["a"])):
        with pytest.raises(StoreRequestError, match="the collection 'Photos' was deleted while it was open"):
            write()
    assert not client.collections.exists("Photos")


def test_a_collection_that_was_made_again_with_another_model_is_not_written_to(client, photos):
    client.collections.delete("Photos")
    other = dataclasses.replace(PLAIN, revision="2")
    again = WeaviateStore.open(client, "Photos", other)
    again.upsert([image("theirs")])
    for write in (lambda: photos.upsert([image("ours")]), lambda: photos.delete(where={})):
        with pytest.raises(CollectionMismatchError, match=r"`revision` '2' .now '1'."):
            write()
    assert ids_of(again.scroll()) == ["theirs"]


def test_a_collection_that_was_made_again_with_another_length_is_not_written_to(client):
    folder = dataclasses.replace(PLAIN, dimensions=None)
    store = WeaviateStore.open(client, "Photos", folder, dimensions=8)
    client.collections.delete("Photos")
    WeaviateStore.open(client, "Photos", folder, dimensions=9)
    with pytest.raises(StoreRequestError, match="made again, for vectors of 9 values instead of 8"):
        store.upsert([image("a")])


def test_a_collection_that_was_made_again_just_so_gets_the_properties_of_numbers_again(client, photos):
    photos.upsert([image("a", metadata={"n": 1})])
    client.collections.delete("Photos")
    WeaviateStore.open(client, "Photos", PLAIN)
    photos.upsert([image("a", metadata={"n": 1})])
    assert photos.count(where={"n": {"gt": 0}}) == 1


def test_a_collection_that_is_made_again_during_a_long_write_is_noticed(server, photos, monkeypatch):
    monkeypatch.setattr(weaviate_flows, "_BATCH", 2)
    monkeypatch.setattr("jclip_connectors.weaviate.definition._FRESH_S", 0.0)
    batches = []

    def begin(call, _):
        batches.append(call)
        if batches.count("BatchObjects") == 1 and call == "BatchObjects":
            server.collections["Photos"].definition["description"] = "another program's"

    monkeypatch.setattr(server, "begin", begin)
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image(name) for name in "abcd"])
    assert sorted(caught.value.failed) == [2, 3]
    assert "another program made the collection" in str(caught.value.failed[2])


def test_a_server_that_accepts_no_writes_gets_no_new_property(server, photos):
    server.collections["Photos"].read_only = "resource pressure"
    with pytest.raises(StoreUnavailableError, match="read-only"):
        photos.upsert([image("a", metadata={"year": 1})])
    server.collections["Photos"].read_only = None
    photos.upsert([image("a", metadata={"year": 1})])
    assert photos.count(where={"year": {"gte": 1}}) == 1


PASSING = ['resolve node name "node1" to host', "store is read-only due to: resource pressure"]


@pytest.mark.parametrize("reason", PASSING)
def test_a_refusal_that_passes_says_that_a_retry_may_help(server, photos, reason):
    server.refused["b"] = reason
    with pytest.raises(PartialFailureError) as caught:
        photos.upsert([image("a"), image("b")])
    assert isinstance(caught.value.failed[1], StoreUnavailableError)
    with pytest.raises(StoreUnavailableError, match=reason[:12]):
        photos.upsert([image("b")])
    server.fail("Search", grpc.StatusCode.UNKNOWN, times=3, details=f"search: {reason}")
    with pytest.raises(StoreUnavailableError):
        photos.search(vector(1))
    assert photos.search(vector(1)) != []


def test_a_deletion_that_the_server_does_not_accept_now_may_be_tried_again(server, photos):
    photos.upsert([image("a"), image("b")])
    server.collections["Photos"].read_only = "resource pressure"
    for delete in (lambda: photos.delete(["a", "b"]), lambda: photos.delete(where={})):
        with pytest.raises(StoreUnavailableError, match="read-only"):
            delete()


def test_pages_that_are_too_large_for_a_message_are_halved(server, tiled):
    records = [
        text(f"{number:02}", vector(1, number), content="x" * 3000, metadata={"n": number}) for number in range(40)
    ]
    tiled.upsert(records)
    server.message_bytes = 20_000
    names = [record.record_id for record in records]
    assert ids_of(tiled.get(names)) == names
    assert sorted(ids_of(tiled.scroll())) == names
    assert sorted(ids_of(tiled.scroll(where={"n": {"gte": 10}}))) == names[10:]
    assert ids_of(tiled.search(vector(1), limit=30)) == names[:30]
    assert len(tiled.search(vector(1), limit=30, tiles=True)) == 30


def test_a_page_size_that_fits_is_kept(server, photos):
    photos.upsert([text(f"{number:02}", content="x" * 3000) for number in range(64)])
    server.message_bytes = 30_000
    server.calls.clear()
    assert len(list(photos.scroll())) == 64
    assert server.calls.count("Search") == 3 + 8 + 1  # 64, 32, 16; 8 pages of 8; the end


def test_one_record_that_no_message_can_hold_is_an_error(server, photos):
    photos.upsert([text("a", content="x" * 3000)])
    server.message_bytes = 2000
    for read in (
        lambda: photos.get(["a"]),
        lambda: list(photos.scroll()),
        lambda: list(photos.scroll(modality="text")),
        lambda: photos.search(vector(1)),
    ):
        with pytest.raises(StoreRequestError, match="too long for Weaviate"):
            read()


def test_nothing_that_was_refused_is_logged_whole(server, photos, caplog):
    caplog.set_level(0)
    server.refused["secret text"] = "no room"
    with pytest.raises(PartialFailureError):
        photos.upsert([text("secret text", content="the content"), text("a")])
    assert "the content" not in caplog.text
    logging.getLogger("weaviate-client").error("said by somebody else")
    assert "said by somebody else" in caplog.text
