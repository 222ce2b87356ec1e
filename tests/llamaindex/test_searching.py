"""Queries: the order of their results, restrictions, and maximal marginal relevance."""

import numpy as np
import pytest
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from tests.llamaindex.harness import ask, note, of_document, one, photo, vector, where


def test_the_nearest_comes_first_with_its_cosine(nodes):
    nodes.add([note("far", vector(-1)), note("near", vector(3, 4)), note("mid", vector(0, 0, 1))])
    result = nodes.query(ask(top_k=2))
    assert result.ids == ["near", "mid"] == [node.node_id for node in result.nodes]
    assert isinstance(result.nodes, list)
    assert result.similarities == pytest.approx([0.6, 0.0], abs=1e-6)


def test_texts_and_images_are_ordered_together_and_similarities_are_cosines(nodes):
    nodes.add([note("t1"), note("t2", vector(1, 3)), photo("i1", vector(1, 9)), photo("i2", vector(0, 1))])
    result = nodes.query(ask(top_k=4))
    assert result.ids[0] == "t1"
    cosines = {"t1": 1, "t2": 1 / np.hypot(1, 3), "i1": 1 / np.hypot(1, 9), "i2": 0}
    assert result.similarities == pytest.approx([cosines[node_id] for node_id in result.ids], abs=1e-6)
    images = JinaClipVectorStore(store=nodes.store, modality="image").query(ask())
    assert images.ids == ["i1", "i2"]
    assert images.similarities == pytest.approx([1 / np.hypot(1, 9), 0], abs=1e-6)


def test_a_similarity_cutoff_keeps_what_it_kept_when_the_first_picture_is_added(memory):
    memory.add([note("t1"), note("t2", vector(1, 9))])
    cutoff = SimilarityPostprocessor(similarity_cutoff=0.5)

    def kept():
        found = memory.query(ask())
        scored = zip(found.nodes, found.similarities, strict=True)
        nodes = [NodeWithScore(node=node, score=score) for node, score in scored]
        return [each.node.node_id for each in cutoff.postprocess_nodes(nodes)]

    assert kept() == ["t1"]
    memory.add([photo("i1", vector(0, 1))])
    assert kept() == ["t1"]


def test_a_query_can_be_restricted_to_nodes_and_documents(nodes):
    nodes.add(
        [note(str(at), vector(1, at), relationships=of_document(f"doc{at % 2}")) for at in range(4)] + [note("x")]
    )
    assert nodes.query(ask(node_ids=["3", "1", "nope"])).ids == ["1", "3"]
    assert nodes.query(ask(doc_ids=["doc0"])).ids == ["0", "2"]
    assert nodes.query(ask(doc_ids=["doc0", "doc1"], node_ids=["2", "x"])).ids == ["2"]
    assert nodes.query(ask(doc_ids=[], node_ids=[])).ids == ["0", "x", "1", "2", "3"]
    assert nodes.query(ask(filters=where(one("ref_doc_id", "doc1")))).ids == ["1", "3"]


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
