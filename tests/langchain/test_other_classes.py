"""Classes of LangChain around ours: retrievers, filters and rerankers that know documents by content or metadata."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from langchain_classic.chains.query_constructor.schema import AttributeInfo
from langchain_classic.retrievers import (
    EnsembleRetriever,
    MultiVectorRetriever,
    ParentDocumentRetriever,
    SelfQueryRetriever,
    TimeWeightedVectorStoreRetriever,
)
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.stores import InMemoryStore as InMemoryDocuments
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery
from langchain_text_splitters import CharacterTextSplitter

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.langchain import JinaClipTranslator, image_document
from tests.langchain.parts import documents, ids_of, pictures

__all__ = ["documents", "pictures"]

# langchain_core calls pydantic's older functions for its classic classes.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


def test_pictures_have_content_that_tells_them_apart(documents, pictures):
    documents.add_documents([image_document(pictures[0], caption="a caption"), image_document(pictures[1])])
    (without_path,) = documents.add_images([Path(pictures[2]).read_bytes()])
    found = documents.similarity_search("a", k=3, modality="image")
    assert {each.page_content for each in found} == {"a caption", pictures[1], without_path}


def test_a_picture_that_was_found_is_added_again_as_the_same_picture(documents, pictures):
    (image,) = documents.add_documents([image_document(pictures[0], metadata={"n": 1})])
    before = documents.get_by_ids([image])
    retrieved = documents.as_retriever(search_type="text_to_image").invoke("a")
    assert documents.add_documents(retrieved) == [image]
    assert documents.get_by_ids([image]) == before
    (hit,) = documents.similarity_search_by_image(pictures[0], k=1)
    assert (hit.metadata["n"], hit.metadata["modality"], "record_id" in hit.metadata) == (1, "image", False)


def test_texts_and_pictures_of_a_retriever_have_their_id_in_the_metadata(documents, pictures):
    texts = documents.add_texts(["one", "two"], [{"record_id": "of the user"}, {}])
    images = documents.add_images(pictures[:2])
    notes = {each.id: each for each in documents.as_retriever(search_type="text_to_text").invoke("one")}
    assert [notes[each].metadata["record_id"] for each in texts] == ["of the user", texts[1]]
    found = documents.as_retriever(search_type="text_to_image").invoke("one")
    assert {each.metadata["record_id"] for each in found} == set(images)
    assert documents.add_documents([*notes.values()]) == list(notes)
    assert documents.get_by_ids(texts)[0].metadata == {"record_id": "of the user"}
    assert documents.get_by_ids(texts)[1].metadata == {}


@pytest.mark.parametrize("id_key", [None, "record_id"])
def test_an_ensemble_keeps_every_picture(documents, pictures, id_key):
    documents.add_images(pictures)
    documents.add_texts(["one", "two"])
    retrievers = [documents.as_retriever(search_type=kind) for kind in ("text_to_image", "text_to_text")]
    found = EnsembleRetriever(retrievers=retrievers, weights=[0.5, 0.5], id_key=id_key).invoke("one")
    assert len(found) == 5
    assert sum(each.metadata.get("modality") == "image" for each in found) == 3


async def test_an_ensemble_of_async_retrievers_keeps_every_picture(documents, pictures):
    documents.add_images(pictures)
    retrievers = [documents.as_retriever(search_type="text_to_image")]
    found = await EnsembleRetriever(retrievers=retrievers, weights=[1.0], id_key="record_id").ainvoke("one")
    assert len(found) == 3


def test_datetimes_stay_with_the_time_weighted_retriever_through_its_life(documents):
    retriever = TimeWeightedVectorStoreRetriever(vectorstore=documents, decay_rate=0.01, k=2)
    before = datetime.now() - timedelta(days=1)
    retriever.add_documents([Document("one", metadata={"last_accessed_at": before}), Document("two")])
    for _ in range(2):
        found = retriever.invoke("one")
        assert {each.page_content for each in found} == {"one", "two"}
        assert all(isinstance(each.metadata["last_accessed_at"], datetime) for each in found)
    retriever.add_documents([Document("three")])
    assert len(retriever.invoke("three")) == 2
    (stored,) = documents.similarity_search("one", k=1)
    assert stored.metadata["last_accessed_at"] == before.isoformat()


def test_a_parent_document_is_found_by_its_parts(documents):
    retriever = ParentDocumentRetriever(
        vectorstore=documents,
        docstore=InMemoryDocuments(),
        child_splitter=CharacterTextSplitter(chunk_size=12, chunk_overlap=0, separator=" "),
    )
    parent = Document("a red circle and a blue square", metadata={"day": datetime(2024, 1, 31, tzinfo=UTC)})
    retriever.add_documents([parent], ids=["parent"])
    (found,) = retriever.invoke("a red")
    assert found.page_content == parent.page_content


def test_pictures_stand_for_other_documents_in_a_multi_vector_retriever(documents, pictures):
    retriever = MultiVectorRetriever(vectorstore=documents, docstore=InMemoryDocuments(), id_key="doc")
    summaries = [image_document(path, metadata={"doc": name}) for path, name in zip(pictures, "abc", strict=True)]
    documents.add_documents(summaries)
    retriever.docstore.mset([(name, Document(f"report {name}")) for name in "abc"])
    found = retriever.invoke("a")
    assert {each.page_content for each in found} == {"report a", "report b", "report c"}


def self_query(documents, condition):
    answer = "```json\n" + json.dumps({"query": "red", "filter": condition}) + "\n```"
    return SelfQueryRetriever.from_llm(
        FakeListChatModel(responses=[answer]),
        documents,
        "notes",
        [AttributeInfo(name=name, description=name, type="string") for name in ("year", "tag", "day", "free")],
        structured_query_translator=JinaClipTranslator(),
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('gt("year", 2020)', ["new"]),
        ('gte("year", 2019)', ["new", "old"]),
        ('lt("year", 2020)', ["old"]),
        ('lte("year", 2024)', ["new", "old"]),
        ('eq("tag", "a")', ["new"]),
        ('ne("tag", "a")', ["none", "old"]),
        ('contain("tag", "c")', ["old"]),
        ('in("tag", ["a", "c"])', ["new", "old"]),
        ('nin("tag", ["a", "c"])', ["none"]),
        ('and(gt("year", 2000), or(eq("tag", "c"), eq("tag", "z")))', ["old"]),
        ('not(eq("year", 2019))', ["new", "none"]),
        ('eq("day", "2024-01-31")', ["new"]),
        ('eq("free", true)', ["old"]),
        ("NO_FILTER", ["new", "none", "old"]),
    ],
)
def test_a_self_query_asks_with_every_comparator_that_a_filter_has(documents, condition, expected):
    documents.add_texts(
        ["one", "two", "three"],
        [
            {"year": 2024, "tag": "a", "day": datetime(2024, 1, 31).date()},
            {"year": 2019, "tag": ["b", "c"], "free": True},
            {},
        ],
        ids=["new", "old", "none"],
    )
    assert sorted(ids_of(self_query(documents, condition).invoke("red"))) == expected


def compare(comparator, field, value):
    return Comparison(comparator=comparator, attribute=field, value=value)


def test_a_date_of_the_parser_is_the_text_that_metadata_has():
    translator = JinaClipTranslator()
    for value in ({"date": "2024-01-31", "type": "date"}, datetime(2024, 1, 31).date()):
        assert compare(Comparator.EQ, "day", value).accept(translator) == {"day": {"eq": "2024-01-31"}}
    with pytest.raises(EmbedInputError, match="keep a date as a number"):
        compare(Comparator.GT, "day", {"date": "2024-01-31", "type": "date"}).accept(translator)


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        (compare(Comparator.LIKE, "tag", "a"), "`?like`?|'like' of 'tag' is not supported: use one of eq, ne"),
        (compare(Comparator.GT, "tag", "a"), "'gt' of 'tag' compares numbers"),
        (compare(Comparator.EQ, "not", "a"), "'not' has the name of an operator"),
        (compare(Comparator.EQ, "tag", {"a": 1}), "takes a string, number, bool or null"),
        (Operation(operator=Operator.AND, arguments=[]), "`and` of the query has no conditions"),
        (Operation(operator=Operator.NOT, arguments=[]), "`not` takes one condition, and the query has 0"),
    ],
)
def test_what_no_filter_can_say_is_refused_in_one_sentence(directive, message):
    with pytest.raises((EmbedInputError, ValueError), match=message):
        JinaClipTranslator().visit_structured_query(StructuredQuery(query="red", filter=directive))
