"""LangChain's vector store over every store of this package: LangChain's own suite, and images and tiles."""

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from PIL import Image

from jclip_connectors.langchain import JinaClipVectorStore, image_document
from tests.every_store.live_stores import EACH_STORE, LIVE_STORES, OverOneStore
from tests.langchain.parts import SUITE, TILED, ids_of, over, pictures

__all__ = ["pictures"]


class _Standard(OverOneStore, VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, open_store):
        return JinaClipVectorStore(open_store(SUITE), self.get_embeddings())


class TestStandardInMemory(_Standard):
    name = "memory"


class TestStandardQdrantEdge(_Standard):
    name = "edge"


class TestStandardQdrant(_Standard):
    name = "qdrant"


class TestStandardWeaviate(_Standard):
    name = "weaviate"


class TestStandardPinecone(_Standard):
    name = "pinecone"


class TestStandardPgVector(_Standard):
    name = "pgvector"


class TestStandardLanceDb(_Standard):
    name = "lancedb"


@pytest.mark.slow
class TestStandardMilvus(_Standard):
    name = "milvus"


@pytest.mark.slow
class TestStandardChroma(_Standard):
    name = "chroma"


@pytest.mark.slow
class TestStandardChromaOfAServer(_Standard):
    name = "chroma-server"


@pytest.fixture(scope="module", params=EACH_STORE)
def open_any(request):
    with LIVE_STORES[request.param]() as open_store:
        yield open_store


@pytest.fixture
def everywhere(open_any):
    """A vector store with tiles over each of the stores."""
    return over(open_any(TILED))


def test_texts_and_images_lie_side_by_side_and_come_back_as_they_were(everywhere, pictures):
    texts = everywhere.add_texts(["one", "two"], [{"n": 1, "nested": {"a": [None, 2.5]}}, {"uri": "mine"}])
    images = everywhere.add_images(pictures[:2], [{"n": 3}, {}], ids=["a", "b"])
    assert images == ["a", "b"]
    one, two, a, b = everywhere.get_by_ids([*texts, "absent", *images])
    assert one == Document("one", id=texts[0], metadata={"n": 1, "nested": {"a": [None, 2.5]}})
    assert two == Document("two", id=texts[1], metadata={"uri": "mine"})
    assert a.page_content == pictures[0]
    assert a.metadata.pop("content_hash").startswith("sha256:")
    assert a.metadata == {"n": 3, "modality": "image", "uri": pictures[0]}
    assert (b.id, b.metadata["uri"]) == ("b", pictures[1])


def test_an_image_is_found_by_itself_and_by_its_tile_which_comes_as_a_box(everywhere, pictures):
    everywhere.add_images(pictures, ids=["a", "b", "c"])
    everywhere.add_texts(["a text"])
    right = Image.open(pictures[1]).crop((6, 0, 12, 8))
    (found, score), *_ = everywhere.similarity_search_by_image_with_score(right, k=2, modality="image")
    assert (found.id, found.metadata["box"]) == ("b", [6, 0, 12, 8])
    assert score == pytest.approx(1, abs=1e-5)
    (whole, _), *_ = everywhere.similarity_search_by_image_with_score(right, k=2, modality="image", tiles=False)
    assert "box" not in whole.metadata
    assert ids_of(everywhere.similarity_search_by_image(pictures[2], k=1, modality="image")) == ["c"]
    assert everywhere.similarity_search_image(pictures[2], 1) == everywhere.similarity_search_by_image(pictures[2], 1)


def test_a_caption_is_the_page_content_of_an_image_and_comes_back(everywhere, pictures):
    given = image_document(pictures[0], caption="a caption", metadata={"n": 1})
    (image,) = everywhere.add_documents([given])
    (back,) = everywhere.get_by_ids([image])
    assert back.model_copy(update={"id": None}) == given
    (hit,) = everywhere.similarity_search_by_image(pictures[0], k=1, modality="image")
    assert (hit.page_content, hit.metadata["n"]) == ("a caption", 1)


def test_what_was_found_can_be_added_again_as_it_is(everywhere, pictures):
    everywhere.add_texts(["one"], [{"n": 1}])
    everywhere.add_images(pictures[:1])
    found = everywhere.similarity_search("one", k=2)
    assert {"box" in document.metadata for document in found} == {True, False}
    assert everywhere.add_documents(found) == ids_of(found)
    assert everywhere.similarity_search("one", k=5) == found
    assert all("box" not in document.metadata for document in everywhere.get_by_ids(ids_of(found)))


def test_marginal_relevance_passes_over_what_says_the_same(everywhere, pictures):
    everywhere.add_texts(["red bicycle", "red bicycle now", "red car"], ids=["a", "b", "c"])
    everywhere.add_images([*pictures[:2], Image.open(pictures[0])], ids=["i", "j", "k"])
    diverse = {"k": 2, "lambda_mult": 0.3, "modality": "text"}
    assert ids_of(everywhere.similarity_search("red bicycle", k=2, modality="text")) == ["a", "b"]
    assert ids_of(everywhere.max_marginal_relevance_search("red bicycle", **diverse)) == ["a", "c"]
    vector = everywhere.embeddings.embed_query("red bicycle")
    assert ids_of(everywhere.max_marginal_relevance_search_by_vector(vector, **diverse)) == ["a", "c"]
    by_image = everywhere.max_marginal_relevance_search_by_image(pictures[0], k=2, lambda_mult=0.3, modality="image")
    assert ids_of(by_image) == ["i", "j"]
    assert by_image[0].metadata["box"] == [0, 0, 12, 8]


def test_a_filter_limits_what_is_found_and_what_is_deleted(everywhere, pictures):
    everywhere.add_texts(["one", "two", "three"], [{"n": 1}, {"n": 2}, {"n": 3}], ids=["1", "2", "3"])
    everywhere.add_images(pictures[:1], [{"n": 1}], ids=["i"])
    assert set(ids_of(everywhere.similarity_search("one", k=9, filter={"n": {"lt": 2}}))) == {"1", "i"}
    odd = {"or": [{"n": 1}, {"n": 3}]}
    assert ids_of(everywhere.max_marginal_relevance_search("one", filter=odd, modality="text", k=9)) == ["1", "3"]
    assert everywhere.delete(filter={"n": {"gte": 2}}) is True
    assert {found.id for found in everywhere.get_by_ids(["1", "2", "3", "i"])} == {"1", "i"}
    assert everywhere.delete() is True
    assert everywhere.get_by_ids(["1", "i"]) == []


def test_index_skips_what_is_known_and_cleans_up_what_is_gone(everywhere, pictures):
    manager = InMemoryRecordManager(namespace="test")
    manager.create_schema()

    def run(cleanup):
        texts = [Document(text, metadata={"uri": f"{text}.txt"}) for text in ("one", "two")]
        found = [*texts, *(image_document(path, metadata={"n": 1}) for path in pictures)]
        result = index(found, manager, everywhere, cleanup=cleanup, source_id_key="uri", key_encoder="sha256")
        return result["num_added"], result["num_skipped"], result["num_deleted"]

    assert run("incremental") == (5, 0, 0)
    assert run("incremental") == (0, 5, 0)
    Image.open(pictures[0]).rotate(180).save(pictures[0])
    assert run("incremental") == (1, 4, 1)
    gone = pictures.pop()
    assert run("full") == (0, 4, 1)
    left = everywhere.similarity_search("one", k=9)
    assert {found.metadata["uri"] for found in left} == {"one.txt", "two.txt", *pictures}
    assert gone not in pictures
