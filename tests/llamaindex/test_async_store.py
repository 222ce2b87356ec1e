"""LlamaIndex's vector store over an asyncio store: its asynchronous methods await the store in the event loop."""

import dataclasses

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from core_encoder.tiling import Tiling
from jclip_connectors import EmbeddingConfig, EmbedInputError, StoreRequestError
from jclip_connectors.llamaindex import JinaClipVectorStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.every_store.loops import needing_the_loop
from tests.langchain.test_async_store import WatchedStore

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)
EMBEDDER = HashEmbedder(CONFIG)


def note(text, **metadata):
    row = EMBEDDER.embed_query(text).tolist()
    return TextNode(id_=text, text=text, metadata=metadata, embedding=row)


def asks(text, **options):
    return VectorStoreQuery(query_embedding=EMBEDDER.embed_query(text).tolist(), **options)


async def test_nodes_are_added_found_fetched_and_deleted():
    nodes = JinaClipVectorStore(store=WatchedStore(CONFIG))
    assert await nodes.async_add([note("a red circle", n=1), note("a blue star", n=2)]) == [
        "a red circle",
        "a blue star",
    ]
    found = await nodes.aquery(asks("a blue star", similarity_top_k=1))
    assert found.ids == ["a blue star"]
    second = MetadataFilters(filters=[MetadataFilter(key="n", value=2)])
    assert [node.node_id for node in await nodes.aget_nodes(filters=second)] == ["a blue star"]
    [fetched] = await nodes.aget_nodes(["a red circle"])
    np.testing.assert_allclose(np.array(fetched.embedding), EMBEDDER.embed_query("a red circle"), atol=1e-6)
    await nodes.adelete_nodes(filters=second)
    assert [node.node_id for node in await nodes.aget_nodes()] == ["a red circle"]
    await nodes.aclear()
    assert await nodes.aget_nodes() == []


async def test_diverse_nodes_are_chosen():
    nodes = JinaClipVectorStore(store=WatchedStore(CONFIG))
    await nodes.async_add([note("red star"), note("red star red"), note("blue circle")])
    query = asks("red star", similarity_top_k=2, mode=VectorStoreQueryMode.MMR)
    assert (await nodes.aquery(query, mmr_threshold=0.1)).ids == ["red star", "blue circle"]


async def test_tiles_are_embedded_beside_the_loop(tmp_path):
    config = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=2))
    picture(0).save(tmp_path / "picture.png")
    embedder = needing_the_loop(HashEmbedder(config), "embed_image_tiles")
    nodes = JinaClipVectorStore(store=WatchedStore(config), embedder=embedder, modality="image")
    row = EMBEDDER.embed_images([tmp_path / "picture.png"])[0].tolist()
    await nodes.async_add([ImageNode(id_="p", image_path=str(tmp_path / "picture.png"), embedding=row)])
    answer = await nodes.aquery(VectorStoreQuery(query_embedding=row, similarity_top_k=1))
    assert answer.nodes
    [found] = answer.nodes
    assert found.node_id == "p"
    assert len(found.metadata["box"]) == 4
    await nodes.aclear()
    assert await nodes.aget_nodes() == []


def test_a_blocking_method_of_an_asyncio_store_is_refused_and_says_what_to_call():
    nodes = JinaClipVectorStore(store=WatchedStore(CONFIG))
    for call in (
        lambda: nodes.add([note("a")]),
        lambda: nodes.query(asks("a")),
        lambda: nodes.get_nodes(),
        lambda: nodes.delete("a"),
        lambda: nodes.delete_nodes(["a"]),
        lambda: nodes.clear(),
    ):
        with pytest.raises(StoreRequestError, match="asyncio: call the async version"):
            call()


async def test_bad_arguments_are_refused_before_the_store_is_asked():
    store = WatchedStore(CONFIG)
    nodes = JinaClipVectorStore(store=store)
    with pytest.raises(EmbedInputError, match=r"write \[node\]"):
        await nodes.async_add(note("a"))
    with pytest.raises(EmbedInputError, match="has no `embedding`"):
        await nodes.async_add([TextNode(text="a")])
    with pytest.raises(EmbedInputError, match="unknown argument 'colour'"):
        await nodes.adelete("a", colour="red")
    assert store.calls == []
