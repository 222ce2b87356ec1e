"""What LangChain's vector store does beyond LangChain's suite, whatever the store beneath."""

import copy
import dataclasses

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex
from langchain_core.load import dumps

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    PartialFailureError,
    StoreUnavailableError,
)
from jclip_connectors.langchain import JinaClipEmbeddings, JinaClipVectorStore, image_document
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import NativeFilter
from jclip_connectors.testing import HashEmbedder
from tests.langchain.parts import PLAIN, SUITE, TILED, documents, ids_of, over, pictures

__all__ = ["documents", "pictures"]


class Foreign(DeterministicFakeEmbedding):
    """Someone else's embeddings of texts and images."""

    def embed_images(self, uris):
        return [self.embed_query(str(uri)) for uri in uris]


class Failing(InMemoryStore):
    """A store that fails in the upserts that `failures` has an error for, by their number."""

    def __init__(self, failures):
        super().__init__(PLAIN)
        self.failures = failures
        self.upserts = 0

    def upsert(self, records):
        self.upserts += 1
        if self.upserts in self.failures:
            raise self.failures[self.upserts]
        super().upsert(records)


def test_texts_and_images_together_have_cosines_as_scores(documents, pictures):
    documents.add_texts(["red one", "red two", "red three"], ids=["1", "2", "3"])
    documents.add_images(pictures, ids=["a", "b", "c"])
    together = {found.id: score for found, score in documents.similarity_search_with_score("red one", k=9)}
    assert next(iter(together)) == "1"
    for modality in ("text", "image"):
        alone = documents.similarity_search_with_score("red one", k=9, modality=modality)
        assert [(found.id, score) for found, score in alone] == [
            (record_id, score) for record_id, score in together.items() if record_id.isdigit() == (modality == "text")
        ]


async def test_a_threshold_keeps_what_it_kept_when_the_first_picture_is_added(documents, pictures):
    documents.add_texts(["red one", "something else"], ids=["1", "2"])
    options = {"score_threshold": 0.9, "k": 1}
    retriever = documents.as_retriever(search_type="similarity_score_threshold", search_kwargs=options)
    assert [found.id for found in retriever.invoke("red one")] == ["1"]
    documents.add_images(pictures, ids=["a", "b", "c"])
    assert [found.id for found in retriever.invoke("red one")] == ["1"]
    assert [found.id for found in await retriever.ainvoke("red one")] == ["1"]
    ((_, relevance),) = documents.similarity_search_with_relevance_scores("red one", score_threshold=0.9)
    assert relevance == pytest.approx(1)


def test_a_threshold_is_a_cosine_in_searches_with_scores_and_a_relevance_in_others(documents):
    documents.add_texts(["red one", "red two", "something else"], ids=["1", "2", "3"])
    cosines = {found.id: score for found, score in documents.similarity_search_with_score("red one")}
    least = cosines["2"]
    assert len(documents.similarity_search("red one", score_threshold=least)) == 2
    found = documents.similarity_search_with_relevance_scores("red one", score_threshold=(1 + least) / 2 - 1e-6)
    assert [(each.id, score) for each, score in found] == [
        ("1", pytest.approx(1)),
        ("2", pytest.approx((1 + least) / 2)),
    ]
    for bad in (-0.5, 1.5, "0.5", True):
        with pytest.raises(EmbedInputError, match=r"`score_threshold`.*0 to 1"):
            documents.similarity_search_with_relevance_scores("red one", score_threshold=bad)


def test_one_search_is_enough_where_the_embeddings_know_no_images():
    asked = []

    class Counting(InMemoryStore):
        def search(self, embedding, **options):
            asked.append(options["modality"])
            return super().search(embedding, **options)

    JinaClipVectorStore(Counting(SUITE), DeterministicFakeEmbedding(size=6)).similarity_search("a")
    assert asked == [None]


def test_scores_by_vector_are_those_by_text(documents):
    documents.add_texts(["one", "two"])
    vector = documents.embeddings.embed_query("one")
    assert documents.similarity_search_with_score_by_vector(vector) == documents.similarity_search_with_score("one")
    assert documents.similarity_search_by_vector(vector, k=1) == documents.similarity_search("one", k=1)


def test_relevance_is_from_0_to_1_and_a_threshold_cuts(documents, pictures):
    documents.add_texts(["red", "green blue"], ids=["1", "2"])
    documents.add_images(pictures[:1])
    found = documents.similarity_search_with_relevance_scores("red", k=9)
    assert found[0][0].id == "1"
    assert all(0 <= score <= 1 for _, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    retriever = documents.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.95, "k": 9}
    )
    assert ids_of(retriever.invoke("red")) == ["1"]


def test_documents_without_ids_are_told_apart_by_content_and_metadata(documents):
    given = [Document("same", metadata={"page": 1}), Document("same", metadata={"page": 2}), Document("same")]
    first = documents.add_documents(given)
    assert len(set(first)) == 3
    assert documents.add_documents(given) == first
    assert documents.add_texts(["same"] * 2, [{"page": 1}, {"page": 2}]) == first[:2]
    assert len(documents.similarity_search("same", k=9)) == 3


def test_a_text_without_metadata_has_the_id_that_a_collection_gives_it(documents):
    ids = MultimodalCollection(HashEmbedder(PLAIN), InMemoryStore(PLAIN)).add_texts(["same"]).ids
    assert documents.add_texts(["same"]) == list(ids)


def test_given_ids_count_more_than_the_documents_own(documents):
    given = [Document("one", id="own"), Document("two", id="other"), Document("three")]
    ids = documents.add_documents(given, ids=["given", None, None])
    assert ids[:2] == ["given", "other"]
    assert [found.page_content for found in documents.get_by_ids(ids)] == ["one", "two", "three"]


def test_of_one_id_given_twice_the_last_document_is_kept(documents):
    assert documents.add_texts(["one", "two", "three"], ids=["a", "b", "a"], batch_size=2) == ["a", "b", "a"]
    assert [found.page_content for found in documents.get_by_ids(["a", "b"])] == ["three", "two"]


def test_documents_stay_as_they_are(documents, pictures):
    given = [Document("one", metadata={"nested": {"a": [1]}}), image_document(pictures[0], metadata={"n": 1})]
    before = copy.deepcopy(given)
    (text, _) = documents.add_documents(given)
    given_back = documents.get_by_ids([text])[0]
    given_back.metadata["nested"]["a"].append(2)
    assert given == before
    assert documents.get_by_ids([text])[0].metadata == before[0].metadata


def test_texts_may_come_from_a_generator(documents):
    assert documents.add_texts((text for text in ("one", "two")), ids=["a", "b"]) == ["a", "b"]
    assert len(documents.get_by_ids(["a", "b"])) == 2


@pytest.mark.parametrize("store", [None, InMemoryStore(PLAIN)], ids=["in memory", "a store"])
async def test_one_call_makes_a_store_of_texts_or_documents(store, pictures):
    embeddings = JinaClipEmbeddings.from_embedder(HashEmbedder(PLAIN))
    made = JinaClipVectorStore.from_texts(["one", "two"], embeddings, [{"n": 1}, {}], ids=["1", "2"], store=store)
    assert made.similarity_search("one", k=1) == [Document("one", id="1", metadata={"n": 1})]
    mixed = [Document("three", id="3"), image_document(pictures[0])]
    made = JinaClipVectorStore.from_documents(mixed, embeddings, store=store, ids=[None, "i"])
    assert ids_of(made.similarity_search_by_image(pictures[0], k=1, modality="image")) == ["i"]
    made = await JinaClipVectorStore.afrom_documents(mixed, embeddings, store=store)
    assert ids_of(await made.asimilarity_search("three", k=1, modality="text")) == ["3"]
    made = await JinaClipVectorStore.afrom_texts(["four"], embeddings, ids=["4"], store=store)
    assert ids_of(made.get_by_ids(["4"])) == ["4"]


def test_a_store_of_another_configuration_is_refused_with_both_values():
    with pytest.raises(CollectionMismatchError, match=r"`dimensions` 24 \(now 16\)") as caught:
        over(InMemoryStore(dataclasses.replace(PLAIN, dimensions=24)))
    assert (caught.value.stored["dimensions"], caught.value.requested["dimensions"]) == (24, 16)
    with pytest.raises(CollectionMismatchError, match="`tiling`"):
        JinaClipVectorStore(InMemoryStore(TILED), JinaClipEmbeddings.from_embedder(HashEmbedder(PLAIN)))


def test_the_model_is_not_loaded_before_it_is_needed():
    config = EmbeddingConfig(model="someone/else", revision="0" * 40, dimensions=8)
    embeddings = JinaClipEmbeddings(model="someone/else", revision="0" * 40, dimensions=8)
    assert JinaClipVectorStore(InMemoryStore(config), embeddings).get_by_ids(["a"]) == []


def test_any_embeddings_do_for_texts_and_those_with_embed_images_for_images(pictures):
    texts = JinaClipVectorStore.from_texts(["one"], DeterministicFakeEmbedding(size=6))
    with pytest.raises(EmbedInputError, match="DeterministicFakeEmbedding, which has no `embed_images`"):
        texts.add_documents([Document("two", id="2"), image_document(pictures[0])])
    assert texts.get_by_ids(["2"]) == []
    both = JinaClipVectorStore.from_texts(["one"], Foreign(size=6), ids=["1"])
    both.add_images(pictures, ids=["a", "b", "c"])
    assert ids_of(both.similarity_search_by_image(pictures[1], k=1, modality="image")) == ["b"]


def test_embeddings_of_another_length_than_the_stores_are_refused():
    vectors = JinaClipVectorStore(InMemoryStore(SUITE), DeterministicFakeEmbedding(size=7))
    with pytest.raises(EmbedInputError, match=r"\(7,\), not \(6,\)"):
        vectors.add_texts(["one"])
    with pytest.raises(EmbedInputError, match=r"\(7,\), not \(6,\)"):
        vectors.similarity_search("one")


def test_embeddings_that_lose_a_text_are_refused():
    class Losing(DeterministicFakeEmbedding):
        def embed_documents(self, texts):
            return super().embed_documents(texts[1:])

    vectors = JinaClipVectorStore(InMemoryStore(SUITE), Losing(size=6))
    with pytest.raises(EmbedInputError, match="1 vectors for 2 items"):
        vectors.add_texts(["one", "two"], ids=["1", "2"])
    assert vectors.get_by_ids(["1", "2"]) == []


def test_images_that_cannot_be_read_are_reported_and_the_others_are_kept(documents, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    given = [pictures[0], str(tmp_path / "absent.png"), str(tmp_path / "broken.png"), pictures[1]]
    with pytest.raises(PartialFailureError, match="2 of 4 documents failed") as caught:
        documents.add_images(given, ids=["a", "b", "c", "d"], batch_size=3)
    assert caught.value.kept == {0: "a", 3: "d"}
    assert sorted(caught.value.failed) == [1, 2]
    assert "absent.png" in str(caught.value.failed[1])
    assert ids_of(documents.get_by_ids(["a", "b", "c", "d"])) == ["a", "d"]


def test_what_the_store_refuses_is_reported_by_position():
    refusal = PartialFailureError("records", failed={1: EmbedInputError("too large")}, kept={0: None})
    with pytest.raises(PartialFailureError) as caught:
        over(Failing({2: refusal})).add_texts(list("abcd"), ids=list("abcd"), batch_size=2)
    assert caught.value.kept == {0: "a", 1: "b", 2: "c"}
    assert str(caught.value.failed[3]) == "too large"


def test_a_store_that_goes_down_between_batches_leaves_a_full_report():
    down = StoreUnavailableError("it is down")
    vectors = over(Failing({2: down}))
    with pytest.raises(PartialFailureError) as caught:
        vectors.add_texts(list("abcde"), ids=list("abcde"), batch_size=2)
    assert caught.value.kept == {0: "a", 1: "b"}
    assert caught.value.failed == dict.fromkeys([2, 3, 4], down)
    assert ids_of(vectors.get_by_ids(list("abcde"))) == ["a", "b"]


def test_a_store_that_is_down_from_the_start_is_said_to_be_down():
    with pytest.raises(StoreUnavailableError, match="it is down"):
        over(Failing({1: StoreUnavailableError("it is down")})).add_texts(["a", "b"], batch_size=1)


async def test_index_works_asynchronously_too(documents, pictures):
    manager = InMemoryRecordManager(namespace="test")
    await manager.acreate_schema()
    given = [image_document(path) for path in pictures]
    result = await aindex(given, manager, documents, cleanup="full", key_encoder="sha256")
    assert result["num_added"] == 3
    result = await aindex(given[:1], manager, documents, cleanup="full", key_encoder="sha256")
    assert (result["num_skipped"], result["num_deleted"]) == (1, 2)


BAD_CALLS = {
    "one text": (lambda v: v.add_texts("one"), "`texts` is one str"),
    "a text that is none": (lambda v: v.add_texts(["one", 7]), r"`texts`\[1\] is int"),
    "one image": (lambda v: v.add_images("a.png"), "`uris` is one str"),
    "one document": (lambda v: v.add_documents(Document("one")), "`documents` is one Document"),
    "no document": (lambda v: v.add_documents([Document("one"), "two"]), r"`documents`\[1\] is str"),
    "too few ids": (lambda v: v.add_texts(["one", "two"], ids=["1"]), "`ids` has 1 entries for 2"),
    "ids that are one": (lambda v: v.add_texts(["one"], ids="1"), "`ids` is one str"),
    "too many metadatas": (lambda v: v.add_texts(["one"], [{}, {}]), "`metadatas` has 2 entries for 1"),
    "an empty id": (lambda v: v.add_texts(["one", "two"], ids=["1", ""]), r"the id of `texts`\[1\] is ''"),
    "an id that is a number": (lambda v: v.add_documents([Document("one")], ids=[7]), r"`documents`\[0\] is 7"),
    "a NaN in metadata": (lambda v: v.add_texts(["one"], [{"a": float("nan")}]), r"`metadata` of `texts`\[0\]\['a'\]"),
    "a set in metadata": (lambda v: v.add_documents([Document("one", metadata={"a": {1}})]), r"\['a'\] is not JSON"),
    "a reserved key": (lambda v: v.add_images(["a.png"], [{"uri": "x"}]), "has the key 'uri'"),
    "a text marked as image": (lambda v: v.add_texts(["one"], [{"modality": "image"}]), "which marks images"),
    "an image without uri": (
        lambda v: v.add_documents([Document("one", metadata={"modality": "image"})]),
        "its `uri` is None",
    ),
    "an unknown option of add": (lambda v: v.add_texts(["one"], batchsize=3), "unknown option `batchsize`"),
    "no batch": (lambda v: v.add_texts(["one"], batch_size=0), "`batch_size` is 0"),
    "no k": (lambda v: v.similarity_search("one", k=0), "`k` is 0"),
    "k that is no number": (lambda v: v.similarity_search("one", k="4"), "`k` is '4'"),
    "no fetch_k": (lambda v: v.max_marginal_relevance_search("one", fetch_k=0), "`fetch_k` is 0"),
    "a lambda out of range": (lambda v: v.max_marginal_relevance_search("one", lambda_mult=2), "`lambda_mult` is 2"),
    "a query that is no text": (lambda v: v.similarity_search(b"one"), "`query` is bytes"),
    "an unknown option of search": (lambda v: v.similarity_search("one", filters={}), "unknown option `filters`"),
    "an unknown modality": (lambda v: v.similarity_search("one", modality="audio"), "`modality` is 'audio'"),
    "an unknown operator": (lambda v: v.similarity_search("one", filter={"a": {"like": 1}}), "unknown operator 'like'"),
    "a foreign filter": (lambda v: v.similarity_search("one", filter=NativeFilter({})), "NativeFilter"),
    "tiles without tiling": (lambda v: v.search("one", "tiles"), "`tiles` is True"),
    "an unknown search type": (lambda v: v.search("one", "images"), "use one of similarity, .*, text_to_image"),
    "a vector with a NaN": (lambda v: v.similarity_search_by_vector([float("nan")] * 16), "NaN"),
    "a vector of another length": (lambda v: v.similarity_search_by_vector([1.0]), r"\(1,\), not \(16,\)"),
    "an image that is absent": (lambda v: v.similarity_search_by_image("/no/a.png"), "`uri` cannot be .*/no/a.png"),
    "an unknown option of delete": (lambda v: v.delete(where={"a": 1}), "unknown option `where`"),
    "two ways to delete": (lambda v: v.delete(["kept"], filter={}), "one of `ids` and `where`"),
    "an id that none can have": (lambda v: v.get_by_ids([""]), r"`ids`\[0\]"),
    "embeddings that are none": (lambda v: JinaClipVectorStore(InMemoryStore(PLAIN), v), "not one of LangChain's"),
    "a reserved key of an image": (lambda _: image_document("a.png", metadata={"box": 1}), "has the key 'box'"),
    "an image document of no file": (lambda _: image_document("/no/a.png"), "no file '/no/a.png'"),
}


@pytest.mark.parametrize("what", BAD_CALLS)
def test_a_call_that_cannot_be_done_is_refused_by_name_and_changes_nothing(documents, what):
    documents.add_texts(["kept"], ids=["kept"])
    call, named = BAD_CALLS[what]
    with pytest.raises(EmbedInputError, match=named):
        call(documents)
    assert documents.similarity_search("kept", k=9) == [Document("kept", id="kept")]


def test_nothing_that_is_secret_is_shown():
    class Remote(HashEmbedder):
        api_key = "sk-secret"

    class Store(Failing):
        url = "https://user:secret@host"

    url = "https://user:secret@host/a.png"
    vectors = over(Store({1: StoreUnavailableError("it is down")}), Remote)
    retriever = vectors.as_retriever()
    shown = [repr(vectors), repr(retriever), dumps(retriever), repr(vectors.embeddings)]
    for call in (
        lambda: vectors.add_texts(["one"]),
        lambda: vectors.add_images([url]),
        lambda: vectors.add_documents([Document("", metadata={"modality": "image", "uri": url})]),
        lambda: image_document(url),
        lambda: JinaClipVectorStore.from_texts([], JinaClipEmbeddings(model="nano")).similarity_search_by_image(url),
    ):
        with pytest.raises(ConnectorError) as caught:
            call()
        shown.append(f"{caught.value!r} {caught.value}")
    assert [each for each in shown if "secret" in each] == []
