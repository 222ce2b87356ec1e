"""The document store: what it keeps of a document, what it refuses, and how it is searched."""

import asyncio
import dataclasses
import datetime
import threading

import numpy as np
import pytest
from PIL import Image

from core_encoder.tiling import Tiling
from jclip_connectors import (
    CollectionMismatchError,
    EmbeddingConfig,
    EmbedInputError,
    MultimodalCollection,
    PartialFailureError,
    StoreRequestError,
)
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from tests.late import late
from tests.pictures import PICTURE, encoded
from tests.test_async_collection import AsyncInMemoryStore

ours = late("jclip_connectors.haystack")
haystack = late("haystack")
dataclass_of = late("haystack.dataclasses")
types = late("haystack.document_stores.types")
errors = late("haystack.document_stores.errors")
serialization_errors = late("haystack.core.errors")

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=4)
NANO = EmbeddingConfig(model="nano", dimensions=32)
TILED = dataclasses.replace(NANO, tiling=Tiling(max_tiles=4))
SOURCE = {"type": "image", "file_path_meta_field": "file_path"}
FIRST, SECOND, THIRD = np.eye(3, 4).tolist()


def document(name, embedding=None, **fields):
    return haystack().Document(id=name, embedding=embedding, **{"content": name} | fields)


def image(name, embedding=None, **meta):
    return document(name, embedding, content=None, meta={"file_path": f"{name}.png", "embedding_source": SOURCE} | meta)


@pytest.fixture
def store():
    return ours().JinaClipDocumentStore(InMemoryStore(CONFIG))


def ids_of(documents):
    return [each.id for each in documents]


def test_a_document_comes_back_as_it_was_but_for_the_rounding_of_its_vector(store):
    meta = {"n": 1, "date": "2024-01-31T12:00:00+01:00", "nested": {"a": [None, 2.5], "and": {}}, "a.b": 1, "or": 2}
    given = [document("a", [3.0, 0.0, 4.0, 0.0], meta=meta), image("i", SECOND, box="mine"), document("", FIRST)]
    given[2] = dataclasses.replace(given[2], id="empty", content=None)
    assert store.write_documents(given) == 3
    found = store.get_documents(["a", "absent", "i", "empty"])
    for one, other in zip(found, given, strict=True):
        assert (one.id, one.content, one.meta) == (other.id, other.content, other.meta)
        np.testing.assert_allclose(one.embedding, other.embedding, rtol=1e-6)


def test_dates_and_paths_of_python_become_text(store, tmp_path):
    meta = {"at": datetime.datetime(2024, 1, 31, tzinfo=datetime.UTC), "path": tmp_path}
    store.write_documents([document("a", FIRST, meta=meta)])
    [found] = store.filter_documents({"field": "meta.at", "operator": ">", "value": "2024-01-30"})
    assert found.meta == {"at": "2024-01-31T00:00:00+00:00", "path": str(tmp_path)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "has no `embedding`: embed it first, or give the document store `allow_unembedded=True`"),
        ({"embedding": [0.0] * 4}, "an `embedding` without a direction"),
        ({"embedding": ["a"]}, "not a list of numbers"),
        ({"embedding": [1.0, float("nan"), 0.0, 0.0]}, "has a NaN"),
        ({"embedding": [1.0, 2.0]}, r"shape \(2,\)"),
        ({"embedding": FIRST, "meta": {"_haystack_at": 1}}, "'_haystack_at': keys that begin with '_haystack'"),
        ({"embedding": FIRST, "meta": {"a": {1, 2}}}, "write sorted"),
        ({"embedding": FIRST, "content": "\ud800"}, "lone surrogate"),
    ],
)
def test_a_document_that_cannot_be_kept_is_named_and_nothing_is_written(store, fields, message):
    with pytest.raises(EmbedInputError, match=f"'b'.*{message}" if "shape" not in message else message):
        store.write_documents([document("a", FIRST), document("b", **fields)])
    assert store.count_documents() == 0


def test_bytes_and_sparse_vectors_are_refused_unless_the_bytes_may_be_dropped(store):
    blob = dataclass_of().ByteStream(b"bytes")
    with pytest.raises(EmbedInputError, match=r"'a'.* has a `blob`.*`drop_blobs=True`"):
        store.write_documents([document("a", FIRST, blob=blob)])
    dropping = ours().JinaClipDocumentStore(store.store, drop_blobs=True)
    assert dropping.write_documents([document("a", FIRST, blob=blob)]) == 1
    assert dropping.get_documents(["a"])[0].blob is None
    sparse = dataclass_of().SparseEmbedding(indices=[0], values=[1.0])
    with pytest.raises(EmbedInputError, match="has a `sparse_embedding`"):
        store.write_documents([document("b", FIRST, sparse_embedding=sparse)])


@pytest.mark.parametrize("given", ["a", None, ["a"], [{"content": "a"}]])
def test_anything_but_a_list_of_documents_is_a_value_error(store, given):
    with pytest.raises(ValueError, match="document"):
        store.write_documents(given)


def test_a_policy_is_haystacks(store):
    with pytest.raises(EmbedInputError, match="`policy` is 'skip'; use one of"):
        store.write_documents([], policy="skip")


def test_an_id_that_is_known_is_refused_skipped_or_overwritten(store):
    policy = types().DuplicatePolicy
    assert store.write_documents([document("a", FIRST), document("b", FIRST)]) == 2
    new, other = document("a", SECOND, content="new"), document("c", SECOND)
    for refusing in (policy.NONE, policy.FAIL):
        with pytest.raises(errors().DuplicateDocumentError, match=r"nothing was written: .* the ids 'a'; write with"):
            store.write_documents([new, other], policy=refusing)
        with pytest.raises(errors().DuplicateDocumentError, match="given twice are the ids 'c'"):
            store.write_documents([other, other], policy=refusing)
    assert store.count_documents() == 2
    assert store.write_documents([new, other, dataclasses.replace(other, content="last")], policy=policy.SKIP) == 1
    assert [each.content for each in store.get_documents(["a", "c"])] == ["a", "c"]
    assert store.write_documents([new, other, dataclasses.replace(other, content="last")], policy=policy.OVERWRITE) == 2
    assert [each.content for each in store.get_documents(["a", "c"])] == ["new", "last"]
    assert store.write_documents([]) == store.write_documents([], policy=policy.SKIP) == 0


def test_what_the_store_refuses_is_told_by_the_position_of_the_document():
    class Refusing(InMemoryStore):
        def upsert(self, records):
            failed = {at: StoreRequestError("no") for at, record in enumerate(records) if record.record_id == "c"}
            super().upsert([record for at, record in enumerate(records) if at not in failed])
            if failed:
                raise PartialFailureError("records", failed=failed, kept={0: None})

    store = ours().JinaClipDocumentStore(Refusing(CONFIG))
    store.write_documents([document("a", FIRST)])
    given = [document(name, FIRST) for name in ("a", "b", "c")]
    with pytest.raises(PartialFailureError, match="1 of 2 documents failed: 2: no") as caught:
        store.write_documents(given, policy=types().DuplicatePolicy.SKIP)
    assert (list(caught.value.failed), caught.value.kept) == ([2], {1: "b"})


def test_documents_without_a_vector_are_kept_where_that_is_allowed_and_no_search_finds_them():
    store = ours().JinaClipDocumentStore(InMemoryStore(CONFIG), allow_unembedded=True)
    zero = document("zero", [0.0] * 4)
    store.write_documents([document("none"), zero, document("some", SECOND), document("more", FIRST)])
    assert [each.embedding for each in store.get_documents(["none", "zero"])] == [None, zero.embedding]
    strict = ours().JinaClipDocumentStore(store.store)
    for asked in (store, strict):
        assert ids_of(asked.embedding_retrieval(FIRST, top_k=3)) == ["more", "some"]
        assert ids_of(asked.embedding_retrieval(FIRST, {"field": "content_", "operator": "==", "value": None}, 1)) == [
            "more"
        ]
    store.update_by_filter({}, {"seen": True})
    assert [each.embedding for each in strict.get_documents(["none", "zero"])] == [None, zero.embedding]
    assert ids_of(strict.embedding_retrieval(FIRST, {"field": "seen", "operator": "==", "value": True})) == [
        "more",
        "some",
    ]


def test_the_length_of_a_missing_vector_must_be_known():
    store = ours().JinaClipDocumentStore(InMemoryStore(EmbeddingConfig(model="other")), allow_unembedded=True)
    with pytest.raises(EmbedInputError, match="give `dimensions` in the configuration"):
        store.write_documents([document("a")])


def test_texts_and_images_are_put_into_one_order_by_their_ranks(store):
    near, far = [0.9, 0.1, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]
    store.write_documents([document("t1", FIRST), document("t2", near), image("i1", far), image("i2", SECOND)])
    found = store.embedding_retrieval(FIRST)
    assert [(each.id, each.score) for each in found] == [("i1", 1 / 61), ("t1", 1 / 61), ("i2", 1 / 62), ("t2", 1 / 62)]
    assert all(each.embedding is None for each in found)
    assert ids_of(store.embedding_retrieval(FIRST, top_k=3)) == ["i1", "t1", "i2"]
    [only] = store.embedding_retrieval(FIRST, modality="image", top_k=1)
    assert (only.id, only.score, only.content) == ("i1", pytest.approx(0.5), None)
    of_one_kind = store.embedding_retrieval(FIRST, {"field": "meta.file_path", "operator": "==", "value": None})
    assert [each.score for each in of_one_kind] == pytest.approx([1.0, 0.9939], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_embedding": [0.0] * 4}, "`query_embedding` is all zero"),
        ({"query_embedding": FIRST, "top_k": 0}, "`top_k` is 0"),
        ({"query_embedding": FIRST, "modality": "sound"}, "`modality` is 'sound'"),
        ({"query_embedding": FIRST, "tiles": True}, "this collection stores no tiles"),
        ({"query_embedding": FIRST[:2]}, "shape"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(store, options, message):
    with pytest.raises(EmbedInputError, match=message):
        store.embedding_retrieval(**options)


def test_records_of_other_programs_are_documents_and_can_be_written_back(tmp_path):
    collection = MultimodalCollection(HashEmbedder(CONFIG), InMemoryStore(CONFIG))
    (tmp_path / "a.png").write_bytes(encoded(PICTURE, "PNG"))
    text = collection.add_texts(["a text"], [{"n": 1}]).ids[0]
    picture = collection.add_images([tmp_path / "a.png"], [{"n": 2}]).ids[0]
    store = ours().JinaClipDocumentStore(collection.store)
    found = {each.id: each for each in store.filter_documents({"field": "meta.n", "operator": ">", "value": 0})}
    assert (found[text].content, found[text].meta) == ("a text", {"n": 1})
    assert found[picture].content is None
    assert found[picture].meta == {"file_path": str(tmp_path / "a.png"), "embedding_source": SOURCE, "n": 2}
    before = collection.store.get([text, picture])
    store.write_documents(list(found.values()), policy=types().DuplicatePolicy.OVERWRITE)
    for old, new in zip(before, collection.store.get([text, picture]), strict=True):
        assert (old.modality, old.content, old.uri) == (new.modality, new.content, new.uri)
        np.testing.assert_allclose(old.embedding, new.embedding, atol=1e-6)


def test_an_update_keeps_the_vectors_and_moves_the_path_of_an_image():
    store = ours().JinaClipDocumentStore(InMemoryStore(CONFIG))
    store.write_documents([image("i", [0.0, 2.0, 0.0, 0.0], n=1, o={"k": 1})])
    by_k = {"field": "meta.o.k", "operator": "==", "value": 1}
    assert store.update_by_filter(by_k, {"file_path": "elsewhere.png", "o": {"k": 2}}) == 1
    assert store.count_documents_by_filter(by_k) == 0
    [found] = store.get_documents(["i"])
    assert (found.meta["n"], found.embedding) == (1, [0.0, 2.0, 0.0, 0.0])
    [record] = store.store.get(["i"])
    assert (record.uri, record.modality) == ("elsewhere.png", "image")
    with pytest.raises(EmbedInputError, match="reserved"):
        store.update_by_filter({}, {"_haystack": 1})


def test_dates_and_nested_values_of_other_programs_are_filtered_after_an_update():
    collection = MultimodalCollection(HashEmbedder(CONFIG), InMemoryStore(CONFIG))
    collection.add_texts(["a text"], [{"on": "2024-05-01", "o": {"k": 1}}])
    store = ours().JinaClipDocumentStore(collection.store)
    asked = [
        {"field": "meta.on", "operator": ">", "value": "2024-04-01"},
        {"field": "meta.o.k", "operator": "==", "value": 1},
    ]
    assert [store.count_documents_by_filter(each) for each in asked] == [0, 0]
    assert store.update_by_filter({}, {}) == 1
    assert [store.count_documents_by_filter(each) for each in asked] == [1, 1]


def test_many_documents_are_updated_in_batches(store):
    store.write_documents([document(str(n), FIRST, meta={"n": n}) for n in range(600)])
    assert store.update_by_filter({"field": "meta.n", "operator": "<", "value": 550}, {"seen": True}) == 550
    assert store.count_documents_by_filter({"field": "meta.seen", "operator": "==", "value": True}) == 550


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for at, path in enumerate(paths):
        pixels = np.random.default_rng(at).integers(0, 256, (64, 192, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize("kind", [InMemoryStore, AsyncInMemoryStore])
async def test_an_image_in_a_collection_with_tiles_is_found_by_its_tile_whose_box_is_in_the_metadata(pictures, kind):
    embedder = ours().JinaClipImageDocumentEmbedder(TILED, batch_size=1)
    store = ours().JinaClipDocumentStore(kind(TILED), image_embedder=embedder)
    given = [
        document(name, content=None, meta={"file_path": str(path)}) for name, path in zip("ab", pictures, strict=True)
    ]
    made = (await embedder.run_async(documents=given))["documents"]
    assert await store.write_documents_async([*made, document("text", np.eye(1, 32)[0].tolist())]) == 3
    inner = store.store.inner if kind is AsyncInMemoryStore else store.store
    [record] = inner.get(["b"])
    tile, box = record.tile_embeddings[-1], record.tile_boxes[-1].tolist()
    [hit] = await store.embedding_retrieval_async(tile.tolist(), top_k=1, modality="image")
    assert (hit.id, hit.meta["box"], hit.score) == ("b", box, pytest.approx(1, abs=1e-5))
    [whole] = await store.embedding_retrieval_async(tile.tolist(), top_k=1, modality="image", tiles=False)
    assert "box" not in whole.meta
    assert all("box" not in each.meta for each in await store.filter_documents_async())


def test_images_without_what_makes_their_tiles_are_refused(pictures):
    embedder = ours().JinaClipImageDocumentEmbedder(TILED)
    vector = np.eye(1, 32)[0].tolist()
    bare = ours().JinaClipDocumentStore(InMemoryStore(TILED))
    with pytest.raises(EmbedInputError, match=r"nothing was written: .* give the document store an `image_embedder`"):
        bare.write_documents([image("a", vector)])
    store = ours().JinaClipDocumentStore(InMemoryStore(TILED), image_embedder=embedder)
    pictures[1].write_bytes(b"broken")
    given = [image(name, vector, file_path=str(path)) for name, path in zip("ab", pictures, strict=True)]
    with pytest.raises(EmbedInputError, match=r"nothing was written, .*'b': ") as caught:
        store.write_documents(given)
    assert "'a'" not in str(caught.value)
    with pytest.raises(EmbedInputError, match=r"'c': there is no file.*'d': its `meta` has the key 'box'"):
        store.write_documents([image("c", vector), image("d", vector, box=[0, 0, 1, 1])])
    assert store.count_documents() == 0
    with pytest.raises(CollectionMismatchError, match="tiling"):
        ours().JinaClipDocumentStore(InMemoryStore(NANO), image_embedder=embedder)


async def test_an_asyncio_store_is_awaited_and_refuses_blocking_calls():
    store = ours().JinaClipDocumentStore(AsyncInMemoryStore(CONFIG))
    assert await store.write_documents_async([document("a", FIRST), image("b", SECOND)]) == 2
    assert ids_of(await store.get_documents_async(["b", "a"])) == ["b", "a"]
    assert ids_of(await store.embedding_retrieval_async(FIRST, modality="text")) == ["a"]
    for call in (store.count_documents, store.filter_documents, lambda: store.write_documents([document("c", FIRST)])):
        with pytest.raises(StoreRequestError, match="asyncio: call the async version of this method"):
            call()


async def test_the_event_loop_goes_on_while_a_blocking_store_works():
    started, passed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Waiting(InMemoryStore):
        def upsert(self, records):
            loop.call_soon_threadsafe(started.set)
            assert passed.wait(20), "the event loop waited for the store"
            super().upsert(records)

    store = ours().JinaClipDocumentStore(Waiting(CONFIG))
    writing = asyncio.create_task(store.write_documents_async([document("a", FIRST)]))
    await asyncio.wait_for(started.wait(), 20)
    passed.set()  # only a loop that is free comes here while the store waits
    assert await writing == 1


def test_an_open_store_cannot_be_saved(store):
    with pytest.raises(serialization_errors().SerializationError, match="an open InMemoryStore, which cannot be saved"):
        store.to_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of `store`, an open store, and `url`"),
        ({"store": InMemoryStore(CONFIG), "url": "edge:a"}, "give one of"),
        ({"store": InMemoryStore(CONFIG), "config": CONFIG}, "are for a `url`"),
        ({"store": InMemoryStore(CONFIG), "read_only": True}, "are for a `url`"),
        ({"store": "edge:a"}, "`store` is a str, which has no upsert"),
    ],
)
def test_one_of_a_store_and_a_url_is_given_with_the_options_of_that(options, message):
    with pytest.raises(EmbedInputError, match=message):
        ours().JinaClipDocumentStore(**options)
