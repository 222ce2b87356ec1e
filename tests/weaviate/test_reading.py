"""Pages, limits, and the score of many tiles."""

import uuid

import numpy as np
import pytest

from core_encoder.tiling import Box
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import record_uuid
from jclip_connectors.testing.store_contract import ids_of, image, text, vector
from jclip_connectors.weaviate import reading as weaviate_reading
from jclip_connectors.weaviate.store import Hybrid


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
    monkeypatch.setattr(weaviate_reading, "MOST_RESULTS", 5)
    server.most_results = 5
    photos.upsert([image(str(number), vector(1, number)) for number in range(5)])
    assert len(photos.search(vector(1), limit=6)) == 5
    photos.upsert([text("6th")])
    assert len(photos.search(vector(1), limit=6, modality="image")) == 5
    with pytest.raises(EmbedInputError, match="`limit` is 6: Weaviate returns at most 5 results"):
        photos.search(vector(1), limit=6)


def test_a_server_that_gives_less_says_so(photos, server):
    server.most_results = 5
    with pytest.raises(StoreRequestError, match="query maximum results exceeded"):
        photos.search(vector(1), limit=6)


def test_a_part_that_outgrows_a_query_is_no_silent_loss(photos, monkeypatch):
    photos.upsert([image(str(number), metadata={"n": 1}) for number in range(12)])
    monkeypatch.setattr(weaviate_reading, "_PART", 5)
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


def test_many_tiles_of_a_record_are_one_score_that_of_the_nearest(tiled):
    tiles = np.stack([vector(0.6, 0.8), vector(0, 1), vector(0.8, 0.6)])
    first = image("a", tile_embeddings=tiles, tile_boxes=np.arange(12).reshape(3, 4))
    tiled.upsert([first, image("b", vector(0.7, 0.7))])
    first, second = tiled.search(vector(1), tiles=True)
    assert (first.record_id, first.box) == ("a", Box(8, 9, 10, 11))
    assert (first.score, second.score) == pytest.approx((0.8, 0.5**0.5))


def tiled_images(count, *, tiles):
    """Images whose tiles are near to each other, and in the order of their ids away from `vector(1)`."""
    boxes = np.zeros((tiles, 4), int)
    for number in range(count):
        rows = np.stack([vector(1, 0.01 * number + 1e-5 * tile) for tile in range(tiles)])
        yield image(f"{number:04}", vector(0, 1), tile_embeddings=rows, tile_boxes=boxes)


@pytest.mark.parametrize("cutoff", [40_000, 0], ids=["all are compared", "by the graph"])
@pytest.mark.parametrize("limit", [1, 10, 50, 100, 300])
def test_a_search_over_tiles_has_as_many_results_as_were_asked_for(tiled, server, limit, cutoff):
    tiled.upsert(list(tiled_images(200, tiles=16)))  # more tiles than the configuration says
    server.collections["Tiled"].vectors["tiles"]["vectorIndexConfig"]["flatSearchCutoff"] = cutoff
    hits = tiled.search(vector(1), tiles=True, limit=limit)
    assert ids_of(hits) == [f"{number:04}" for number in range(min(limit, 200))]
    assert tiled.search(vector(1), tiles=True, limit=limit, modality="image") == hits


def test_a_search_over_tiles_for_more_than_a_query_gives_compares_all_records(tiled, server, monkeypatch):
    monkeypatch.setattr(weaviate_reading, "MOST_RESULTS", 60)
    server.most_results = 60
    tiled.upsert(list(tiled_images(40, tiles=5)))
    assert len(tiled.search(vector(1), tiles=True, limit=40)) == 40


def test_a_hybrid_search_over_tiles_has_as_many_results_as_were_asked_for(tiled):
    tiled.upsert(list(tiled_images(120, tiles=5)))
    assert len(tiled.search(vector(1), tiles=True, limit=110, hybrid=Hybrid(text="car", alpha=0.9))) == 110


def test_a_search_over_tiles_reads_the_tiles_of_its_results_alone(tiled, server):
    tiled.upsert(list(tiled_images(40, tiles=5)))
    server.calls.clear()
    assert len(tiled.search(vector(1), tiles=True, limit=10)) == 10
    assert server.calls == ["Search", "Search"]


def test_a_search_over_tiles_ends_where_the_index_has_lost_records(tiled, server):
    tiled.upsert(list(tiled_images(5, tiles=3)))
    server.lose("Tiled", ["0002"])
    assert ids_of(tiled.search(vector(1), tiles=True)) == ["0000", "0001", "0003", "0004"]
