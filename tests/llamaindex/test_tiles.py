"""Tiles of images that are added as nodes."""

import dataclasses

import pytest
from llama_index.core.schema import ImageNode

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import Scene, SceneObject, draw_canvas
from core_encoder.tiling import Tiling
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.llamaindex.harness import BLUE, NANO, TILED, ask, found_by, image_path, note, photo, pictures_of


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
    with pytest.raises(EmbedInputError, match="give the vector store an `embedder`"):
        JinaClipVectorStore(store=store).add([note("note"), photo("photo")])
    nodes = JinaClipVectorStore(store=store, embedder=HashEmbedder(TILED))
    picture(0).save(tmp_path / "good.png")
    good = photo("good", image_path=str(tmp_path / "good.png"))
    for bad in ({"image_path": "nope.png"}, {"image_path": None, "image_url": "https://host/a.png"}):
        with pytest.raises(EmbedInputError, match=r"nothing was written.* node 1 .'bad'.: the image"):
            nodes.add([good, photo("bad", **bad)])
    assert store.count() == 0


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
