"""What adding reads from the store: vectors only of records that are written again with the vectors they have."""

import dataclasses

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors import AsyncMultimodalCollection, EmbeddingConfig, MultimodalCollection
from jclip_connectors.langchain import JinaClipEmbeddings, JinaClipVectorStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.test_async_collection import AsyncInMemoryStore

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=2))


class ReadStore(InMemoryStore):
    """Keeps the ids whose vectors were read, and counts the requests."""

    def __init__(self, config):
        super().__init__(config)
        self.with_vectors = []
        self.gets = 0

    def get(self, ids, *, vectors=True):
        self.gets += 1
        if vectors:
            self.with_vectors += ids
        return super().get(ids, vectors=vectors)


class Blocking:
    def __init__(self, config):
        self.store = ReadStore(config)
        self._collection = MultimodalCollection(HashEmbedder(config), self.store, batch_size=4)

    async def add(self, kind, *args, **options):
        return getattr(self._collection, f"add_{kind}")(*args, **options)


class Asyncio:
    def __init__(self, config):
        self.store = ReadStore(config)
        outer = AsyncInMemoryStore(config)
        outer.inner = self.store
        self._collection = AsyncMultimodalCollection(HashEmbedder(config), outer, batch_size=4)

    async def add(self, kind, *args, **options):
        return await getattr(self._collection, f"add_{kind}")(*args, **options)


@pytest.fixture(params=[Blocking, Asyncio])
def made(request):
    return request.param(TILED)


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{at}.png" for at in range(3)]
    for at, path in enumerate(found):
        picture(at, size=(96, 48)).save(path)
    return found


def stored(store, record_id):
    return InMemoryStore.get(store, [record_id])[0]


async def test_items_that_did_not_change_are_added_again_without_reading_vectors(made, paths):
    for _ in range(2):
        await made.add("images", paths)
        await made.add("texts", ["a", "b"], ids=["1", "2"])
    assert made.store.with_vectors == []
    assert made.store.gets == 4
    assert made.store.count() == 5


async def test_a_change_of_metadata_reads_the_vectors_of_this_record_only_and_keeps_them_exactly(made, paths):
    ids = (await made.add("images", paths)).ids
    before = stored(made.store, ids[1])
    report = await made.add("images", paths, metadatas=[{}, {"seen": True}, {}])
    after = stored(made.store, ids[1])
    assert (made.store.with_vectors, report.embedded) == ([ids[1]], 0)
    assert after.metadata == {"seen": True}
    assert len(before.tile_embeddings) > 1
    for name in ("embedding", "tile_embeddings", "tile_boxes"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


async def test_changed_content_is_embedded_without_reading_the_old_vectors(made):
    await made.add("texts", ["a"], ids=["1"])
    assert (await made.add("texts", ["b"], ids=["1"])).embedded == 1
    assert made.store.with_vectors == []


async def test_the_last_of_several_items_with_one_id_is_kept_also_if_it_is_what_was_stored(made):
    await made.add("texts", ["a"], ids=["1"])
    before = stored(made.store, "1")
    await made.add("texts", ["b", "a"], ids=["1", "1"])
    after = stored(made.store, "1")
    assert after.content == "a"
    np.testing.assert_array_equal(after.embedding, before.embedding)


@pytest.mark.parametrize("change", ["deleted", "another content"])
async def test_a_record_that_changes_between_the_two_reads_is_embedded(made, monkeypatch, change):
    await made.add("texts", ["a"], ids=["1"])
    before = stored(made.store, "1")
    get = made.store.get

    def get_late(ids, *, vectors=True):
        if vectors and change == "deleted":
            made.store.delete(ids)
        elif vectors:
            other = dataclasses.replace(before, content="b", content_hash="other", embedding=-before.embedding)
            made.store.upsert([other])
        return get(ids, vectors=vectors)

    monkeypatch.setattr(made.store, "get", get_late)
    report = await made.add("texts", ["a"], [{"n": 1}], ["1"])
    after = stored(made.store, "1")
    assert (report.embedded, after.metadata, after.content) == (1, {"n": 1}, "a")
    np.testing.assert_allclose(after.embedding, before.embedding, atol=1e-6)


def test_documents_that_did_not_change_are_added_again_without_reading_vectors():
    store = ReadStore(CONFIG)
    documents = JinaClipVectorStore(store, JinaClipEmbeddings.from_embedder(HashEmbedder(CONFIG)))
    for _ in range(2):
        documents.add_texts(["a", "b"], ids=["1", "2"])
    assert store.with_vectors == []
    before = stored(store, "1")
    documents.add_texts(["a", "b"], [{"n": 1}, {}], ids=["1", "2"])
    assert store.with_vectors == ["1"]
    np.testing.assert_array_equal(stored(store, "1").embedding, before.embedding)
