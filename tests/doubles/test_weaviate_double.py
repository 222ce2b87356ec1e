"""The double of a Weaviate server refuses what the server refuses, and says so where it knows no better."""

import logging
import math
import re
import uuid
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, Sort
from weaviate.exceptions import (
    UnexpectedStatusCodeError,
    WeaviateInsertManyAllFailedError,
    WeaviateInvalidInputError,
    WeaviateQueryError,
)

from tests.doubles.weaviate_queries import pack, sortable, unpack
from tests.doubles.weaviate_server import WeaviateDouble

IDS = [uuid.UUID(int=number + 1) for number in range(20)]


@pytest.fixture
def server():
    with WeaviateDouble(most_results=15, auto_schema=False) as server:
        yield server


@pytest.fixture
def client(server):
    with server.connect() as client:
        yield client


@pytest.fixture
def things(client):
    """A collection of two vectors and a property of each kind."""
    return client.collections.create(
        "Things",
        properties=[
            Property(name="title", data_type=DataType.TEXT),
            Property(name="tags", data_type=DataType.TEXT_ARRAY, tokenization=Tokenization.FIELD),
            Property(name="size", data_type=DataType.NUMBER),
            Property(name="secret", data_type=DataType.TEXT, index_filterable=False, index_searchable=False),
        ],
        vector_config=[
            Configure.Vectors.self_provided(name="one"),
            Configure.MultiVectors.self_provided(
                name="many", vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT)
            ),
        ],
    )


def thing(number, one=(1.0, 0.0), many=((1.0, 0.0),), **properties):
    vectors = {"one": list(one), "many": [list(row) for row in many]}
    return DataObject(properties=properties, uuid=IDS[number], vector=vectors)


def found(answer):
    return [IDS.index(item.uuid) for item in answer.objects]


def by(collection, condition):
    return found(collection.query.fetch_objects(filters=condition, limit=15))


def test_it_is_ready_and_live_and_says_its_version(client):
    assert client.is_ready()
    assert client.is_live()
    assert client.get_meta()["version"] == "1.40.0"


def test_the_schema_answers_with_all_defaults_and_without_a_quantizer(things):
    config = things.config.get()
    assert config.inverted_index_config.bm25.k1 == 1.2
    assert {known.name for known in config.properties} == {"title", "tags", "size", "secret"}
    assert config.vector_config["one"].vector_index_config.quantizer is None
    assert config.vector_config["one"].vector_index_config.filter_strategy.value == "acorn"
    assert config.vector_config["many"].vector_index_config.multi_vector is not None


def test_a_class_gets_a_capital(server, client):
    # By hand: the client would write the capital.
    url = f"http://127.0.0.1:{server.http_port}/v1/schema"
    assert httpx.post(url, json={"class": "things", "vectorConfig": {}}).status_code == 200
    assert client.collections.exists("Things")


@pytest.mark.parametrize("name", ["1Things", "Thi-ngs", "Ü", "T" * 256])
def test_a_class_name_that_does_not_fit_is_refused(server, name):
    url = f"http://127.0.0.1:{server.http_port}/v1/schema"
    answer = httpx.post(url, json={"class": name, "vectorConfig": {}})
    assert answer.status_code == 422
    assert "not a valid class name" in answer.text


def test_a_class_or_property_that_exists_is_refused(client, things):
    with pytest.raises(UnexpectedStatusCodeError, match="already exists"):
        client.collections.create("Things", vector_config=[Configure.Vectors.self_provided(name="one")])
    with pytest.raises(WeaviateInvalidInputError, match="already exists"):
        things.config.add_property(Property(name="size", data_type=DataType.NUMBER))
    with pytest.raises(UnexpectedStatusCodeError, match="already in use"):
        things.config.add_property(Property(name="Size", data_type=DataType.NUMBER))


@pytest.mark.parametrize("name", ["a-b", "id", "a.b", "ü", "1a", "a" * 232])
def test_a_property_name_that_does_not_fit_is_refused(things, name):
    with pytest.raises(UnexpectedStatusCodeError, match="not a valid property name"):
        things.config.add_property(Property(name=name, data_type=DataType.NUMBER))


def test_numbers_are_not_searchable_and_texts_have_no_ranges(things):
    with pytest.raises(UnexpectedStatusCodeError, match="indexSearchable"):
        things.config.add_property(Property(name="n", data_type=DataType.NUMBER, index_searchable=True))
    with pytest.raises(UnexpectedStatusCodeError, match="indexRangeFilters"):
        things.config.add_property(Property(name="t", data_type=DataType.TEXT, index_range_filters=True))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (thing(1, one=[1.0, 0.0, 0.0]), "length 3. Existing nodes have vectors with length 2"),
        (thing(1, many=[[1.0]]), "length 1. Existing nodes have vectors with length 2"),
        (DataObject(properties={}, uuid=IDS[1], vector={"one": [[1.0, 0.0]]}), "multi-vector, or not"),
        (DataObject(properties={}, uuid=IDS[1], vector={"many": [1.0, 0.0]}), "multi-vector, or not"),
        (DataObject(properties={}, uuid=IDS[1], vector={"two": [1.0, 0.0]}), "does not have the vectors"),
        (thing(1, colour="red"), "no such prop"),
        (thing(1, title=1.0), "invalid text property 'title'"),
        (thing(1, size="1"), "invalid number property 'size'"),
        (thing(1, tags="a"), r"invalid text\[\] property 'tags'"),
    ],
)
def test_an_object_that_does_not_fit_is_refused_alone(things, bad, why, caplog):
    caplog.set_level(logging.CRITICAL)
    things.data.insert_many([thing(0)])
    answer = things.data.insert_many([bad, thing(2)])
    assert list(answer.errors) == [0]
    assert re.search(why, answer.errors[0].message)
    assert sorted(by(things, None)) == [0, 2]


def test_if_all_objects_are_refused_the_client_raises(things):
    with pytest.raises(WeaviateInsertManyAllFailedError, match="no such prop"):
        things.data.insert_many([thing(0, colour="red")])


def test_an_object_in_place_of_another_leaves_nothing_of_it(things):
    things.data.insert_many([thing(0, title="old", size=1.0)])
    things.data.insert_many([thing(0, title="new")])
    (item,) = things.query.fetch_objects(limit=5, return_properties=["title", "size"]).objects
    assert item.properties == {"title": "new", "size": None}


def test_without_a_limit_there_are_ten_results(things):
    things.data.insert_many([thing(number) for number in range(12)])
    assert len(things.query.fetch_objects().objects) == 10


def test_limit_and_offset_together_have_a_limit(things):
    with pytest.raises(WeaviateQueryError, match="query maximum results exceeded"):
        things.query.fetch_objects(limit=10, offset=6)
    with pytest.raises(WeaviateQueryError, match="query maximum results exceeded"):
        things.query.near_vector([1.0, 0.0], limit=16, target_vector="one")


def test_a_cursor_goes_by_ids_and_suffers_nothing_beside_it(things):
    things.data.insert_many([thing(number) for number in (4, 2, 3, 1)])
    assert found(things.query.fetch_objects(after=IDS[1], limit=2)) == [2, 3]
    assert found(things.query.fetch_objects(after=IDS[3], limit=2)) == [4]
    for beside in ({"filters": Filter.by_property("size").equal(1.0)}, {"offset": 1}):
        with pytest.raises(WeaviateQueryError, match="cannot be set with after"):
            things.query.fetch_objects(after=IDS[1], limit=2, **beside)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Filter.by_property("title").equal("RED bicycle"), [0]),
        (Filter.by_property("title").contains_any(["car", "boat"]), [1]),
        (Filter.by_property("tags").equal("a b"), [0]),
        (Filter.by_property("tags").equal("a"), []),
        (Filter.by_property("tags").contains_any(["A B", "c"]), [1]),
        (Filter.by_property("tags").contains_all(["c", "d"]), [1]),
        (Filter.by_property("tags").contains_none(["c"]), [0, 2]),
        (Filter.by_property("tags").not_equal("c"), [0, 2]),
        (Filter.by_property("size").greater_than(1.0), [1]),
        (Filter.by_property("size").greater_or_equal(1.0), [0, 1]),
        (Filter.by_property("size").less_or_equal(1.0), [0]),
        (Filter.by_property("size").less_than(1.0), []),
        (Filter.by_property("size").equal(1.0), [0]),
        (Filter.by_property("size").equal("1"), [0]),
        (Filter.by_property("tags").equal("  "), []),
        (Filter.not_(Filter.by_property("size").greater_than(1.0)), [0, 2]),
        (Filter.by_id().contains_any([IDS[0], IDS[7]]), [0]),
        (Filter.by_property("size").equal(1.0) | Filter.by_property("tags").equal("c"), [0, 1]),
        (Filter.by_property("size").equal(1.0) & Filter.by_property("tags").equal("c"), []),
    ],
)
def test_filters_mean_what_they_mean_to_the_server(things, condition, expected):
    things.data.insert_many(
        [
            thing(0, title="a red Bicycle", tags=[" a b "], size=1.0),
            thing(1, title="a red car", tags=["c", "d"], size=2.0),
            thing(2),
        ]
    )
    assert by(things, condition) == expected
    assert things.aggregate.over_all(filters=condition, total_count=True).total_count == len(expected)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (Filter.by_property("colour").equal("red"), "no such prop"),
        (Filter.by_property("size").equal("one"), "could not parse string 'one' as float"),
        (Filter.by_property("title").equal(1.0), "expected value to be string, got 'float64'"),
        (Filter.by_property("secret").equal("x"), "requires inverted index"),
        (Filter.by_property("title").equal("  "), "invalid search term"),
    ],
)
def test_a_filter_that_does_not_fit_is_refused(server, things, condition, why):
    with pytest.raises(WeaviateQueryError, match=why):
        by(things, condition)
    assert server.surprises == []


def test_a_negation_does_not_count_deleted_objects(things):
    things.data.insert_many([thing(0, size=1.0), thing(1, size=2.0)])
    things.data.delete_many(where=Filter.by_id().equal(IDS[1]))
    small = Filter.not_(Filter.by_property("size").greater_than(5.0))
    assert by(things, small) == [0]
    assert things.aggregate.over_all(filters=small, total_count=True).total_count == 1


def test_filtered_objects_come_in_the_order_in_which_they_were_written(things):
    things.data.insert_many([thing(number, size=1.0) for number in (4, 2, 3)])
    assert by(things, Filter.by_property("size").equal(1.0)) == [4, 2, 3]
    assert by(things, None) == [2, 3, 4]


def test_auto_schema_makes_properties_and_classes_and_can_be_turned_off(server, client, things):
    for auto_schema in (True, False):
        server.auto_schema = auto_schema
        name = f"Made{auto_schema}"
        things.data.insert_many([thing(0), thing(1, **{f"colour_{auto_schema}".lower(): "red"})])
        insert = client.collections.use(name).data.insert_many
        plain: Any = DataObject(properties={"n": 1.0}, uuid=IDS[0], vector={"one": [1.0, 0.0]})
        if auto_schema:
            insert([plain])
        else:
            with pytest.raises(WeaviateInsertManyAllFailedError, match=f"class '{name}' not present in schema"):
                insert([plain])
        assert client.collections.exists(name) is auto_schema
    assert {known.name for known in things.config.get().properties} == {
        "title",
        "tags",
        "size",
        "secret",
        "colour_true",
    }


def test_an_object_that_the_vector_index_has_lost_comes_back_only_by_deleting_it(server, client):
    named = client.collections.create(
        "Named",
        properties=[Property(name="record_id", data_type=DataType.TEXT), Property(name="n", data_type=DataType.NUMBER)],
        vector_config=[Configure.Vectors.self_provided(name="one")],
    )

    def write(n):
        named.data.insert_many(
            [DataObject(properties={"record_id": "a", "n": n}, uuid=IDS[0], vector={"one": [1.0, 0.0]})]
        )
        return found(named.query.near_vector([1.0, 0.0], target_vector="one", limit=5))

    assert write(1.0) == [0]
    server.lose("Named", ["a"])
    assert write(1.0) == write(2.0) == []
    assert by(named, Filter.by_property("n").equal(2.0)) == [0]
    named.data.delete_many(where=Filter.by_id().equal(IDS[0]))
    assert write(2.0) == [0]


def test_a_read_only_shard_refuses_each_object_and_counts_one_failure_of_a_deletion(server, things):
    things.data.insert_many([thing(0), thing(1)])
    server.collections["Things"].read_only = "resource pressure"
    with pytest.raises(WeaviateInsertManyAllFailedError, match="store is read-only due to: resource pressure"):
        things.data.insert_many([thing(2)])
    for where, matches in ((Filter.by_id().contains_any(IDS[:2]), 2), (Filter.by_id().equal(IDS[9]), 0)):
        answer = things.data.delete_many(where=where)
        assert (answer.failed, answer.matches, answer.successful) == (1, matches, 0)
    assert [shard.status for shard in things.config.get_shards()] == ["READONLY"]


def test_a_property_that_is_made_while_nothing_is_written_has_no_index_until_a_restart(server, things):
    collection = server.collections["Things"]
    collection.read_only = "resource pressure"
    things.config.add_property(Property(name="year", data_type=DataType.NUMBER, index_range_filters=True))
    collection.read_only = None
    recent = Filter.by_property("year").greater_than(1.0)
    with pytest.raises(WeaviateInsertManyAllFailedError, match="no bucket rangeable for prop 'year' found"):
        things.data.insert_many([thing(0, year=2.0)])
    with pytest.raises(WeaviateQueryError, match="'year' requires inverted index"):
        by(things, recent)
    collection.restart()
    assert by(things, recent) == []  # the object is stored, and no filter on the property finds it
    things.data.delete_many(Filter.by_id().contains_any([thing(0).uuid]))
    things.data.insert_many([thing(0, year=2.0)])
    assert by(things, recent) == [0]


def test_an_answer_that_is_too_large_is_refused(server, things):
    things.data.insert_many([thing(0, title="x" * 2000)])
    server.message_bytes = 1000
    with pytest.raises(WeaviateQueryError, match=r"trying to send message larger than max .* vs. 1000"):
        things.query.fetch_objects(limit=1, return_properties=["title"])


def test_one_call_deletes_no_more_than_a_query_gives(things):
    things.data.insert_many([thing(number, size=1.0) for number in range(20)])
    answer = things.data.delete_many(where=Filter.by_property("size").equal(1.0))
    assert (answer.matches, answer.successful) == (20, 15)
    assert things.aggregate.over_all(total_count=True).total_count == 5


def test_the_distance_is_one_minus_the_cosine(things):
    things.data.insert_many([thing(0, one=[3.0, 4.0]), thing(1, one=[-1.0, 0.0])])
    answer = things.query.near_vector([2.0, 0.0], target_vector="one", limit=5, return_metadata=["distance"])
    assert found(answer) == [0, 1]
    assert [item.metadata.distance for item in answer.objects] == pytest.approx([0.4, 2.0])


def test_of_many_vectors_the_distance_is_minus_the_sum_of_the_nearest(things):
    things.data.insert_many([thing(0, many=[[1.0, 0.0], [0.0, 0.5]]), thing(1, many=[[0.5, 0.0]])])
    answer = things.query.near_vector(
        [[1.0, 0.0], [0.0, 1.0]], target_vector="many", limit=5, return_metadata=["distance"]
    )
    assert found(answer) == [0, 1]
    assert [item.metadata.distance for item in answer.objects] == pytest.approx([-1.5, -0.5])


def test_the_limit_of_a_search_over_many_vectors_counts_vectors_and_not_objects(things):
    things.data.insert_many([thing(number, many=[[1.0, number / 100]] * 4, size=1.0) for number in range(6)])

    def ask(limit, **more):
        answer = things.query.near_vector([[1.0, 0.0]], target_vector="many", limit=limit, **more)
        return len(answer.objects)

    assert [ask(limit) for limit in (1, 4, 5, 15)] == [1, 1, 2, 4]
    # A filter that leaves few objects makes the server compare all of them.
    assert ask(6, filters=Filter.by_property("size").equal(1.0)) == 6


@pytest.mark.parametrize(
    ("vector", "target", "why"),
    [
        ([1.0, 0.0], None, "name one target"),
        ([1.0, 0.0], "two", "does not have named vector two"),
        ([1.0, 0.0], "many", "multi-vector, or not"),
        ([[1.0, 0.0]], "one", "multi-vector, or not"),
        ([1.0, 0.0, 0.0], "one", "vector lengths don't match: 2 vs 3"),
    ],
)
def test_a_query_vector_that_does_not_fit_is_refused(things, vector, target, why):
    things.data.insert_many([thing(0)])
    with pytest.raises(WeaviateQueryError, match=why):
        things.query.near_vector(vector, target_vector=target, limit=5)


def test_hybrid_sums_both_searches_by_their_weights(server, things):
    server.most_results = 100
    titles = {0: "a boat", 1: "a red car", 2: None}
    vectors = {0: [1.0, 0.0], 1: [0.6, 0.8], 2: [0.0, 1.0]}
    things.data.insert_many([thing(number, one=vectors[number], title=titles[number]) for number in range(3)])

    def ask(alpha):
        answer = things.query.hybrid(
            "red car", alpha=alpha, vector=[1.0, 0.0], target_vector="one", query_properties=["title"], limit=5,
            return_metadata=["score"],
        )  # fmt: skip
        return {number: item.metadata.score for number, item in zip(found(answer), answer.objects, strict=True)}

    assert ask(0.0) == pytest.approx({1: 1.0})
    assert ask(1.0) == pytest.approx({0: 1.0, 1: 0.6, 2: 0.0})
    assert ask(0.5) == pytest.approx({1: 0.8, 0: 0.5, 2: 0.0})


def test_hybrid_takes_the_best_hundred_of_each_search(server, things):
    server.most_results = 200
    vectors = [[np.cos(angle), np.sin(angle)] for angle in np.linspace(0.0, 1.0, 120)]
    objects: list[Any] = [
        DataObject(properties={}, uuid=uuid.UUID(int=n + 1), vector={"one": v}) for n, v in enumerate(vectors)
    ]
    things.data.insert_many(objects)

    def worst(limit):
        answer = things.query.hybrid(
            "red", alpha=1.0, vector=[1.0, 0.0], target_vector="one", query_properties=["title"], limit=limit,
            return_metadata=["score"],
        )  # fmt: skip
        return answer.objects[min(limit, 100) - 1].metadata.score

    assert worst(100) == 0.0
    assert worst(120) > 0.1  # the score depends on the limit
    server.most_results = 99
    with pytest.raises(WeaviateQueryError, match="query maximum results exceeded"):
        worst(5)


def test_words_are_looked_for_only_where_they_are_indexed(server, things):
    server.most_results = 100
    with pytest.raises(WeaviateQueryError, match="'secret' is not searchable"):
        things.query.hybrid(
            "red", vector=[1.0, 0.0], alpha=0.5, target_vector="one", query_properties=["secret"], limit=5
        )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda things: things.query.fetch_objects(sort=Sort.by_property("size"), limit=1), "sort_by"),
        (lambda things: things.query.bm25("red", limit=1), "bm25_search"),
        (lambda things: things.query.near_object(IDS[0], target_vector="one", limit=1), "near_object"),
        (lambda things: by(things, Filter.by_property("title").like("r*")), "OPERATOR_LIKE"),
        (lambda things: by(things, Filter.by_property("title").is_none(True)), "value_boolean"),
        (lambda things: things.query.near_vector([1.0], target_vector="one", distance=0.5, limit=1), "distance"),
        (lambda things: things.data.insert({"title": "x"}), "POST /v1/objects"),
        (lambda things: things.shards(), "GET /v1/nodes"),
    ],
)  # fmt: skip
def test_what_it_does_not_know_is_an_error_that_says_so(server, things, call, name):
    with pytest.raises(Exception, match="the double does not know"):
        call(things)
    assert name in server.surprises[0]


def test_with_a_key_nobody_else_gets_in():
    with WeaviateDouble(api_key="right") as guarded:
        with guarded.connect(api_key="right") as trusted:
            assert not trusted.collections.exists("Things")
        with pytest.raises(UnexpectedStatusCodeError, match="401"), guarded.connect(api_key="wrong"):
            pass


def test_faults_come_as_often_and_as_late_as_they_were_told(server, things):
    server.fail("Aggregate", grpc.StatusCode.INTERNAL, after=1, times=1, details="broken")
    assert things.aggregate.over_all(total_count=True).total_count == 0
    with pytest.raises(WeaviateQueryError, match="broken"):
        things.aggregate.over_all(total_count=True)
    assert things.aggregate.over_all(total_count=True).total_count == 0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_the_index_orders_numbers_but_for_the_two_zeros(numbers):
    numbers = [0.0 if number == 0 else number for number in numbers]
    assert sorted(numbers, key=sortable) == sorted(numbers)
    assert math.copysign(1, min([0.0, -0.0], key=sortable)) == -1


@given(st.integers(1, 5), st.integers(0, 4))
def test_vectors_survive_the_wire(length, rows):
    vector = np.arange(length * max(1, rows), dtype=np.float32).reshape((rows, length) if rows else (length,))
    np.testing.assert_array_equal(unpack(pack("v", vector)), vector)
