"""Searches over texts and images: the order of their results, and what their scores mean."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from jclip_connectors import AsyncMultimodalCollection
from tests.collection.mixed import NOTES, captions, embedder, mixed, pictures
from tests.test_async_collection import AsyncInMemoryStore


@pytest.fixture(scope="module")
def gallery():
    return mixed(captions(60), pictures(90))


def green_triangle(at):
    image = Image.new("RGB", (300, 200), (120, 130, 140))
    left = 20 + 5 * at
    ImageDraw.Draw(image).polygon([(left + 40, 20), (left, 100), (left + 80, 100)], fill=(round(20 * at), 180, 60))
    return image


def ids_of(hits):
    return [hit.record_id for hit in hits]


def test_the_score_is_the_cosine_in_every_search(gallery):
    query = embedder().embed_query("a red circle")
    records = {record.record_id: record for record in gallery.get(ids_of(gallery.search("a red circle", limit=150)))}
    for modality in (None, "text", "image"):
        for hit in gallery.search("a red circle", limit=20, modality=modality):
            assert hit.score == pytest.approx(float(records[hit.record_id].embedding @ query), abs=1e-5)
            assert (hit.rank_score is None) == (modality is not None)


def test_results_are_ordered_by_how_unusual_their_cosine_is_in_their_modality(gallery):
    hits = gallery.search("a purple star on the left", limit=150)
    assert len(hits) == 150
    ranks = [hit.rank_score for hit in hits]
    assert ranks == sorted(ranks, reverse=True)
    images = [hit for hit in hits if hit.modality == "image"]
    cosines = np.array([hit.score for hit in images])
    # The sample has every picture, and so many that nothing else counts.
    assert [hit.rank_score for hit in images] == pytest.approx((cosines - cosines.mean()) / cosines.std(), abs=1e-4)


@pytest.mark.parametrize("at", range(0, 60, 6))
def test_an_exact_text_comes_first_among_many_pictures(gallery, at):
    (hit,) = gallery.search(captions(60)[at], limit=1)
    assert (hit.record_id, hit.score) == (f"t{at}", pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("at", range(0, 90, 9))
def test_the_picture_that_is_searched_for_comes_first(gallery, at):
    (hit,) = gallery.search(image=pictures(90)[at], limit=1)
    assert hit.record_id == f"i{at}"


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("images", [1, 3, 40])
def test_an_exact_text_comes_first_if_it_is_one_of_few(count, images):
    collection = mixed(NOTES[:count], pictures(images))
    for at, note in enumerate(NOTES[:count]):
        assert ids_of(collection.search(note, limit=1)) == [f"t{at}"]
    assert ids_of(collection.search(image=pictures(images)[0], limit=1)) == ["i0"]


def test_unrelated_notes_do_not_come_between_photos():
    shopping = [f"shopping list {at}: milk, bread, nails" for at in range(3)]
    collection = mixed(shopping, [green_triangle(at) for at in range(12)])
    for query in ({"text": "a green triangle"}, *({"image": green_triangle(at)} for at in (0, 4, 7.5, 11))):
        first = collection.search(limit=6, **query)
        assert {hit.modality for hit in first} == {"image"}, query


def test_searches_by_picture_hardly_ever_find_an_unrelated_note_among_the_first_results():
    collection = mixed(NOTES, pictures(50))
    first = [collection.search(image=image, limit=5) for image in pictures(50)]
    assert sum(any(hit.modality == "text" for hit in hits) for hits in first) <= 3


def test_a_related_note_comes_before_unrelated_photos():
    collection = mixed([*NOTES, "a red circle"], pictures(50))
    assert ids_of(collection.search("red circle", limit=1)) == ["t3"]


def test_one_modality_alone_is_ordered_by_cosine():
    collection = mixed(NOTES, [])
    hits = collection.search("shopping")
    assert [hit.rank_score for hit in hits] == [None] * 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_first_picture_changes_no_score():
    collection = mixed(captions(20), [])
    before = {hit.record_id: hit.score for hit in collection.search("a blue star", limit=20)}
    collection.add_images(pictures(1), ids=["i0"])
    after = {hit.record_id: hit.score for hit in collection.search("a blue star", limit=30)}
    assert after.pop("i0") < 1
    assert after == before


def test_equal_results_are_in_the_order_of_cosine_and_id():
    same = [pictures(1)[0]] * 4
    collection = mixed(["a note"] * 4, same)
    hits = collection.search("something else", limit=8)
    assert ids_of(hits) == ids_of(collection.search("something else", limit=8))
    for modality in ("t", "i"):
        own = [hit.record_id for hit in hits if hit.record_id[0] == modality]
        assert own == sorted(own)


async def test_an_asyncio_collection_gives_the_same_results(gallery):
    store = AsyncInMemoryStore(embedder().config)
    collection = AsyncMultimodalCollection(embedder(), store)
    store.inner = gallery._store
    assert await collection.search("a red circle", limit=30) == gallery.search("a red circle", limit=30)
