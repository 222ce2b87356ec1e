import base64
import dataclasses
import logging
import pickle
import runpy
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from pydantic import ValidationError

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import Scene, SceneObject, draw_canvas, draw_scene, random_scene
from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import (
    CollectionMismatchError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
from jclip_connectors.llamaindex.filters import to_filter
from jclip_connectors.llamaindex.nodes import to_record
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.every_store.live_stores import LIVE_STORES
from tests.every_store.loops import needing_the_loop

E = 8
PLAIN = EmbeddingConfig(model="hash", revision="1", dimensions=E)
OTHER = dataclasses.replace(PLAIN, revision="2")
TILED = dataclasses.replace(PLAIN, tiling=Tiling(max_tiles=4))
NANO = EmbeddingConfig(model="nano")
SECRET = "sk-very-secret"  # noqa: S105 - it is looked for, and must not be found


def vector(*values):
    return [float(value) for value in (*values, *[0] * (E - len(values)))]


RED, BLUE = vector(1), vector(0, 1)


def note(node_id, embedding=RED, **fields):
    return TextNode(id_=node_id, embedding=embedding, **{"text": f"text of {node_id}", **fields})


def photo(node_id, embedding=RED, **fields):
    return ImageNode(id_=node_id, embedding=embedding, **{"image_path": f"/photos/{node_id}.png", **fields})


def of_document(ref_doc_id):
    return {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=ref_doc_id)}


def ask(embedding=RED, *, top_k=10, **fields):
    return VectorStoreQuery(query_embedding=embedding, similarity_top_k=top_k, **fields)


def where(*asked, condition=FilterCondition.AND):
    parts = [part if isinstance(part, MetadataFilters) else MetadataFilter(**part) for part in asked]
    return MetadataFilters(filters=parts, condition=condition)


def one(key, value, operator="=="):
    return {"key": key, "value": value, "operator": operator}


@pytest.fixture(scope="module", params=LIVE_STORES)
def open_store(request):
    with LIVE_STORES[request.param]() as opened:
        yield opened


@pytest.fixture
def nodes(open_store):
    return JinaClipVectorStore(store=open_store(PLAIN))


@pytest.fixture
def memory():
    return JinaClipVectorStore(store=InMemoryStore(PLAIN))


@pytest.fixture(scope="module")
def nano():
    return LocalEmbedder(NANO)


def full_nodes(tmp_path):
    path = tmp_path / "picture.png"
    picture(0).save(path)
    related = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", node_type="4", metadata={"a": 1}, hash="h"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="child")],
    }
    metadata: dict[str, Any] = {
        "int": 7, "float": 7.0, "bool": True, "null": None, "empty": [], "list": ["x", 1, None], "nested": {"a": [{}]},
        "doc_id": "the user's own", "text": "naïve \U0001f6b2", "and": "joins",
    }  # fmt: skip
    common: dict[str, Any] = {"metadata": metadata, "relationships": related, "excluded_llm_metadata_keys": ["int"]}
    return [
        TextNode(text="ein Text\n", start_char_idx=3, end_char_idx=12, text_template="{content}", **common),
        ImageNode(image_path=str(path), text="a caption", text_embedding=[0.5, 0.25], **common),
        ImageNode(image_url="https://host/a.png", image_mimetype="image/png"),
        IndexNode(text="more", index_id="other", **common),
        Document(text="a document", **common),
        Node(text_resource=MediaResource(text="a text", mimetype="text/markdown"), **common),
        Node(image_resource=MediaResource(path=path), text_resource=MediaResource(text="a caption")),
        ImageDocument(image_path=str(path), text="a caption", **common),
    ]


def image_path(node):
    assert isinstance(node, ImageNode)
    return node.image_path


def found_by(nodes, query):
    return list(nodes.query(query).nodes or [])


def test_a_node_comes_back_as_it_was_given(nodes, tmp_path, caplog):
    originals = full_nodes(tmp_path)
    for at, node in enumerate(originals):
        node.embedding = vector(1, at)
    before = [node.to_json() for node in originals]
    with caplog.at_level(logging.WARNING):
        assert nodes.add(originals) == [node.node_id for node in originals]
        assert [node.to_json() for node in originals] == before
        for back in (
            nodes.get_nodes([node.node_id for node in originals]),
            sorted(nodes.get_nodes(), key=order_of(originals)),
        ):
            for node, original in zip(back, originals, strict=True):
                assert type(node) is type(original)
                unit = np.array(original.embedding) / np.linalg.norm(original.embedding)
                np.testing.assert_allclose(node.embedding, unit, atol=1e-6)
                node.embedding = original.embedding
                assert node == original
        result = nodes.query(ask())
    for node in result.nodes:
        (original,) = (candidate for candidate in originals if candidate.node_id == node.node_id)
        node.embedding = original.embedding
        assert node == original
        assert node.hash == original.hash
    assert not caplog.records


def order_of(originals):
    ids = [node.node_id for node in originals]
    return lambda node: ids.index(node.node_id)


def test_where_an_image_is_is_kept_and_its_bytes_are_not(memory):
    data = base64.b64encode(b"the image itself" * 20).decode()
    memory.add(
        [
            photo("path", image=data),
            photo("bytes", image_path=None, image=data),
            photo("data uri", image_path=None, image_url=f"data:image/png;base64,{data}"),
            Node(id_="resource", embedding=RED, image_resource=MediaResource(data=b"the image itself" * 20)),
            Node(
                id_="url", embedding=RED, image_resource=MediaResource.model_validate({"url": f"data:a;base64,{data}"})
            ),
            photo("url of an image", image_path=None, image_url="https://host/a.png"),
        ]
    )
    records = memory.store.get(["path", "bytes", "data uri", "resource", "url", "url of an image"])
    assert [record.uri for record in records] == ["/photos/path.png", None, None, None, None, "https://host/a.png"]
    assert data[:40] not in repr(records)
    assert memory.get_nodes(["path"])[0].image_path == "/photos/path.png"
    assert memory.get_nodes(["path"])[0].image is None


def test_the_nearest_comes_first_with_its_cosine(nodes):
    nodes.add([note("far", vector(-1)), note("near", vector(3, 4)), note("mid", vector(0, 0, 1))])
    result = nodes.query(ask(top_k=2))
    assert result.ids == ["near", "mid"] == [node.node_id for node in result.nodes]
    assert isinstance(result.nodes, list)
    assert result.similarities == pytest.approx([0.6, 0.0], abs=1e-6)


def test_texts_and_images_are_ranked_apart_and_fused(nodes):
    nodes.add([note("t1"), note("t2", vector(1, 0.1)), photo("i1", vector(1, 9)), photo("i2", vector(0, 1))])
    result = nodes.query(ask(top_k=3))
    assert result.ids == ["i1", "t1", "i2"]
    assert result.similarities == pytest.approx([1 / 61, 1 / 61, 1 / 62])
    images = JinaClipVectorStore(store=nodes.store, modality="image").query(ask())
    assert images.ids == ["i1", "i2"]
    assert images.similarities == pytest.approx([1 / np.hypot(1, 9), 0], abs=1e-6)


def test_a_query_can_be_restricted_to_nodes_and_documents(nodes):
    nodes.add(
        [note(str(at), vector(1, at), relationships=of_document(f"doc{at % 2}")) for at in range(4)] + [note("x")]
    )
    assert nodes.query(ask(node_ids=["3", "1", "nope"])).ids == ["1", "3"]
    assert nodes.query(ask(doc_ids=["doc0"])).ids == ["0", "2"]
    assert nodes.query(ask(doc_ids=["doc0", "doc1"], node_ids=["2", "x"])).ids == ["2"]
    assert nodes.query(ask(doc_ids=[], node_ids=[])).ids == ["0", "x", "1", "2", "3"]
    assert nodes.query(ask(filters=where(one("ref_doc_id", "doc1")))).ids == ["1", "3"]


METADATA = {
    "a": {"year": 2019, "tags": ["x", "y"], "name": "anna"},
    "b": {"year": 2020.5, "tags": ["x"], "name": "bob"},
    "c": {"year": None, "tags": []},
    "d": {"tags": ["z", "y"], "name": ""},
}
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


NAMES = ["x", "y", "yx"]
ASKED = st.one_of(
    st.builds(one, st.just("n"), st.integers(-2, 2), st.sampled_from(["==", "!=", ">", ">=", "<", "<="])),
    st.builds(one, st.just("s"), st.sampled_from(NAMES), st.sampled_from(["==", "!="])),
    st.builds(one, st.just("s"), st.lists(st.sampled_from(NAMES)), st.sampled_from(["in", "nin"])),
    st.builds(one, st.just("l"), st.sampled_from(NAMES), st.just("contains")),
    st.builds(one, st.just("l"), st.lists(st.sampled_from(NAMES), min_size=1), st.sampled_from(["any", "all"])),
    st.builds(one, st.sampled_from("nsl"), st.none(), st.just("is_empty")),
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0]),
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
    "a field that joins": (where(one("and", 1)), "no field named 'and'"),
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


def test_mmr_prefers_what_is_not_there_yet(nodes):
    rows = {
        "a": vector(1, 0.1),
        "a again": vector(1, 0.11),
        "b": vector(1, -0.9),
        "b again": vector(1, -0.89),
        "c": vector(1, 0.1, 2),
    }
    nodes.add([note(node_id, row) for node_id, row in rows.items()])
    mmr = {"mode": VectorStoreQueryMode.MMR, "top_k": 3}
    diverse = nodes.query(ask(**mmr))
    assert diverse.ids == ["a", "b", "c"]
    cosines = [1 / np.linalg.norm(rows[node_id]) for node_id in diverse.ids]
    assert diverse.similarities == pytest.approx(cosines, abs=1e-6)
    assert nodes.query(ask(**mmr), mmr_threshold=1).ids == ["a", "a again", "b again"]
    assert nodes.query(ask(mmr_threshold=1.0, **mmr)).ids == ["a", "a again", "b again"]
    assert nodes.query(ask(**mmr), mmr_prefetch_k=3).ids == ["a", "b again", "a again"]
    assert nodes.query(ask(filters=where(one("x", 1)), **mmr)).ids == []


def test_nodes_are_deleted_by_document_by_id_and_by_filter(nodes):
    nodes.add([note(str(at), relationships=of_document(f"doc{at % 2}"), metadata={"at": at}) for at in range(6)])
    nodes.add([note("None"), photo("photo", relationships=of_document("doc0"))])
    nodes.delete("doc0")
    nodes.delete("None")
    assert sorted(node.node_id for node in nodes.get_nodes()) == ["1", "3", "5", "None"]
    nodes.delete_nodes(["1", "nope"])
    nodes.delete_nodes([])
    nodes.delete_nodes(["3", "5"], where(one("at", 4, ">")))
    assert sorted(node.node_id for node in nodes.get_nodes()) == ["3", "None"]
    nodes.delete_nodes(filters=where(one("at", 3)))
    assert [node.node_id for node in nodes.get_nodes()] == ["None"]
    nodes.clear()
    assert nodes.get_nodes() == nodes.get_nodes(["None"]) == []


def test_a_text_and_an_image_of_one_node_live_side_by_side_in_one_store(open_store):
    store = open_store(PLAIN)
    texts, images = (JinaClipVectorStore(store=store, modality=modality) for modality in ("text", "image"))
    both = photo("both", text="a caption", relationships=of_document("doc"))
    texts.add([note("note", BLUE), both])
    images.add([both.model_copy(update={"embedding": BLUE}), photo("photo", relationships=of_document("doc"))])
    assert texts.query(ask()).ids == ["both", "note"]
    assert images.query(ask()).ids == ["photo", "both"]
    for view in (texts, images):
        (found,) = view.get_nodes(["both"])
        found.embedding = both.embedding
        assert found == both
    texts.delete("doc")
    images.delete_nodes(["note"])
    assert [node.node_id for node in texts.get_nodes()] == ["note"]
    assert sorted(node.node_id for node in images.get_nodes()) == ["both", "photo"]
    images.clear()
    assert store.count() == 1
    texts.delete_nodes(["note"])
    assert store.count() == 0


def test_records_of_another_front_door_are_found_as_nodes(nodes):
    row = np.array(RED, np.float32)
    nodes.store.upsert(
        [
            Record(record_id="t", modality="text", embedding=row, content="a text", metadata={"year": 2020}),
            Record(record_id="i", modality="image", embedding=row, uri="/photos/i.png"),
            Record(record_id="u", modality="image", embedding=row, uri="https://host/u.png"),
        ]
    )
    text, path, url = nodes.get_nodes(["t", "i", "u"])
    assert (type(text), text.text, text.metadata) == (TextNode, "a text", {"year": 2020})
    assert (type(path), path.image_path, path.image_url) == (ImageNode, "/photos/i.png", None)
    assert (type(url), url.image_path, url.image_url) == (ImageNode, None, "https://host/u.png")
    assert nodes.query(ask(filters=where(one("year", 2020)))).ids == ["t"]


def test_a_record_that_holds_no_readable_node_is_an_error_that_names_it(memory):
    row = np.array(RED, np.float32)
    for metadata in ({"_node_content": "{}", "_node_type": "Chart"}, {"_node_content": "{", "_node_type": "TextNode"}):
        memory.store.upsert([Record(record_id="odd", modality="text", embedding=row, content="", metadata=metadata)])
        with pytest.raises(StoreRequestError, match="'odd' holds a"):
            memory.query(ask())


def test_tiles_find_the_part_of_an_image_and_tell_its_box(open_store, tmp_path):
    embedder = HashEmbedder(TILED)
    store = open_store(TILED)
    nodes = JinaClipVectorStore(store=store, embedder=embedder)
    image = picture(3, (80, 40))
    image.save(tmp_path / "wide.png")
    nodes.add(
        [
            photo("wide", embedder.embed_images([image])[0].tolist(), image_path=str(tmp_path / "wide.png")),
            note("note", BLUE),
        ]
    )
    right = embedder.embed_images([image.crop((40, 0, 80, 40))])[0].tolist()
    found = found_by(nodes, ask(right))[0]
    assert (found.node_id, found.metadata) == ("wide", {"box": [40, 0, 80, 40]})
    assert JinaClipVectorStore(store=store, modality="image").query(ask(right)).similarities == pytest.approx([1.0])
    assert nodes.get_nodes(["wide"])[0].metadata == {}
    assert found_by(nodes, ask(node_ids=["note"]))[0].metadata == {}
    with pytest.raises(EmbedInputError, match=r"node 0 .'wide'.* has the key 'box'"):
        nodes.add([found.model_copy(update={"embedding": right})])


def test_tiles_need_an_embedder_and_images_that_can_be_read(tmp_path):
    store = InMemoryStore(TILED)
    with pytest.raises(EmbedInputError, match="give the store an `embedder`"):
        JinaClipVectorStore(store=store).add([note("note"), photo("photo")])
    nodes = JinaClipVectorStore(store=store, embedder=HashEmbedder(TILED))
    picture(0).save(tmp_path / "good.png")
    good = photo("good", image_path=str(tmp_path / "good.png"))
    for bad in ({"image_path": "nope.png"}, {"image_path": None, "image_url": "https://host/a.png"}):
        with pytest.raises(EmbedInputError, match=r"nothing was written.* node 1 .'bad'.: the image"):
            nodes.add([good, photo("bad", **bad)])
    assert store.count() == 0


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Drawn pictures with one object each, and what each shows in words."""
    folder = tmp_path_factory.mktemp("gallery")
    rng = np.random.default_rng(5)
    shown: dict[str, Scene] = {}
    while len(shown) < 30:
        scene = random_scene(rng, num_objects=1)
        shown.setdefault(write(full_description(scene), "en"), scene)
    paths = {}
    for at, (caption, scene) in enumerate(shown.items()):
        paths[caption] = str(folder / f"{at:02}.png")
        draw_scene(scene, seed=at).image.save(paths[caption])
    return paths


def pictures_of(gallery):
    return [ImageNode(image_path=path, metadata={"file_path": path}) for path in gallery.values()]


@pytest.mark.parametrize("shared", [True, False], ids=["one store", "two stores"])
async def test_a_multimodal_index_finds_texts_and_images(open_store, nano, gallery, shared):
    embedding = JinaClipEmbedding.from_embedder(nano)
    first = open_store(NANO)
    second = first if shared else open_store(dataclasses.replace(NANO, max_tokens=99))
    index = MultiModalVectorStoreIndex(
        nodes=[*(TextNode(text=caption) for caption in gallery), *pictures_of(gallery)],
        storage_context=StorageContext.from_defaults(
            vector_store=JinaClipVectorStore(store=first, modality="text"),
            image_store=JinaClipVectorStore(store=second, modality="image"),
        ),
        embed_model=embedding,
        image_embed_model=embedding,
    )
    retriever = index.as_retriever(similarity_top_k=2, image_similarity_top_k=3)
    captions = list(gallery)
    right = 0
    for caption in captions:
        texts, images = retriever.text_retrieve(caption), retriever.text_to_image_retrieve(caption)
        assert [len(texts), len(images)] == [2, 3]
        assert texts[0].node.get_content() == caption
        right += gallery[caption] in [image_path(hit.node) for hit in images]
        assert all(isinstance(hit.node, ImageNode) for hit in images)
    assert right >= 0.9 * len(captions)
    caption, path = captions[3], gallery[captions[3]]
    both = retriever.retrieve(caption)
    assert [type(hit.node) for hit in both] == [TextNode] * 2 + [ImageNode] * 3
    alike = retriever.image_to_image_retrieve(path)
    assert image_path(alike[0].node) == path
    assert alike[0].score == pytest.approx(1, abs=1e-3)
    for found, expected in (
        (await retriever.aretrieve(caption), both),
        (await retriever.atext_retrieve(caption), both[:2]),
        (await retriever.atext_to_image_retrieve(caption), both[2:]),
        (await retriever.aimage_to_image_retrieve(QueryBundle("", image_path=path)), alike),
    ):
        assert [hit.node_id for hit in found] == [hit.node_id for hit in expected]
    again = MultiModalVectorStoreIndex.from_vector_store(
        JinaClipVectorStore(store=first, modality="text"),
        embed_model=embedding,
        image_vector_store=JinaClipVectorStore(store=second, modality="image"),
        image_embed_model=embedding,
    )
    assert [hit.node_id for hit in again.as_retriever(similarity_top_k=2).retrieve(caption)][:2] == [
        hit.node_id for hit in both[:2]
    ]


def test_an_index_of_texts_is_built_searched_and_pruned(nodes):
    embedding = JinaClipEmbedding.from_embedder(HashEmbedder(PLAIN))
    index = VectorStoreIndex(
        nodes=[
            TextNode(id_=text, text=text, relationships=of_document(text[0])) for text in ("a cat", "a dog", "b dog")
        ],
        storage_context=StorageContext.from_defaults(vector_store=nodes),
        embed_model=embedding,
    )
    assert [hit.node_id for hit in index.as_retriever(similarity_top_k=1).retrieve("a cat")] == ["a cat"]
    mmr = index.as_retriever(
        similarity_top_k=2, vector_store_query_mode="mmr", vector_store_kwargs={"mmr_threshold": 0.5}
    )
    assert len(mmr.retrieve("a cat")) == 2
    index.delete_ref_doc("a")
    index.delete_nodes(["nope"])
    later = VectorStoreIndex.from_vector_store(nodes, embed_model=embedding)
    assert [hit.node_id for hit in later.as_retriever().retrieve("a cat")] == ["b dog"]


async def test_a_pipeline_writes_pictures_and_texts_that_an_index_finds(open_store, nano, gallery):
    embedding = JinaClipEmbedding.from_embedder(nano)
    nodes = JinaClipVectorStore(store=open_store(NANO), embedder=nano)
    caption, path = next(iter(gallery.items()))
    pipeline = IngestionPipeline(transformations=[embedding], vector_store=nodes)
    pipeline.run(nodes=pictures_of(gallery))
    await pipeline.arun(documents=[Document(text="stock prices", id_="doc")])
    found = (
        await VectorStoreIndex.from_vector_store(nodes, embed_model=embedding)
        .as_retriever(similarity_top_k=2)
        .aretrieve(caption)
    )
    assert [type(hit.node) for hit in found] == [ImageNode, Document]
    assert image_path(found[0].node) == path


def test_a_small_thing_is_found_by_its_tile_with_the_real_model(open_store, gallery, tmp_path):
    config = dataclasses.replace(NANO, tiling=Tiling(max_tiles=16))
    embedding = JinaClipEmbedding(model="nano", tiling=config.tiling)
    asked = SceneObject(shape="ring", colour="orange", size="small", place="centre")
    canvas = draw_canvas(asked, seed=4, tiles_per_side=4).image
    canvas.save(tmp_path / "canvas.png")
    nodes = JinaClipVectorStore(store=open_store(config), embedder=embedding.embedder, modality="image")
    given = [*pictures_of(gallery)[:8], ImageNode(image_path=str(tmp_path / "canvas.png"))]
    nodes.add(embedding(given))
    query = embedding.get_query_embedding(write(full_description(Scene(objects=(asked,))), "en"))
    (found,) = found_by(nodes, ask(query, top_k=1))
    assert image_path(found) == given[-1].image_path
    left, top, right, bottom = found.metadata["box"]
    assert right - left < canvas.width / 2
    assert bottom - top < canvas.height / 2


async def test_the_async_twins_do_the_same(memory):
    assert await memory.async_add([note("a", metadata={"x": 1}), note("b", relationships=of_document("doc"))]) == [
        "a",
        "b",
    ]
    assert (await memory.aquery(ask())).ids == ["a", "b"]
    assert [node.node_id for node in await memory.aget_nodes(["b"])] == ["b"]
    await memory.adelete("doc")
    assert memory.query(ask()).ids == ["a"]
    await memory.adelete_nodes(filters=where(one("x", 2)))
    assert memory.query(ask()).ids == ["a"]
    await memory.adelete_nodes(["a"])
    assert memory.store.count() == 0
    memory.add([note("a")])
    await memory.aclear()
    assert memory.store.count() == 0


async def test_the_event_loop_goes_on_while_the_store_works():
    store = needing_the_loop(InMemoryStore(PLAIN), "upsert", "search", "delete")
    nodes = JinaClipVectorStore(store=store, modality="text")
    assert await nodes.async_add([note("a")]) == ["a"]
    assert (await nodes.aquery(ask())).ids == ["a"]
    await nodes.adelete_nodes(["a"])
    assert store.count() == 0


class KeyedStore(InMemoryStore):
    def __init__(self, config):
        super().__init__(config)
        self.api_key = SECRET

    def __repr__(self):
        return f"KeyedStore({self.api_key})"


def test_the_store_is_neither_shown_nor_dumped_nor_pickled():
    store = KeyedStore(PLAIN)
    nodes = JinaClipVectorStore(store=store, embedder=HashEmbedder(PLAIN), modality="text")
    assert SECRET not in f"{nodes!r}{nodes}{nodes.to_dict()}{nodes.to_json()}"
    assert nodes.client is store
    back = JinaClipVectorStore.from_dict(nodes.to_dict(), store=store)
    assert (back.modality, back.store, back.stores_text) == ("text", store, True)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(nodes)
    for wrong in ({"store": SECRET}, {"store": store, "modality": SECRET}, {"store": store, "api_key": SECRET}):
        with pytest.raises(ValidationError) as caught:
            JinaClipVectorStore(**wrong)
        assert SECRET not in str(caught.value)


def test_an_embedder_with_another_configuration_is_refused():
    with pytest.raises(CollectionMismatchError, match=r"`revision` '1' .now '2'."):
        JinaClipVectorStore(store=InMemoryStore(PLAIN), embedder=HashEmbedder(OTHER))


BAD_STORES = {"no store": None, "a path": "photos.jclip", "a class": object()}


@pytest.mark.parametrize("store", BAD_STORES.values(), ids=BAD_STORES)
def test_what_is_no_store_is_refused(store):
    with pytest.raises(ValidationError, match=r"`store` is a .* which has no upsert"):
        JinaClipVectorStore(store=store)


class OwnNode(TextNode):
    pass


BAD_NODES = {
    "no node": (lambda: {"text": "a"}, "is dict"),
    "an empty id": (lambda: note(""), "the id of node 1"),
    "no embedding": (lambda: note("bad", None), "no `embedding`"),
    "a NaN": (lambda: note("bad", vector(float("nan"))), "NaN"),
    "a wrong length": (lambda: note("bad", [1.0]), r"shape \(1,\)"),
    "a zero vector": (lambda: note("bad", vector(0)), "all zero"),
    "a date": (lambda: note("bad", metadata={"day": datetime(2024, 1, 31)}), r"\['day'\] is not JSON"),
    "a tuple": (lambda: note("bad", metadata={"size": (1, 2)}), "a tuple must be a list"),
    "a NaN in the metadata": (lambda: note("bad", metadata={"x": float("nan")}), r"\['x'\] is not JSON"),
    "a number of numpy": (lambda: note("bad", metadata={"x": np.float32(1)}), r"\['x'\] is not JSON"),
    "a key of ours": (lambda: note("bad", metadata={"_node_content": "x"}), "'_node_content', which is used"),
    "a lone surrogate": (lambda: note("bad", text="\ud800"), "surrogate|JSON"),
    "a node class that would not come back": (lambda: OwnNode(id_="bad", embedding=RED), "OwnNode.* use TextNode"),
    "a relation that JSON cannot hold": (
        lambda: note(
            "bad", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d", metadata={"x": {1j}})}
        ),
        "JSON",
    ),
}


@pytest.mark.parametrize(("bad", "message"), BAD_NODES.values(), ids=BAD_NODES)
def test_a_bad_node_stops_the_whole_batch_and_is_named(memory, bad, message):
    with pytest.raises(EmbedInputError, match=message) as caught:
        memory.add([note("good"), bad(), note("after")])
    assert "node 1" in str(caught.value) or "record 1" in str(caught.value)
    assert memory.store.count() == 0


def test_a_text_is_refused_where_images_are_kept():
    with pytest.raises(EmbedInputError, match=r"node 0 .'a'. is a TextNode without an image"):
        JinaClipVectorStore(store=InMemoryStore(PLAIN), modality="image").add([note("a")])


BAD_QUERIES = {
    "no vector": (ask(None), {}, "`query_embedding` is None"),
    "a NaN": (ask(vector(float("nan"))), {}, "`query_embedding` has a NaN"),
    "a wrong length": (ask([1.0]), {}, r"shape \(1,\)"),
    "nothing asked for": (ask(top_k=0), {}, "`similarity_top_k` is 0"),
    "half a result": (ask(top_k=1.5), {}, "`similarity_top_k` is 1.5"),
    "words": (ask(mode=VectorStoreQueryMode.HYBRID), {}, "`mode` is 'hybrid'; use 'default' or 'mmr'"),
    "an argument of another mode": (ask(alpha=0.5), {}, "`alpha` is 0.5"),
    "an mmr argument without mmr": (ask(), {"mmr_threshold": 0.5}, "for the mode 'mmr'"),
    "an mmr threshold out of range": (ask(mode=VectorStoreQueryMode.MMR), {"mmr_threshold": 2}, "use 0 to 1"),
    "too few to choose from": (ask(mode=VectorStoreQueryMode.MMR), {"mmr_prefetch_k": 3}, "`similarity_top_k`, 10"),
    "an unknown argument": (ask(), {"efSearch": 8}, "unknown argument 'efSearch'"),
    "one node id": (ask(node_ids="abc"), {}, r"write \['abc'\]"),
    "an empty document id": (ask(doc_ids=[""]), {}, "non-empty"),
}


@pytest.mark.parametrize(("query", "arguments", "message"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_a_bad_query_is_refused_by_name(memory, query, arguments, message):
    memory.add([note("a")])
    with pytest.raises(EmbedInputError, match=message):
        memory.query(query, **arguments)


def test_a_bad_deletion_deletes_nothing(memory):
    memory.add([note("a")])
    for call, message in (
        (lambda: memory.delete(""), "`ref_doc_id`"),
        (lambda: memory.delete(None), "`ref_doc_id`"),
        (lambda: memory.delete("doc", force=True), "unknown argument 'force'"),
        (memory.delete_nodes, "`clear..` deletes everything"),
        (lambda: memory.delete_nodes(filters=where()), "`clear..` deletes everything"),
        (lambda: memory.delete_nodes("abc"), r"write \['abc'\]"),
        (lambda: memory.delete_nodes(["a"], all=True), "unknown argument 'all'"),
        (lambda: memory.add(note("b")), r"write \[node\]"),
        (lambda: memory.add([note("b")], batch=1), "unknown argument 'batch'"),
        (lambda: memory.get_nodes("abc"), r"write \['abc'\]"),
    ):
        with pytest.raises(EmbedInputError, match=message):
            call()
    assert memory.store.count() == 1


@pytest.mark.parametrize(
    "error",
    [
        PartialFailureError("records", failed={1: StoreRequestError("refused")}, kept={0: None}),
        StoreUnavailableError("no answer", retry_after_s=3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_store_says_reaches_the_caller(error):
    class Failing(InMemoryStore):
        def upsert(self, *_):
            raise error

    with pytest.raises(type(error)) as caught:
        JinaClipVectorStore(store=Failing(PLAIN)).add([note("a"), note("b")])
    assert caught.value is error


def test_without_llamaindex_the_error_names_the_extra_and_with_it_no_torch_is_loaded():
    code = (
        "import sys\n"
        "from jclip_connectors.errors import MissingDependencyError\n"
        "names = ['embeddings', 'vector_store', 'filters', 'nodes']\n"
        "modules = ['jclip_connectors.llamaindex.' + name for name in names]\n"
        "sys.modules['llama_index'] = None\n"
        "for module in modules:\n"
        "    try:\n        __import__(module)\n"
        "    except MissingDependencyError as error:\n        print(error.extra)\n"
        "del sys.modules['llama_index']\n"
        "for module in modules:\n    __import__(module)\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (our own code)
    assert run.stdout.split() == [*["llamaindex"] * 4, "False"]


def test_the_example_runs_offline(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "llamaindex_multimodal.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert lines[-4].removeprefix("pictures like ") in lines[-3]
