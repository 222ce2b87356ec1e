"""The retrievers: by a vector, by a text, by an image; their filters, and what they refuse."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from jclip_connectors import CollectionMismatchError, EmbeddingConfig, EmbedInputError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from tests.late import late
from tests.test_async_collection import AsyncInMemoryStore

ours = late("jclip_connectors.haystack")
haystack = late("haystack")
types = late("haystack.document_stores.types")
their_retrievers = late("haystack.components.retrievers")

NANO = EmbeddingConfig(model="nano", dimensions=32)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def local():
    return LocalEmbedder(NANO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in COLOURS.items():
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def records(folder):
    """Documents with vectors: three pictures, and a text of each."""
    pictures = [
        haystack().Document(id=f"{name}.png", meta={"file_path": str(folder / f"{name}.png"), "n": at})
        for at, name in enumerate(COLOURS)
    ]
    texts = [
        haystack().Document(id=name, content=f"a {name} square", meta={"n": at}) for at, name in enumerate(COLOURS)
    ]
    made = ours().JinaClipImageDocumentEmbedder(NANO).run(documents=pictures)["documents"]
    return made + ours().JinaClipDocumentEmbedder(NANO).run(documents=texts)["documents"]


@pytest.fixture
def store(records):
    store = ours().JinaClipDocumentStore(InMemoryStore(NANO))
    store.write_documents(records)
    return store


def ids_of(answer):
    return [each.id for each in answer["documents"]]


def at_least(least):
    return {"field": "meta.n", "operator": ">=", "value": least}


def test_a_text_finds_texts_and_images_in_turn(store, local):
    retriever = ours().JinaClipTextRetriever(store, ours().JinaClipTextEmbedder(NANO), top_k=4)
    found = retriever.run(query="a green square")["documents"]
    assert found[1].id == "green"
    assert [each.score for each in found] == [1 / 61, 1 / 61, 1 / 62, 1 / 62]
    assert ["embedding_source" in each.meta for each in found] == [True, False] * 2
    query = local.embed_query("a green square")
    by_vector = ours().JinaClipEmbeddingRetriever(store, top_k=4).run(query_embedding=query.tolist())
    assert by_vector["documents"] == found


def test_an_image_finds_images_and_texts(store, folder, local):
    retriever = ours().JinaClipImageRetriever(store, ours().JinaClipImageEmbedder(NANO), top_k=1, modality="image")
    [found] = retriever.run(image=folder / "blue.png")["documents"]
    assert (found.id, found.score) == ("blue.png", pytest.approx(1, abs=1e-5))
    [row] = local.embed_images([folder / "blue.png"])
    texts = ours().JinaClipImageRetriever(store, ours().JinaClipImageEmbedder(NANO), modality="text")
    expected = store.embedding_retrieval(row.tolist(), modality="text")
    assert texts.run(image=str(folder / "blue.png"))["documents"] == expected


def test_the_filters_and_the_count_of_a_run_replace_those_of_the_retriever_or_are_added(store, local):
    query = local.embed_query("a square").tolist()
    first, last = at_least(1), {"field": "meta.n", "operator": "<", "value": 2}
    replacing = ours().JinaClipEmbeddingRetriever(store, filters=first, modality="text")
    assert set(ids_of(replacing.run(query_embedding=query))) == {"green", "blue"}
    assert set(ids_of(replacing.run(query_embedding=query, filters=last))) == {"red", "green"}
    assert len(ids_of(replacing.run(query_embedding=query, top_k=1))) == 1
    merging = ours().JinaClipEmbeddingRetriever(store, filters=first, filter_policy=types().FilterPolicy.MERGE)
    texts = {"field": "meta.file_path", "operator": "==", "value": None}
    assert set(ids_of(merging.run(query_embedding=query, filters=texts))) == {"green", "blue"}
    with pytest.raises(EmbedInputError, match="`top_k` is 0"):
        merging.run(query_embedding=query, top_k=0)


async def test_asyncio_finds_the_same_over_a_blocking_and_an_asyncio_store(records, store, folder):
    awaited = ours().JinaClipDocumentStore(AsyncInMemoryStore(NANO))
    await awaited.write_documents_async(records)
    text, image = ours().JinaClipTextEmbedder(NANO), ours().JinaClipImageEmbedder(NANO)
    expected = ours().JinaClipTextRetriever(store, text).run(query="red")
    by_image = ours().JinaClipImageRetriever(store, image).run(image=folder / "red.png")
    for each in (store, awaited):
        retriever = ours().JinaClipTextRetriever(each, text)
        await retriever.warm_up_async()
        assert await retriever.run_async(query="red") == expected
        assert await ours().JinaClipImageRetriever(each, image).run_async(image=folder / "red.png") == by_image
        await retriever.close_async()


def test_it_takes_the_place_of_haystacks_own_retrievers(store):
    inner = ours().JinaClipEmbeddingRetriever(store, modality="text")
    theirs = their_retrievers().TextEmbeddingRetriever(retriever=inner, text_embedder=ours().JinaClipTextEmbedder(NANO))
    assert ids_of(theirs.run(query="a red square", top_k=1)) == ["red"]


def test_an_embedder_with_another_configuration_than_the_collection_is_refused(store):
    other = ours().JinaClipTextEmbedder(dataclasses.replace(NANO, dimensions=64))
    retriever = ours().JinaClipTextRetriever(store, other)
    for call in (retriever.warm_up, lambda: retriever.run(query="red")):
        with pytest.raises(CollectionMismatchError, match="`dimensions` 32"):
            call()


def test_what_is_not_a_store_an_embedder_or_an_option_is_refused(store):
    text, image = ours().JinaClipTextEmbedder(NANO), ours().JinaClipImageEmbedder(NANO)
    for make, message in (
        (lambda: ours().JinaClipEmbeddingRetriever(InMemoryStore(NANO)), "`document_store` is InMemoryStore"),
        (lambda: ours().JinaClipTextRetriever(store, image), "`embedder` is JinaClipImageEmbedder; use a JinaClipText"),
        (lambda: ours().JinaClipImageRetriever(store, text), "`embedder` is JinaClipTextEmbedder; use a JinaClipImage"),
        (lambda: ours().JinaClipEmbeddingRetriever(store, filter_policy="merge"), "`filter_policy` is 'merge'"),
        (lambda: ours().JinaClipEmbeddingRetriever(store, top_k=-1), "`top_k` is -1"),
        (lambda: ours().JinaClipEmbeddingRetriever(store, modality="sound"), "`modality` is 'sound'"),
    ):
        with pytest.raises(EmbedInputError, match=message):
            make()


def test_a_retriever_lets_the_model_go_and_works_again(store):
    retriever = ours().JinaClipTextRetriever(store, ours().JinaClipTextEmbedder(NANO), modality="text", top_k=1)
    before = retriever.run(query="a red square")
    retriever.close()
    assert retriever.run(query="a red square") == before
    assert np.isclose(before["documents"][0].score, 1, atol=0.5)
