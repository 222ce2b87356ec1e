"""LangChain's vector store over an asyncio store: its asynchronous methods await the store in the event loop."""

import asyncio
import threading

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from jclip_connectors import EmbeddingConfig, EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.langchain import JinaClipEmbeddings, JinaClipVectorStore, image_document
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.test_async_collection import AsyncInMemoryStore

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)


class WatchedStore(AsyncInMemoryStore):
    """Fails where it is not awaited in the thread of the loop."""

    def __init__(self, config):
        super().__init__(config)
        self.thread = threading.current_thread()

    def __getattribute__(self, name):
        if name in ("upsert", "search", "get", "delete"):
            assert threading.current_thread() is object.__getattribute__(self, "thread")
        return object.__getattribute__(self, name)


@pytest.fixture
def vectors():
    return JinaClipVectorStore(WatchedStore(CONFIG), JinaClipEmbeddings.from_embedder(HashEmbedder(CONFIG)))


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(3)]


async def test_documents_and_images_are_added_found_fetched_and_deleted(vectors, pictures):
    await vectors.aadd_texts(["a red circle", "a blue star"], [{"n": 1}, {"n": 2}], ids=["red", "blue"])
    await vectors.aadd_images(pictures[:2], ids=["p0", "p1"])
    await vectors.aadd_documents([Document("a green square", id="green"), image_document(pictures[2])])
    [found] = await vectors.asimilarity_search("a blue star", k=1, modality="text")
    assert (found.id, found.metadata) == ("blue", {"n": 2})
    [found] = await vectors.asimilarity_search_by_image(pictures[1], k=1, modality="image")
    assert found.id == "p1"
    [(found, score)] = await vectors.asimilarity_search_with_score_by_vector(
        (await vectors.embeddings.aembed_query("a red circle")), k=1, modality="text"
    )
    assert (found.id, score) == ("red", pytest.approx(1.0, abs=1e-5))
    [(found, score)] = await vectors.asimilarity_search_with_relevance_scores("a green square", k=1)
    assert (found.id, score) == ("green", pytest.approx(1.0, abs=1e-5))
    assert [d.id for d in await vectors.aget_by_ids(["blue", "none", "p0"])] == ["blue", "p0"]
    assert await vectors.adelete(["blue"])
    assert await vectors.aget_by_ids(["blue"]) == []


async def test_every_kind_of_search_is_awaited(vectors, pictures):
    await vectors.aadd_texts(["a red circle", "a red star", "a blue star"], [{"n": n} for n in range(3)])
    await vectors.aadd_images(pictures)
    query = await vectors.embeddings.aembed_query("a red")
    assert len(await vectors.amax_marginal_relevance_search("a red", k=2, modality="text")) == 2
    assert len(await vectors.amax_marginal_relevance_search_by_vector(query, k=2, modality="text")) == 2
    assert len(await vectors.amax_marginal_relevance_search_by_image(pictures[0], k=2, modality="image")) == 2
    assert len(await vectors.asimilarity_search_by_vector(query, k=2, filter={"n": {"gte": 1}})) == 2
    [found] = await vectors.as_retriever(search_type="image_to_image", k=1).ainvoke(pictures[2])
    assert found.metadata["uri"] == pictures[2]
    [found] = await vectors.as_retriever(search_type="mmr", search_kwargs={"k": 1, "modality": "text"}).ainvoke(
        "a blue"
    )
    assert found.page_content == "a blue star"


async def test_it_is_made_of_texts_and_of_documents(pictures):
    embeddings = JinaClipEmbeddings.from_embedder(HashEmbedder(CONFIG))
    made = await JinaClipVectorStore.afrom_texts(["a"], embeddings, ids=["a"], store=WatchedStore(CONFIG))
    assert [document.id for document in await made.aget_by_ids(["a"])] == ["a"]
    made = await JinaClipVectorStore.afrom_documents([image_document(pictures[0])], embeddings)
    assert len(await made.asimilarity_search("anything")) == 1


def test_a_blocking_method_of_an_asyncio_store_is_refused_and_says_what_to_call(vectors, pictures):
    for call in (
        lambda: vectors.add_texts(["a"]),
        lambda: vectors.add_images(pictures),
        lambda: vectors.similarity_search("a"),
        lambda: vectors.get_by_ids(["a"]),
        lambda: vectors.delete(["a"]),
        lambda: vectors.as_retriever().invoke("a"),
    ):
        with pytest.raises(StoreRequestError, match="asyncio: call the async version"):
            call()


async def test_other_embeddings_are_awaited_too():
    class Awaited(DeterministicFakeEmbedding):
        async def aembed_documents(self, texts):
            await asyncio.sleep(0)
            return [super(Awaited, self).embed_query(text) for text in texts]

        async def aembed_query(self, text):
            await asyncio.sleep(0)
            return super().embed_query(text)

        def embed_documents(self, texts):  # noqa: ARG002 (LangChain's name)
            raise AssertionError("the blocking method was called")

        embed_query = embed_documents

    config = EmbeddingConfig(model="other", revision="1", dimensions=8)
    vectors = JinaClipVectorStore(WatchedStore(config), Awaited(size=8))
    await vectors.aadd_texts(["a", "b"], ids=["a", "b"])
    assert [document.id for document in await vectors.asimilarity_search("b", k=1)] == ["b"]
    with pytest.raises(EmbedInputError, match="no `embed_images`"):
        await vectors.aadd_images([b"picture"])


async def test_what_cannot_be_read_is_told_and_the_rest_is_written(vectors, pictures):
    with pytest.raises(PartialFailureError, match="1 of 2 documents failed") as caught:
        await vectors.aadd_images([pictures[0], "none.png"], ids=["a", "b"])
    assert caught.value.kept == {0: "a"}
    assert [document.id for document in await vectors.aget_by_ids(["a", "b"])] == ["a"]
