"""The suite that every vector store passes: subclass it and give `open_store`."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from core_encoder.tiling import Box, Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Record

E = 8
PLAIN = EmbeddingConfig(model="contract", revision="1", dimensions=E)
TILED = dataclasses.replace(PLAIN, tiling=Tiling(max_tiles=4))
METADATA: dict[str, Any] = {
    "int": 7,
    "big": 2**70,
    "float": 7.0,
    "tiny": 5e-324,
    "bool": True,
    "null": None,
    "text": 'naïve "quoted" \U0001f6b2 \ud800',
    "empty": "",
    "list": [1, 2.5, None, "x", [], {}],
    "nested": {"a": {"b": [{"c": None}]}, "": 0},
    "a.b[0]": "path",
    "and": "reserved",
    "long": "word " * 500,
}
RED, BLUE = [1.0, 0, 0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0, 0, 0]


def vector(*values):
    return np.array([*values, *[0.0] * (E - len(values))], dtype=np.float32)


def text(record_id, embedding=RED, **fields):
    fields = {"content": f"text of {record_id}", **fields}
    return Record(record_id=record_id, modality="text", embedding=np.array(embedding, np.float32), **fields)


def image(record_id, embedding=RED, **fields):
    return Record(record_id=record_id, modality="image", embedding=np.array(embedding, np.float32), **fields)


def make(**fields):
    return Record(record_id="bad", **fields)


def ids_of(hits):
    return [hit.record_id for hit in hits]


BAD_RECORDS = {
    "a wrong dimension": lambda: image("bad", vector(1)[:-1]),
    "two vectors": lambda: image("bad", np.ones((2, E))),
    "a NaN": lambda: image("bad", vector(np.nan)),
    "an infinity": lambda: image("bad", vector(np.inf)),
    "a zero vector": lambda: image("bad", vector(0)),
    "no numbers": lambda: make(modality="image", embedding="abc"),
    "an empty id": lambda: image(""),
    "an id that is no string": lambda: image(7),
    "an id that is no Unicode": lambda: image("\ud800"),
    "an unknown modality": lambda: make(modality="audio", embedding=vector(1)),
    "a text without content": lambda: text("bad", content=None),
    "content that is no Unicode": lambda: text("bad", content="\ud800"),
    "the bytes of an image as uri": lambda: image("bad", uri="data:image/png;base64,AAAA"),
    "a path object as uri": lambda: image("bad", uri=object()),
    "metadata that is no object": lambda: image("bad", metadata=["a"]),
    "a NaN in metadata": lambda: image("bad", metadata={"a": {"b": float("nan")}}),
    "a tuple in metadata": lambda: image("bad", metadata={"a": (1, 2)}),
    "a numpy number in metadata": lambda: image("bad", metadata={"a": np.float32(1)}),
    "a number as a nested key": lambda: image("bad", metadata={"a": {1: 2}}),
    "a number as a key": lambda: image("bad", metadata={1: 2}),
    "tiles in a collection without": lambda: image(
        "bad", tile_embeddings=np.ones((1, E)), tile_boxes=np.zeros((1, 4), int)
    ),
    "no record at all": lambda: {"record_id": "bad"},
}
BAD_TILES = {
    "boxes of another number": (np.ones((2, E)), np.zeros((1, 4), int)),
    "tiles of another length": (np.ones((1, E + 1)), np.zeros((1, 4), int)),
    "no tiles": (np.ones((0, E)), np.zeros((0, 4), int)),
    "a NaN": (np.full((1, E), np.nan), np.zeros((1, 4), int)),
    "broken pixels": (np.ones((1, E)), np.full((1, 4), 0.5)),
    "tiles without boxes": (np.ones((1, E)), None),
    "boxes without tiles": (None, np.zeros((1, 4), int)),
}
YEARS = {"a": {"year": 2019, "tag": ["x", "y"]}, "b": {"year": 2020.5, "tag": "x"}, "c": {"year": None}, "d": {}}
FILTERS = [
    ({}, "abcd"),
    ({"year": 2019}, "a"),
    ({"year": 2019.0}, "a"),
    ({"year": {"eq": 2020.5}}, "b"),
    ({"year": {"ne": 2019}}, "bcd"),
    ({"year": None}, "c"),
    ({"year": {"ne": None}}, "abd"),
    ({"year": {"gte": 2019}}, "ab"),
    ({"year": {"gt": 2019, "lt": 2021}}, "b"),
    ({"year": {"lte": 2019}}, "a"),
    ({"year": {"in": [2019, 2020.5, "2021"]}}, "ab"),
    ({"year": {"in": []}}, ""),
    ({"year": {"nin": [2019, None]}}, "bd"),
    ({"year": {"nin": []}}, "abcd"),
    ({"year": {"exists": True}}, "abc"),
    ({"year": {"exists": False}}, "d"),
    ({"tag": "x"}, "ab"),
    ({"tag": "y"}, "a"),
    ({"tag": {"ne": "y"}}, "bcd"),
    ({"year": True}, ""),
    ({"year": "2019"}, ""),
    ({"tag": "x", "year": {"lt": 2020}}, "a"),
    ({"or": [{"year": 2019}, {"tag": {"exists": False}}]}, "acd"),
    ({"and": [{"tag": "x"}, {"not": {"tag": "y"}}]}, "b"),
    ({"not": {"or": [{"year": 2019}, {"year": None}]}}, "bd"),
    ({"not": {}}, ""),
    ({"or": [{}, {"year": 1}]}, "abcd"),
]
BAD_FILTERS = [
    {"year": {"like": 1}},
    {"year": {}},
    {"year": [1, 2]},
    {"year": {"gte": "2020"}},
    {"year": {"gte": True}},
    {"year": {"gte": None}},
    {"year": {"in": 2020}},
    {"year": {"in": [[1]]}},
    {"year": {"eq": {"a": 1}}},
    {"year": {"eq": float("nan")}},
    {"year": {"lt": float("inf")}},
    {"year": {"exists": 1}},
    {"and": {"year": 1}},
    {"or": []},
    {"not": [{"year": 1}]},
    {1: 2},
    ["year"],
    [],
    "",
    0,
    False,
]


class StoreContract:
    """Give a fixture `open_store`: a function from a config to an empty store; later calls may share the store."""

    @pytest.fixture
    def store(self, open_store):
        return open_store(PLAIN)

    @pytest.fixture
    def tiled(self, open_store):
        return open_store(TILED)

    @pytest.fixture
    def years(self, store):
        store.upsert([image(record_id, metadata=metadata) for record_id, metadata in YEARS.items()])
        return store

    def test_a_new_store_is_empty_and_knows_its_fingerprint(self, store):
        assert store.count() == 0
        assert store.search(vector(1)) == []
        assert store.get(["a"]) == []
        assert list(store.scroll()) == []
        assert dict(store.fingerprint) == PLAIN.fingerprint()

    def test_a_record_comes_back_as_it_was_given(self, store):
        given = text("a", BLUE, content="hello\0", content_hash="sha256:00", uri="file:///a", metadata=METADATA)
        store.upsert([given])
        (record,) = store.get(["a"])
        for field in ("record_id", "modality", "content", "uri", "content_hash", "tile_embeddings", "tile_boxes"):
            assert getattr(record, field) == getattr(given, field)
        np.testing.assert_allclose(record.embedding, given.embedding, atol=1e-6)
        assert record.embedding.dtype == np.float32

    def test_metadata_keeps_ints_floats_nulls_and_nesting(self, store):
        store.upsert([image("a", metadata=METADATA)])
        (hit,) = store.search(vector(1))
        for found in (hit.metadata, store.get(["a"])[0].metadata, next(store.scroll()).metadata):
            assert repr(found) == repr(METADATA)

    def test_metadata_is_not_shared_with_the_caller(self, store):
        metadata = {"tags": ["a"]}
        store.upsert([image("a", metadata=metadata)])
        metadata["tags"].append("b")
        store.get(["a"])[0].metadata["tags"].append("c")
        store.search(vector(1))[0].metadata["tags"].append("d")
        assert store.get(["a"])[0].metadata == {"tags": ["a"]}

    def test_tiles_come_back_as_they_were_given(self, tiled):
        boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
        tiled.upsert([image("a", tile_embeddings=np.stack([vector(1), vector(0, 1)]), tile_boxes=boxes), image("b")])
        first, second = tiled.get(["a", "b"])
        np.testing.assert_allclose(first.tile_embeddings, np.stack([vector(1), vector(0, 1)]), atol=1e-6)
        assert first.tile_boxes.tolist() == boxes.tolist()
        assert second.tile_embeddings is None
        assert second.tile_boxes is None

    def test_the_nearest_comes_first_and_the_score_is_the_cosine(self, store):
        store.upsert([image("far", vector(-1)), image("near", vector(3, 4)), image("mid", vector(0, 0, 1))])
        hits = store.search(vector(1, 0), limit=3)
        assert ids_of(hits) == ["near", "mid", "far"]
        assert [hit.score for hit in hits] == pytest.approx([0.6, 0.0, -1.0], abs=1e-6)

    def test_length_does_not_count(self, store):
        store.upsert([image("a", vector(1e-30, 1e-30)), image("b", vector(1e30, 1e30))])
        assert [hit.score for hit in store.search(vector(500, 0))] == pytest.approx([0.5**0.5] * 2, abs=1e-6)

    def test_limit_cuts_the_list_and_may_exceed_the_collection(self, store):
        store.upsert([image(str(i), vector(1, i)) for i in range(5)])
        assert ids_of(store.search(vector(1), limit=2)) == ["0", "1"]
        assert len(store.search(vector(1), limit=10**12)) == 5

    def test_a_hit_carries_its_record(self, store):
        store.upsert([text("t", content="hello", metadata={"a": 1}, content_hash="h"), image("i", BLUE, uri="i.png")])
        first, second = store.search(vector(1))
        assert (first.content_hash, second.content_hash) == ("h", None)
        assert (first.modality, first.content, first.uri, first.metadata) == ("text", "hello", None, {"a": 1})
        assert (second.modality, second.content, second.uri, second.box) == ("image", None, "i.png", None)

    def test_one_modality_can_be_asked_for(self, store):
        store.upsert([text("t"), image("i")])
        assert ids_of(store.search(vector(1), modality="image")) == ["i"]
        assert store.count(modality="text") == 1
        assert ids_of(store.scroll(modality="text")) == ["t"]

    def test_an_id_is_kept_once_and_its_last_record_wins(self, store):
        store.upsert([image("a", metadata={"old": 1, "both": 1}, uri="u")])
        store.upsert([image("a", BLUE, metadata={"n": 1}), image("a", BLUE, metadata={"both": 2})])
        (record,) = store.get(["a"])
        assert record.metadata == {"both": 2}
        assert record.uri is None
        assert store.count() == 1
        assert store.count(where={"old": {"exists": True}}) == 0
        np.testing.assert_allclose(record.embedding, BLUE, atol=1e-6)

    @pytest.mark.parametrize("record_id", [" ", "ü/🚲", "a" * 2000, "null", "1", "\0", "../x", "0" * 32])
    def test_any_non_empty_string_is_an_id(self, store, record_id):
        store.upsert([image(record_id), image("other", BLUE)])
        assert ids_of(store.get([record_id])) == [record_id]
        assert ids_of(store.search(vector(1), limit=1)) == [record_id]
        store.delete([record_id])
        assert ids_of(store.scroll()) == ["other"]

    def test_get_keeps_the_order_and_leaves_out_what_is_not_there(self, store):
        store.upsert([image("a"), image("b"), image("c")])
        assert ids_of(store.get(["c", "nope", "a", "c"])) == ["c", "a", "c"]
        assert store.get([]) == []

    def test_records_are_read_without_their_vectors(self, tiled):
        boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
        given = [
            text("t", content="hello", content_hash="h", metadata=METADATA),
            image("i", uri="i.png", tile_embeddings=np.stack([vector(1), vector(0, 1)]), tile_boxes=boxes),
        ]
        tiled.upsert(given)
        scrolled = {record.record_id: record for record in tiled.scroll(vectors=False)}
        assert sorted(scrolled) == ["i", "t"]
        for found in (tiled.get(["t", "nope", "i"], vectors=False), [scrolled["t"], scrolled["i"]]):
            for record, wanted in zip(found, given, strict=True):
                for field in ("record_id", "modality", "content", "uri", "content_hash"):
                    assert getattr(record, field) == getattr(wanted, field)
                assert repr(record.metadata) == repr(wanted.metadata)
                assert (record.embedding.shape, record.embedding.dtype) == ((0,), np.float32)
                assert record.tile_embeddings is None
                assert record.tile_boxes is None
        with pytest.raises(EmbedInputError, match=r"record 0 \('t'\) has the shape \(0,\)"):
            tiled.upsert([scrolled["t"]])
        assert len(tiled.get(["t"])[0].embedding) == E
        assert ids_of(tiled.scroll(where={"int": 7}, modality="text", vectors=False)) == ["t"]

    def test_the_ids_alone_can_be_read(self, store):
        assert list(store.ids()) == []
        store.upsert([text("t"), image("ü/\U0001f6b2", metadata={"n": 1}), image("\0", metadata={"n": 2})])
        assert sorted(store.ids()) == ["\0", "t", "ü/\U0001f6b2"]
        assert sorted(store.ids(modality="image")) == ["\0", "ü/\U0001f6b2"]
        assert list(store.ids(where={"n": {"gt": 1}})) == ["\0"]
        for bad in ({"where": {"n": {"like": 1}}}, {"modality": "audio"}):
            with pytest.raises(EmbedInputError, match=f"`{next(iter(bad))}`"):
                store.ids(**bad)

    def test_ids_reaches_every_record_once(self, store):
        store.upsert([image(str(i), vector(1, i), metadata={"even": i % 2 == 0}) for i in range(1300)])
        assert sorted(store.ids(), key=int) == [str(i) for i in range(1300)]
        assert sorted(store.ids(where={"even": True}), key=int) == [str(i) for i in range(0, 1300, 2)]

    def test_delete_by_ids_ignores_what_is_not_there(self, store):
        store.upsert([image("a"), image("b")])
        store.delete(["a", "nope"])
        store.delete([])
        assert ids_of(store.scroll()) == ["b"]

    def test_delete_by_filter(self, years):
        years.delete(where={"year": {"gte": 2000}})
        assert sorted(ids_of(years.scroll())) == ["c", "d"]
        years.delete(where={})
        assert years.count() == 0

    @pytest.mark.parametrize("arguments", [{}, {"ids": ["a"], "where": {}}])
    def test_delete_wants_ids_or_a_filter(self, years, arguments):
        with pytest.raises(EmbedInputError, match="one of `ids` and `where`"):
            years.delete(**arguments)
        assert years.count() == 4

    @pytest.mark.parametrize(("where", "expected"), FILTERS, ids=[str(where) for where, _ in FILTERS])
    def test_a_filter_means_the_same_everywhere(self, years, where, expected):
        assert sorted(ids_of(years.search(vector(1), where=where))) == sorted(expected)
        assert sorted(ids_of(years.scroll(where=where))) == sorted(expected)
        assert years.count(where=where) == len(expected)

    def test_a_filter_finds_what_is_far_away(self, store):
        store.upsert([image(f"near{i}", vector(1, i / 1000)) for i in range(300)])
        store.upsert([image("far", vector(-1), metadata={"rare": True})])
        assert ids_of(store.search(vector(1), limit=1, where={"rare": True})) == ["far"]

    @pytest.mark.parametrize("field", ["a.b", "a[0]", 'quo"te', "ü", "", "a b", "%41", "\ud800", "x" * 500, "$in"])
    def test_any_key_can_be_filtered(self, store, field):
        store.upsert([image("a", metadata={field: 5}), image("b", metadata={"other": 5})])
        assert ids_of(store.search(vector(1), where={field: 5})) == ["a"]
        assert ids_of(store.search(vector(1), where={field: {"gt": 4}})) == ["a"]
        assert ids_of(store.search(vector(1), where={field: {"exists": False}})) == ["b"]

    def test_large_numbers_are_told_apart(self, store):
        store.upsert([image("a", metadata={"n": 2**60}), image("b", metadata={"n": 2**60 + 1})])
        assert ids_of(store.scroll(where={"n": 2**60})) == ["a"]
        store.upsert([image("c", metadata={"n": 10**400}), image("d", metadata={"n": -(10**400)})])
        assert ids_of(store.scroll(where={"n": {"gt": 1e300}})) == ["c"]
        assert ids_of(store.scroll(where={"n": 10**400})) == ["c"]

    @pytest.mark.parametrize("where", BAD_FILTERS, ids=str)
    def test_a_bad_filter_is_refused_before_anything_happens(self, years, where):
        for call in (
            lambda: years.search(vector(1), where=where),
            lambda: years.count(where=where),
            lambda: years.scroll(where=where),
            lambda: years.delete(where=where),
        ):
            with pytest.raises(EmbedInputError, match="`where`"):
                call()
        assert years.count() == 4

    def test_a_filter_nested_without_end_is_refused(self, store):
        where: dict[str, Any] = {"a": 1}
        for _ in range(100_000):
            where = {"not": where}
        with pytest.raises(EmbedInputError, match="levels deep"):
            store.count(where=where)

    @pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
    def test_a_bad_record_stops_the_whole_batch(self, store, bad):
        with pytest.raises(EmbedInputError, match="record 1"):
            store.upsert([image("good"), bad(), image("after")])
        assert store.count() == 0

    @pytest.mark.parametrize(("vectors", "boxes"), BAD_TILES.values(), ids=BAD_TILES)
    def test_bad_tiles_stop_the_whole_batch(self, tiled, vectors, boxes):
        with pytest.raises(EmbedInputError, match=r"record 1 \('bad'\)"):
            tiled.upsert([image("good"), image("bad", tile_embeddings=vectors, tile_boxes=boxes)])
        assert tiled.count() == 0

    def test_many_searches_are_as_one_after_another(self, tiled):
        boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
        rows = np.random.default_rng(0).normal(size=(12, 3, E))
        tiled.upsert(
            [
                image(str(i), row[0], tile_embeddings=row[1:], tile_boxes=boxes, metadata={"n": i})
                if i % 3
                else text(str(i), row[0], metadata={"n": i})
                for i, row in enumerate(rows)
            ]
        )
        queries = np.random.default_rng(1).normal(size=(70, E)).astype(np.float32)
        for options in (
            {"limit": 3},
            {"limit": 5, "tiles": True},
            {"where": {"n": {"lt": 6}}, "modality": "image"},
            {"where": {"n": -1}},
        ):
            lists = tiled.search_many(queries, **options)
            assert len(lists) == len(queries)
            for query, found in zip(queries[::10], lists[::10], strict=True):
                expected = tiled.search(query, **options)
                assert [(hit.record_id, hit.box, hit.metadata) for hit in found] == [
                    (hit.record_id, hit.box, hit.metadata) for hit in expected
                ]
                assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        assert ids_of(tiled.search_many(queries[:1])[0]) == ids_of(tiled.search(queries[0]))

    def test_no_queries_give_no_lists_and_an_empty_store_gives_empty_ones(self, store):
        assert store.search_many(np.empty((0, E), np.float32)) == []
        assert store.search_many([]) == []
        assert store.search_many(np.eye(E, dtype=np.float32)[:3]) == [[], [], []]

    @pytest.mark.parametrize(
        ("embeddings", "where"),
        [
            (vector(1), "`embeddings`"),
            (np.ones((2, 1, E)), "`embeddings`"),
            ([vector(1), vector(np.nan)], r"`embeddings`\[1\]"),
            ([vector(1), vector(0)], r"`embeddings`\[1\]"),
            (np.ones((2, E + 1)), r"`embeddings`\[0\]"),
            ([vector(1), vector(1)[:-1]], r"`embeddings`\[1\]"),
            (None, "`embeddings`"),
            ("abc", "`embeddings`"),
        ],
    )
    def test_bad_query_vectors_are_refused_by_position(self, years, embeddings, where):
        with pytest.raises(EmbedInputError, match=where):
            years.search_many(embeddings)

    @pytest.mark.parametrize(
        "arguments", [{"limit": 0}, {"modality": "audio"}, {"tiles": True}, {"where": {"year": {"like": 1}}}]
    )
    def test_a_bad_argument_of_many_searches_is_refused_by_name(self, years, arguments):
        for queries in (np.ones((2, E)), np.empty((0, E))):
            with pytest.raises(EmbedInputError, match=f"`{next(iter(arguments))}`"):
                years.search_many(queries, **arguments)

    @pytest.mark.parametrize("bad", [vector(np.nan), vector(0), vector(1)[:-1], np.ones((1, E)), None, "abc"])
    def test_a_bad_query_vector_is_refused(self, years, bad):
        with pytest.raises(EmbedInputError, match="`embedding`"):
            years.search(bad)

    @pytest.mark.parametrize("arguments", [{"limit": 0}, {"limit": True}, {"limit": 2.0}, {"modality": "audio"}])
    def test_a_bad_argument_is_refused_by_name(self, years, arguments):
        with pytest.raises(EmbedInputError, match=f"`{next(iter(arguments))}`"):
            years.search(vector(1), **arguments)

    def test_a_string_is_not_a_list_of_ids(self, years):
        for call in (years.get, years.delete):
            with pytest.raises(EmbedInputError, match=r"write \['abc'\]"):
                call("abc")
        assert years.count() == 4

    def test_the_first_record_settles_the_dimensions_if_the_configuration_does_not(self, open_store):
        store = open_store(dataclasses.replace(PLAIN, dimensions=None))
        assert store.search(vector(1)) == []
        assert store.get(["a"]) == []
        store.upsert([])
        store.upsert([image("a")])
        with pytest.raises(EmbedInputError, match="shape"):
            store.upsert([image("b", np.ones(E + 1))])
        assert ids_of(store.search(vector(1))) == ["a"]

    def test_tiles_are_searched_by_the_nearest_and_its_box_is_told(self, tiled):
        boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
        tiled.upsert(
            [
                image("tiles", vector(0, 1), tile_embeddings=[vector(0, 1), vector(1, 0.1)], tile_boxes=boxes),
                image("whole", vector(1, 1)),
            ]
        )
        first, second = tiled.search(vector(1), tiles=True)
        assert (first.record_id, first.box) == ("tiles", Box(5, 0, 9, 9))
        assert first.box.right == 9
        assert first.score == pytest.approx(1 / np.hypot(1, 0.1), abs=1e-6)
        assert (second.record_id, second.box) == ("whole", None)
        assert second.score == pytest.approx(0.5**0.5, abs=1e-6)
        assert ids_of(tiled.search(vector(1))) == ["whole", "tiles"]

    def test_tiles_cannot_be_searched_where_there_are_none(self, years):
        with pytest.raises(EmbedInputError, match="`tiles`"):
            years.search(vector(1), tiles=True)

    def test_scroll_reaches_every_record_once(self, store):
        store.upsert([image(str(i), vector(1, i)) for i in range(600)])
        assert sorted(ids_of(store.scroll()), key=int) == [str(i) for i in range(600)]

    def test_verify_finds_every_record_by_its_own_vectors(self, tiled):
        assert dataclasses.astuple(tiled.verify()) == (0, 0, (), ())
        boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
        tiles = [image(str(i), vector(1, i), tile_embeddings=[vector(i, 1), BLUE], tile_boxes=boxes) for i in range(5)]
        tiled.upsert([*tiles, image("same", vector(1, 3)), *(text(f"text {i}") for i in range(30))])
        assert dataclasses.astuple(tiled.verify(repair=True)) == (36, 36, (), ())
        assert tiled.count() == 36

    def test_close_can_be_called_twice(self, open_store):
        store = open_store(dataclasses.replace(PLAIN, revision="closed"))
        store.close()
        store.close()
