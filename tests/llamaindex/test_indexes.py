"""LlamaIndex's own indexes and pipelines over the store, with the bundled model."""

import dataclasses
import runpy
from pathlib import Path

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import Document, ImageNode, QueryBundle, TextNode

from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from jclip_connectors.testing import HashEmbedder
from tests.llamaindex.harness import NANO, PLAIN, image_path, of_document, pictures_of


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
        .as_retriever(similarity_top_k=len(gallery) + 1)
        .aretrieve(caption)
    )
    assert image_path(found[0].node) == path
    assert sorted(type(hit.node).__name__ for hit in found) == ["Document", *["ImageNode"] * len(gallery)]


def test_the_example_runs_offline(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "llamaindex_multimodal.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert lines[-4].removeprefix("pictures like ") in lines[-3]
