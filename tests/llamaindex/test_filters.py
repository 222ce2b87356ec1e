"""Filters of LlamaIndex mean in every store what LlamaIndex says they mean."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.llamaindex import JinaClipMetadataFilter
from jclip_connectors.llamaindex.filters import to_filter
from jclip_connectors.llamaindex.nodes import to_record
from tests.llamaindex.harness import METADATA, ask, note, one, where

FILTERS = [
    (where(), "abcd"),
    (None, "abcd"),
    (where(one("year", 2019)), "a"),
    (where(one("year", 2019, "!=")), "bcd"),
    (where(one("year", 2019, ">")), "b"),
    (where(one("year", 2019, ">=")), "ab"),
    (where(one("year", 2020.5, "<")), "a"),
    (where(one("year", 2020.5, "<=")), "ab"),
    (where(one("name", ["anna", "bob", "carl"], "in")), "ab"),
    (where(one("name", ["anna"], "nin")), "bcd"),
    (where(one("tags", ["x", "z"], "any")), "abd"),
    (where(one("tags", ["x", "y"], "all")), "a"),
    (where(one("tags", "y", "contains")), "ad"),
    (where(one("tags", None, "is_empty")), "c"),
    (where(one("year", None, "is_empty")), "cd"),
    (where(one("name", None, "is_empty")), "c"),
    (where(one("tags", "x"), one("year", 2020, "<")), "a"),
    (where(one("tags", "z"), one("year", 2019), condition=FilterCondition.OR), "ad"),
    (where(one("tags", "z"), one("year", 2019), condition=FilterCondition.NOT), "bc"),
    (where(one("tags", "x"), condition=None), "ab"),
    (where(one("tags", "y"), where(one("year", 2019), one("name", ""), condition=FilterCondition.OR)), "ad"),
    (where(where(where(one("tags", "y"), condition=FilterCondition.NOT)), condition=FilterCondition.NOT), "ad"),
]


def test_a_filter_means_the_same_in_every_store(nodes):
    nodes.add([note(node_id, metadata=metadata) for node_id, metadata in METADATA.items()])
    for filters, expected in FILTERS:
        assert sorted(nodes.query(ask(filters=filters)).ids) == sorted(expected), filters
        assert sorted(node.node_id for node in nodes.get_nodes(filters=filters)) == sorted(expected), filters
    assert [node.node_id for node in nodes.get_nodes(["d", "b", "a"], where(one("tags", "y")))] == ["d", "a"]


def test_every_operator_is_translated_or_refused():
    refused = {FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE}
    for operator in FilterOperator:
        value = ["x"] if operator.value in ("in", "nin", "any", "all") else 1
        filters = where({"key": "k", "value": value, "operator": operator})
        if operator in refused:
            with pytest.raises(EmbedInputError, match=f"{operator.value!r} of 'k'.*use one of '=='"):
                to_filter(filters)
        else:
            assert to_filter(filters)


FLAGS = {
    "t": {"flag": True},
    "f": {"flag": False},
    "1": {"flag": 1},
    "0": {"flag": 0.0},
    "l": {"flag": [True, "x"]},
    "n": {},
}


def exactly(value, operator="=="):
    return where_exactly(JinaClipMetadataFilter(key="flag", value=value, operator=operator))


def where_exactly(*filters):
    return MetadataFilters(filters=list(filters))


BOOLS = [
    # Python's `True` equals 1, and so does a filter that can hold numbers alone.
    (where(one("flag", 1)), "t1l"),
    (where(one("flag", 0)), "f0"),
    (where(one("flag", 1, "!=")), "f0n"),
    (where(one("flag", [1, 2], "in")), "t1l"),
    (where(one("flag", [0], "nin")), "t1ln"),
    (where(one("flag", [1], "any")), "t1l"),
    (where(one("flag", 1, "contains")), "t1l"),
    (where(one("flag", 0, ">")), "t1l"),
    (where(one("flag", 0, ">=")), "tf10l"),
    (where(one("flag", 1, "<")), "f0"),
    (where(one("flag", 2, ">")), ""),
    (exactly(True), "tl"),
    (exactly(False), "f"),
    (exactly(True, "!="), "f10n"),
    (exactly([True, False], "in"), "tfl"),
    (exactly([True], "nin"), "f10n"),
    (exactly([True, "x"], "all"), "l"),
    (exactly(1), "1"),
    (exactly(None, "is_empty"), "n"),
    (where(exactly(True), where(one("flag", "x", "contains")), condition=FilterCondition.AND), "l"),
]


def test_filters_reach_bools_in_every_store(nodes):
    nodes.add([note(node_id, metadata=metadata) for node_id, metadata in FLAGS.items()])
    for filters, expected in BOOLS:
        assert sorted(nodes.query(ask(filters=filters)).ids) == sorted(expected), filters


def test_a_date_is_found_by_a_date_and_by_its_text(memory):
    moment = datetime(2024, 1, 31, 12, tzinfo=UTC)
    memory.add([note("a", metadata={"day": date(2024, 1, 31), "at": moment}), note("b")])
    for asked in (
        JinaClipMetadataFilter(key="day", value=date(2024, 1, 31)),
        JinaClipMetadataFilter(key="at", value=moment),
        JinaClipMetadataFilter(key="day", value=[date(2024, 1, 31), True], operator=FilterOperator.IN),
        MetadataFilter(key="day", value="2024-01-31"),
    ):
        assert memory.query(ask(filters=where_exactly(asked))).ids == ["a"], asked
    later = JinaClipMetadataFilter(key="day", value=date(2024, 1, 31), operator=FilterOperator.GT)
    with pytest.raises(EmbedInputError, match="keep a date as a number"):
        memory.query(ask(filters=where_exactly(later)))


NAMES = ["x", "y", "yx"]
ASKED = st.one_of(
    st.builds(one, st.just("n"), st.integers(-2, 2), st.sampled_from(["==", "!=", ">", ">=", "<", "<="])),
    st.builds(one, st.just("n"), st.lists(st.integers(-2, 2)), st.sampled_from(["in", "nin"])),
    st.builds(one, st.just("s"), st.sampled_from(NAMES), st.sampled_from(["==", "!="])),
    st.builds(one, st.just("s"), st.lists(st.sampled_from(NAMES)), st.sampled_from(["in", "nin"])),
    st.builds(one, st.just("l"), st.sampled_from(NAMES), st.just("contains")),
    st.builds(one, st.just("l"), st.lists(st.sampled_from(NAMES), min_size=1), st.sampled_from(["any", "all"])),
    st.builds(one, st.sampled_from("nsl"), st.none(), st.just("is_empty")),
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, True, False]),
        "s": st.none() | st.sampled_from(NAMES),
        "l": st.none() | st.lists(st.sampled_from(NAMES), max_size=3),
    },
)


@given(metadata=OWN, asked=st.lists(ASKED, max_size=3), condition=st.sampled_from(FilterCondition))
def test_a_filter_means_what_llamaindex_says_it_means(metadata, asked, condition):
    filters = where(*asked, condition=condition)
    expected = build_metadata_filter_fn(lambda _: metadata, filters)("a")
    record = to_record(note("a", metadata=metadata), position=0, modality=None)
    assert matches(parse_filter(to_filter(filters)), record.metadata) == expected


def nested(depth):
    filters = where(one("a", 1))
    for _ in range(depth):
        filters = where(filters, condition=FilterCondition.NOT)
    return filters


BAD_FILTERS = {
    "a text to search in": (where(one("name", "ann", "text_match")), "search within a text"),
    "no list for in": (where(one("name", "anna", "in")), "takes a list"),
    "a list for ==": (where(one("name", ["anna"])), "takes a string, number"),
    "a text to compare": (where(one("year", "2019", ">")), "compares numbers"),
    "nothing for all": (where(one("tags", [], "all")), "at least one value"),
    "a text for all": (where(one("tags", "x", "all")), "takes a list"),
    "an infinity": (where(one("year", float("inf"))), "inf"),
    "a field that joins": (where(one("and", 1)), "a field named 'and' cannot be filtered"),
    "a dict": ({"year": 2019}, "is dict, not `MetadataFilters`"),
    "filters without end": (nested(200), "levels deep"),
}


@pytest.mark.parametrize(("filters", "message"), BAD_FILTERS.values(), ids=BAD_FILTERS)
def test_a_bad_filter_is_refused_before_any_request(memory, filters, message):
    memory.add([note("a", metadata=METADATA["a"])])
    for call in (
        lambda: memory.query(ask(filters=filters)),
        lambda: memory.get_nodes(filters=filters),
        lambda: memory.get_nodes(["a"], filters),
        lambda: memory.delete_nodes(filters=filters),
        lambda: memory.delete_nodes(["a"], filters),
    ):
        with pytest.raises(EmbedInputError, match=message):
            call()
    assert memory.store.count() == 1


def test_the_deepest_filter_that_is_translated_is_understood(memory):
    memory.add([note("a", metadata={"a": 1})])
    assert memory.query(ask(filters=nested(20))).ids == ["a"]
