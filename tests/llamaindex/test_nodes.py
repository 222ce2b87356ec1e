"""Nodes become records and come back; what is no node is refused."""

import base64
import logging
from datetime import date, datetime
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)

from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record
from jclip_connectors.testing.embedder_contract import picture
from tests.llamaindex.harness import PLAIN, RED, ask, note, one, photo, vector, where


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


class OwnNode(TextNode):
    pass


BAD_NODES = {
    "no node": (lambda: {"text": "a"}, "is dict"),
    "an empty id": (lambda: note(""), "the id of node 1"),
    "no embedding": (lambda: note("bad", None), "no `embedding`"),
    "a NaN": (lambda: note("bad", vector(float("nan"))), "NaN"),
    "a wrong length": (lambda: note("bad", [1.0]), r"shape \(1,\)"),
    "a zero vector": (lambda: note("bad", vector(0)), "all zero"),
    "a set": (lambda: note("bad", metadata={"day": {1}}), r"\['day'\] is not JSON: it is set; write sorted"),
    "a tuple": (lambda: note("bad", metadata={"size": (1, 2)}), "a tuple must be a list"),
    "a NaN in the metadata": (lambda: note("bad", metadata={"x": float("nan")}), r"\['x'\] is not JSON"),
    "a complex number": (lambda: note("bad", metadata={"x": np.complex64(1)}), r"\['x'\] is not JSON"),
    "a key of ours": (lambda: note("bad", metadata={"_node_content": "x"}), "'_node_content', which is reserved"),
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


def test_dates_in_the_metadata_of_a_node_and_of_its_document_become_text(memory):
    document = RelatedNodeInfo(node_id="doc", metadata={"day": date(2024, 1, 31)})
    node = note("a", metadata={"at": datetime(2024, 1, 31, 12), "size": np.int64(3)})
    node.relationships = {NodeRelationship.SOURCE: document}
    memory.add([node])
    (back,) = memory.get_nodes(["a"])
    assert back.metadata == {"at": "2024-01-31T12:00:00", "size": 3}
    assert back.source_node.metadata == {"day": "2024-01-31"}
    assert node.metadata["at"] == datetime(2024, 1, 31, 12), "the caller's node is changed"
