"""Options of a search: pages, thresholds, groups of equal content, and several queries at once."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jclip_connectors import AsyncMultimodalCollection, EmbeddingConfig, EmbedInputError, MultimodalCollection
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from tests.test_async_collection import AsyncInMemoryStore

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=64)


class CountingStore(InMemoryStore):
    """Notes the limit of each search."""

    def __init__(self, config):
        super().__init__(config)
        self.limits = []
        self.many = 0

    def search(self, embedding, *, limit=10, **options):
        self.limits.append(limit)
        return super().search(embedding, limit=limit, **options)

    def search_many(self, embeddings, **options):
        self.many += 1
        return super().search_many(embeddings, **options)


class CountingEmbedder(HashEmbedder):
    """Notes the size of each batch of queries."""

    def __init__(self, config):
        super().__init__(config)
        self.batches = []

    def embed_queries(self, texts):
        self.batches.append(len(texts))
        return super().embed_queries(texts)


@pytest.fixture
def collection():
    return MultimodalCollection(CountingEmbedder(CONFIG), CountingStore(CONFIG))


def picture(at):
    return Image.fromarray(np.random.default_rng(at).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def fill(collection):
    collection.add_texts([f"note {at}" for at in range(12)], ids=[f"t{at}" for at in range(12)])
    collection.add_images([picture(at) for at in range(12)], ids=[f"i{at}" for at in range(12)])


def ids_of(hits):
    return [hit.record_id for hit in hits]


@pytest.mark.parametrize("modality", [None, "text"])
def test_pages_of_results_are_the_parts_of_the_whole_list(collection, modality):
    fill(collection)
    whole = ids_of(collection.search("note 3", limit=24, modality=modality))
    pages = [ids_of(collection.search("note 3", limit=5, offset=at, modality=modality)) for at in range(0, 30, 5)]
    assert [found for page in pages for found in page] == whole


def test_a_threshold_is_a_cosine_and_makes_room_for_others(collection):
    fill(collection)
    scores = {hit.record_id: hit.score for hit in collection.search("note 3", limit=24)}
    least = sorted(scores.values())[-6]
    found = collection.search("note 3", limit=24, score_threshold=least)
    assert set(ids_of(found)) == {record_id for record_id, score in scores.items() if score >= least}
    assert collection.search("note 3", score_threshold=1.5) == []


@pytest.mark.parametrize("copies", [5, 60])
def test_records_of_equal_content_are_one_result_and_there_are_as_many_as_asked_for(collection, copies):
    fill(collection)
    ids = [f"copy{at:02}" for at in range(copies)]
    collection.add_images([picture(3)] * copies, ids=ids)
    hits = collection.search(image=picture(3), limit=4, modality="image", group_duplicates=True)
    assert (hits[0].record_id, hits[0].duplicates) == ("copy00", (*ids[1:], "i3"))
    assert [hit.duplicates for hit in hits[1:]] == [()] * 3
    assert len(set(ids_of(hits))) == 4
    both = collection.search(image=picture(3), limit=24, group_duplicates=True)
    assert len(both) == 24
    assert [hit.duplicates for hit in both if hit.duplicates] == [(*ids[1:], "i3")]
    assert len(collection.search(image=picture(3), limit=24)[0].duplicates) == 0
    again = collection.search(image=picture(3), limit=23, offset=1, group_duplicates=True)
    assert again == both[1:]


def test_a_text_and_a_picture_are_never_one_result(collection):
    store = collection._store
    collection.add_texts(["a", "a"], ids=["1", "2"])
    (record,) = store.get(["1"])
    store.upsert([dataclasses.replace(record, record_id="3", modality="image")])
    hits = collection.search("a", group_duplicates=True)
    assert sorted((hit.modality, hit.duplicates) for hit in hits) == [("image", ()), ("text", ("2",))]


def test_records_without_a_hash_are_results_of_their_own(collection):
    collection.add_texts(["a", "a"], ids=["1", "2"])
    store = collection._store
    store.upsert([dataclasses.replace(record, content_hash=None) for record in store.get(["1", "2"])])
    assert ids_of(collection.search("a", group_duplicates=True)) == ["1", "2"]


def test_several_queries_are_embedded_and_searched_at_once_with_the_results_of_each(collection):
    fill(collection)
    texts = ["note 3", "note 9", "something else"]
    found = collection.search_many(texts, limit=7, offset=1, group_duplicates=True)
    assert collection._embedder.batches == [3]
    assert collection._store.many == 2  # one for each modality
    each = [collection.search(text, limit=7, offset=1, group_duplicates=True) for text in texts]
    assert [ids_of(hits) for hits in found] == [ids_of(hits) for hits in each]
    images = [picture(2), picture(5)]
    by_image = collection.search_many(images=images, modality="image", limit=1)
    assert [ids_of(hits) for hits in by_image] == [["i2"], ["i5"]]
    assert collection.search_many([]) == [] == collection.search_many(images=[])


async def test_an_asyncio_collection_takes_the_same_options(collection):
    fill(collection)
    store = AsyncInMemoryStore(CONFIG)
    store.inner = collection._store
    twin = AsyncMultimodalCollection(HashEmbedder(CONFIG), store)
    options: dict[str, Any] = {"limit": 5, "offset": 2, "score_threshold": -0.5, "group_duplicates": True}
    assert await twin.search("note 1", **options) == collection.search("note 1", **options)
    texts = ["note 1", "note 2"]
    assert await twin.search_many(texts, **options) == collection.search_many(texts, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": -1}, "`offset` is -1"),
        ({"offset": True}, "`offset` is True"),
        ({"score_threshold": float("nan")}, "`score_threshold` is nan"),
        ({"score_threshold": "0.5"}, "`score_threshold` is '0.5'"),
    ],
)
def test_a_bad_option_is_refused_by_name(collection, options, message):
    for search in (collection.search, lambda text, **given: collection.search_many([text], **given)):
        with pytest.raises(EmbedInputError, match=message):
            search("a", **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of `texts` and `images`"),
        ({"texts": ["a"], "images": [b"b"]}, "one of `texts` and `images`"),
        ({"texts": "a"}, r"write a list, \[text\]"),
        ({"texts": ["a", 3]}, r"`texts`\[1\] is int"),
        ({"images": [picture(0), b"no image"]}, r"`images`\[1\] cannot be embedded"),
    ],
)
def test_bad_queries_are_refused_by_position(collection, arguments, message):
    with pytest.raises(EmbedInputError, match=message):
        collection.search_many(**arguments)
