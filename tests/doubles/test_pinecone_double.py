"""The double of Pinecone refuses what the service is documented to refuse, and is loud about what it does not know."""

import time

import httpx
import numpy as np
import pytest
from pinecone import (
    ApiError,
    ConflictError,
    DenseVectorQuery,
    NotFoundError,
    PayloadTooLargeError,
    Pinecone,
    RateLimitError,
    ServiceError,
    UnauthorizedError,
)

from tests.doubles.pinecone_rules import AnswerError, SurpriseError, matches
from tests.doubles.pinecone_server import KEY, VERSION, PineconeDouble

MANAGED = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}


def schema(field="embedding", dimension=2, metric="cosine"):
    return {"fields": {field: {"type": "dense_vector", "dimension": dimension, "metric": metric}}}


@pytest.fixture
def server():
    with PineconeDouble() as server:
        yield server


@pytest.fixture
def client(server):
    with server.connect() as client:
        yield client


def make(client, name, **options):
    client.indexes.create(name=name, schema=schema(**options), deployment=MANAGED, timeout=-1)
    return client.index(name)


@pytest.fixture
def documents(client):
    with make(client, "new") as index:
        yield index.documents


@pytest.fixture
def vectors(client):
    with make(client, "old", field="_values") as index:
        yield index


def document(name="a", values=(1.0, 0.0), **fields):
    return {"_id": name, "embedding": list(values), **fields}


def put(documents, *items):
    return documents.upsert(namespace="n", documents=list(items))


def search(documents, values=(1.0, 0.0), **options):
    clause = DenseVectorQuery(field="embedding", values=list(values))
    return documents.search(namespace="n", score_by=[clause], **{"top_k": 10, **options}).matches


def test_an_index_is_made_described_and_not_made_twice(server, client):
    make(client, "new").close()
    assert client.indexes.describe("new").schema.fields["embedding"].dimension == 2
    with pytest.raises(ConflictError):
        make(client, "new")
    with pytest.raises(NotFoundError):
        client.indexes.describe("other")
    assert server.surprises == []


def test_an_index_can_take_its_time():
    with PineconeDouble(ready_after_s=60) as server, server.connect() as client:
        make(client, "new").close()
        assert not client.indexes.describe("new").status.ready
        server.skipped_s = 60
        assert client.indexes.describe("new").status.ready


@pytest.mark.parametrize(
    "fields",
    [
        {"_v": {"type": "dense_vector", "dimension": 2, "metric": "cosine"}},
        {"v": {"type": "dense_vector", "dimension": 20_001, "metric": "cosine"}},
        {**schema()["fields"], "year": {"type": "float"}},
        {**schema()["fields"], "tags": {"type": "string_list"}},
    ],
    ids=["reserved name", "long vectors", "a number", "a list"],
)
def test_a_schema_that_cannot_be_is_refused(client, fields):
    with pytest.raises(ApiError, match="400"):
        client.indexes.create(name="new", schema={"fields": fields}, deployment=MANAGED, timeout=-1)


def test_another_key_is_refused(server):
    with Pinecone(api_key="other", host=server.url) as client, pytest.raises(UnauthorizedError):
        client.indexes.describe("new")


def test_a_document_comes_back_with_what_was_asked_for(documents):
    put(documents, document(year=2020, tags=["x"]), document("b", (0.0, 1.0)))
    first, second = search(documents)
    assert (first.id, first.score, first.get("year")) == ("a", pytest.approx(1), None)
    assert second.score == pytest.approx(0)
    (match,) = search(documents, top_k=1, include_fields=["year", "nothing"])
    assert match.to_dict().keys() == {"_id", "_score", "year"}
    assert isinstance(match.year, float)
    found = documents.fetch(namespace="n", ids=["a", "zz"]).documents
    assert found["a"].to_dict() == document(year=2020.0, tags=["x"])
    assert found.keys() == {"a"}


def test_an_upsert_replaces_the_whole_document(documents):
    put(documents, document(year=2020))
    put(documents, document())
    assert documents.fetch(namespace="n", ids=["a"]).documents["a"].get("year") is None


BAD_DOCUMENTS = {
    "another length": document(values=(1.0,)),
    "a zero vector": document(values=(0.0, 0.0)),
    "a NaN": document(values=(float("nan"), 1.0)),
    "a bool in the vector": document(values=(True, 1.0)),
    "no vector": {"_id": "a"},
    "a null": document(x=None),
    "a list of numbers": document(x=[1, 2]),
    "an object": document(x={"a": 1}),
    "a reserved name": document(_x=1),
    "an operator's name": document(**{"$x": 1}),
    "41 KB": document(x="x" * 41_000),
}


@pytest.mark.parametrize("bad", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_a_bad_document_stops_its_whole_request(server, documents, bad):
    with pytest.raises(ApiError, match="400"):
        put(documents, document("good"), bad)
    assert search(documents) == []
    assert server.surprises == []


def test_ids_are_short_ascii_and_come_once(server):
    send = sender(server)
    make_documents(server)
    for ids in (["ü"], [""], ["a" * 513], ["a\0"], [7], ["a", "a"], []):
        body = {"documents": [document(name) for name in ids]}
        assert send("POST", "/data/new/namespaces/n/documents/upsert", json=body).status_code == 400
    for route in ("fetch", "delete"):
        too_many = {"ids": [str(i) for i in range(1001)]}
        assert send("POST", f"/data/new/namespaces/n/documents/{route}", json=too_many).status_code == 400


def make_documents(server):
    with server.connect() as client:
        make(client, "new").close()


def sender(server, **headers):
    headers = {"Api-Key": KEY, "X-Pinecone-Api-Version": VERSION, **headers}
    return lambda method, path, **options: httpx.request(method, server.url + path, headers=headers, **options)


def test_a_request_of_more_than_2_mb_or_1000_documents_is_refused(server, documents):
    with pytest.raises(PayloadTooLargeError):
        put(documents, *[document(str(i), x="x" * 30_000) for i in range(100)])
    body = {"documents": [document(str(i)) for i in range(1001)]}
    assert sender(server)("POST", "/data/new/namespaces/n/documents/upsert", json=body).status_code == 400


def test_a_result_of_more_than_4_mb_is_refused(documents):
    for part in range(3):
        put(documents, *[document(f"{part}-{i}", x="x" * 40_000) for i in range(45)])
    assert len(search(documents, top_k=135)) == 135
    with pytest.raises(ApiError, match="4 MB"):
        search(documents, top_k=135, include_fields=["x"])


def test_queries_are_checked(server, documents):
    for values in ((1.0,), (0.0, 0.0)):
        with pytest.raises(ApiError, match="400"):
            search(documents, values)
    for top_k in (0, 10_001):
        clause = {"type": "dense_vector", "field": "embedding", "values": [1.0, 0.0]}
        body = {"score_by": [clause], "top_k": top_k}
        assert sender(server)("POST", "/data/new/namespaces/n/documents/search", json=body).status_code == 400


ITEM = {"n": 2.0, "s": "x", "tags": ["x", "y"], "b": True}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"n": 2}, True),
        ({"n": {"$eq": 2.0}}, True),
        ({"n": {"$ne": 3}}, True),
        ({"n": {"$gt": 1, "$lt": 2}}, False),
        ({"n": {"$gte": 2, "$lte": 2}}, True),
        ({"s": {"$in": ["x", "z"]}}, True),
        ({"s": {"$nin": ["x"]}}, False),
        ({"tags": "y"}, True),
        ({"tags": {"$in": ["z", "y"]}}, True),
        ({"tags": {"$nin": ["z"]}}, True),
        ({"tags": {"$nin": ["z", "y"]}}, False),
        ({"b": True}, True),
        ({"b": {"$eq": 1}}, False),
        ({"nothing": {"$ne": 1}}, False),
        ({"nothing": {"$nin": ["x"]}}, False),
        ({"nothing": {"$lt": 9}}, False),
        ({"nothing": {"$exists": False}}, True),
        ({"n": {"$exists": True}}, True),
        ({"$and": [{"n": 2}, {"s": "y"}]}, False),
        ({"$or": [{"n": 3}, {"s": "x"}]}, True),
        ({"n": 2, "s": "y"}, False),
    ],
    ids=str,
)
def test_a_filter_means_what_the_documentation_says(condition, expected):
    assert matches(ITEM, condition) is expected


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"n": {}},
        {"$and": []},
        {"$or": {"n": 1}},
        {"n": {"$in": []}},
        {"n": {"$in": list(range(10_001))}},
        {"n": {"$gt": "1"}},
        {"n": {"$gte": True}},
        {"n": {"$in": [None]}},
        {"n": {"$eq": [1]}},
        {"$or": [{"n": 2}, {"n": {"$lt": "x"}}]},
    ],
    ids=lambda condition: str(condition)[:30],
)
def test_a_filter_that_cannot_be_is_refused(condition):
    with pytest.raises(AnswerError):
        matches(ITEM, condition)


@pytest.mark.parametrize("condition", [{"$not": {"n": 1}}, {"n": {"$not": 1}}, {"n": {"$all": ["x"]}}], ids=str)
def test_an_unknown_operator_is_a_surprise(condition):
    with pytest.raises(SurpriseError):
        matches(ITEM, condition)


def test_a_fetch_by_filter_goes_by_pages_and_a_delete_takes_what_matches(documents):
    put(documents, *[document(f"{i:02}", even=i % 2 == 0) for i in range(10)])
    seen, token = [], None
    while True:
        page = documents.fetch(namespace="n", filter={"even": True}, limit=2, pagination_token=token)
        assert len(page.documents) <= 2
        seen += page.documents
        if page.pagination is None:
            break
        token = page.pagination.next
    assert seen == ["00", "02", "04", "06", "08"]
    documents.delete(namespace="n", filter={"even": True})
    documents.delete(namespace="n", ids=["01", "nothing"])
    assert sorted(match.id for match in search(documents)) == ["03", "05", "07", "09"]


def test_a_namespace_is_there_with_its_first_document(client, documents):
    with client.index("new") as index:
        with pytest.raises(NotFoundError):
            index.describe_namespace(name="n")
        put(documents, document())
        assert index.describe_namespace(name="n").record_count == 1
    assert documents.fetch(namespace="other", ids=["a"]).documents == {}


def test_each_kind_of_index_has_its_own_calls(client, vectors):
    with make(client, "new") as index, pytest.raises(ApiError, match="kind"):
        index.upsert(vectors=[("a", [1.0, 0.0], {})], namespace="n")
    with pytest.raises(ApiError, match="kind"):
        vectors.documents.fetch(namespace="n", ids=["a"])


def test_vectors_are_kept_queried_and_fetched(vectors):
    vectors.upsert(vectors=[("a", [1.0, 0.0], {"n": 1}), ("b", [0.0, 1.0], {"n": 2})], namespace="n")
    (match,) = vectors.query(vector=[1.0, 0.1], top_k=1, namespace="n", include_metadata=True)["matches"]
    assert (match.id, match.metadata, match.values) == ("a", {"n": 1.0}, [])
    assert vectors.fetch(ids=["b"], namespace="n").vectors["b"].values == [0.0, 1.0]
    page = vectors.fetch_by_metadata(filter={"n": {"$gt": 0}}, namespace="n", limit=1)
    assert (list(page.vectors), page.pagination.next) == (["a"], "a")
    vectors.delete(filter={"n": 1}, namespace="n")
    assert vectors.fetch(ids=["a"], namespace="n").vectors == {}
    with pytest.raises(NotFoundError):
        vectors.delete(filter={"n": 1}, namespace="other")


def test_the_address_of_a_fetch_has_a_limit(vectors):
    with pytest.raises(ApiError, match="414"):
        vectors.fetch(ids=["x" * 40 + str(i) for i in range(200)], namespace="n")


def test_what_is_written_can_be_seen_later():
    with PineconeDouble(delay_s=60) as server, server.connect() as client, make(client, "new") as index:
        put(index.documents, document())
        assert search(index.documents) == []
        server.skipped_s = 60
        assert len(search(index.documents)) == 1


def test_a_fault_happens_as_often_as_it_was_told_and_then_no_more(server, documents):
    server.fail("documents_upsert", status=400, skip=1, times=2, message="this")
    put(documents, document())
    for _ in range(2):
        with pytest.raises(ApiError, match="this"):
            put(documents, document())
    put(documents, document())


def test_a_fault_can_hold_an_answer_or_count_less(server, documents):
    server.fail("documents_upsert", hold_s=0.1, taken=0)
    start = time.monotonic()
    assert put(documents, document()).upserted_count == 0
    assert time.monotonic() - start >= 0.1
    assert put(documents, document()).upserted_count == 1


def test_a_busy_answer_says_how_long_to_wait(server, documents):
    server.fail("documents_upsert", status=429, times=4, headers={"Retry-After": "0.01"})
    with pytest.raises(RateLimitError) as busy:
        put(documents, document())
    assert busy.value.retry_after == 0.01


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.describe_index_stats(),
        lambda index: list(index.list(namespace="n")),
        lambda index: index.documents.delete(namespace="n", delete_all=True),
        lambda index: index.update(id="a", values=[1.0, 0.0], namespace="n"),
        lambda index: search(index.documents, filter={"$not": {"a": 1}}),
        lambda index: index.query(top_k=1, id="a", namespace="n"),
    ],
    ids=["stats", "list", "delete_all", "update", "$not", "query by id"],
)
def test_what_the_double_does_not_know_is_loud_and_kept(server, client, call):
    with make(client, "new") as index, pytest.raises(ServiceError, match="501"):
        call(index)
    assert len(server.surprises) == 1


def test_another_version_of_the_api_is_a_surprise(server):
    assert sender(server, **{"X-Pinecone-Api-Version": "2025-10"})("GET", "/indexes/new").status_code == 501
    assert "2025-10" in server.surprises[0]


def test_scores_are_cosines(documents):
    random = np.random.default_rng(0)
    rows = random.normal(size=(20, 2))
    put(documents, *[document(str(i), row.tolist()) for i, row in enumerate(rows)])
    query = random.normal(size=2)
    expected = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    assert [match.score for match in search(documents, query.tolist(), top_k=5)] == pytest.approx(
        np.sort(expected)[::-1][:5], abs=1e-5
    )
