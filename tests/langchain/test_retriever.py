"""LangChain's retriever over our stores, the coroutines of the vector store, and the example that uses them."""

import asyncio
import runpy
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

from jclip_connectors.langchain import SEARCH_TYPES, JinaClipEmbeddings, JinaClipRetriever, JinaClipVectorStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from tests.every_store.loops import needing_the_loop
from tests.langchain.parts import PLAIN, TILED, documents, ids_of, over, pictures

__all__ = ["documents", "pictures"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "langchain_rag.py"


class TestStandardRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self):
        return JinaClipRetriever

    @property
    def retriever_constructor_params(self):
        embeddings = JinaClipEmbeddings.from_embedder(HashEmbedder())
        documents = [Document(page_content=word) for word in ("one", "two", "three", "four", "five")]
        return {"vectorstore": JinaClipVectorStore.from_documents(documents, embeddings)}

    @property
    def retriever_query_example(self):
        return "three"


@pytest.mark.parametrize("search_type", SEARCH_TYPES)
def test_each_search_type_takes_its_query_and_finds_its_kind(search_type, pictures):
    vectors = over(InMemoryStore(TILED))
    vectors.add_texts(["one", "two"])
    vectors.add_images(pictures)
    wanted = SEARCH_TYPES[search_type]
    found = vectors.as_retriever(search_type=search_type, k=9).invoke("one" if wanted.query == "text" else pictures[0])
    assert len(found) == (2 if wanted.modality == "text" else 3)
    assert all(("box" in document.metadata) == (wanted.modality == "image") for document in found)


async def test_a_retriever_takes_k_and_options_in_three_places(documents):
    documents.add_texts(list("abcdef"), [{"n": n} for n in range(6)])
    assert len(documents.as_retriever().invoke("a")) == 4
    retriever = documents.as_retriever(search_kwargs={"k": 3, "filter": {"n": {"lt": 5}}})
    assert len(retriever.invoke("a")) == 3
    assert len(await retriever.ainvoke("a", k=9)) == 5
    assert len(documents.as_retriever(k=2, search_kwargs={"k": 3}).invoke("a")) == 2
    assert len(retriever.invoke("a", filter={"n": {"lt": 1}})) == 1
    assert len(documents.as_retriever(search_type="mmr", k=2).invoke("a")) == 2
    assert retriever.tags == ["JinaClipVectorStore", "JinaClipEmbeddings"]


@pytest.mark.parametrize(
    "options",
    [{"search_type": "images"}, {"serch_type": "mmr"}, {"k": 0}, {"search_type": "similarity_score_threshold"}],
)
def test_a_retriever_that_cannot_work_is_not_made(documents, options):
    with pytest.raises(ValidationError):
        documents.as_retriever(**options)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("aadd_texts", (["a"],)),
        ("aadd_documents", ([Document("a")],)),
        ("aadd_images", (["PICTURE"],)),
        ("asimilarity_search", ("a",)),
        ("asimilarity_search_with_score", ("a",)),
        ("asimilarity_search_with_relevance_scores", ("a",)),
        ("asimilarity_search_by_image", ("PICTURE",)),
        ("asimilarity_search_image", ("PICTURE",)),
        ("asimilarity_search_by_image_with_score", ("PICTURE",)),
        ("amax_marginal_relevance_search", ("a",)),
        ("amax_marginal_relevance_search_by_image", ("PICTURE",)),
        ("asearch", ("a", "text_to_image")),
    ],
)
async def test_the_event_loop_goes_on_while_a_coroutine_works(method, arguments, pictures):
    vectors = over(InMemoryStore(PLAIN))
    needing_the_loop(vectors.embeddings.embedder, "embed_texts", "embed_query", "embed_images")
    given = [pictures[0] if each == "PICTURE" else pictures[:1] if each == ["PICTURE"] else each for each in arguments]
    result = await getattr(vectors, method)(*given)
    assert result == await asyncio.to_thread(getattr(vectors, method.removeprefix("a")), *given)


async def test_coroutines_by_vector_give_what_their_twins_give(documents, pictures):
    documents.add_texts(["one", "two"])
    vector = documents.embeddings.embed_query("one")
    for name in (
        "similarity_search_by_vector",
        "similarity_search_with_score_by_vector",
        "max_marginal_relevance_search_by_vector",
    ):
        assert await getattr(documents, f"a{name}")(vector, k=1) == getattr(documents, name)(vector, k=1)
    documents.add_images(pictures)
    ids = ids_of(documents.similarity_search("one", k=9))
    assert await documents.aget_by_ids(ids) == documents.get_by_ids(ids)
    assert await documents.adelete(ids) is True
    assert documents.get_by_ids(ids) == []


def test_the_example_shows_the_right_note_and_the_right_picture(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:] == ["  text: a red circle means that you must stop", " image: stop.png", "answer: You must stop."]
