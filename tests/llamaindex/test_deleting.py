"""Deleting by document, by id and by filter, and two views of one store."""

import pytest

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from tests.llamaindex.harness import BLUE, PLAIN, ask, note, of_document, one, photo, where


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
