"""The embedding function and the image loader in collections that chromadb itself makes."""

import json

import numpy as np
import pytest
from PIL import Image

from core_encoder import JinaClipEncoder
from jclip_connectors.chroma import JinaClipEmbeddingFunction, JinaClipImageLoader
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.local import LocalEmbedder
from tests.doubles.chroma_stores import folder_client
from tests.forked import run_program

# Opens a collection that another process has made, without naming the function.
REOPENS = """
import json, sys
import jclip_connectors.chroma
from tests.doubles.chroma_stores import folder_client

with folder_client(sys.argv[1]) as client:
    photos = client.get_collection("photos")
    found = photos.query(query_texts=["a red circle"], n_results=1)["ids"][0]
    photos.add(ids=["later"], documents=["a yellow star"])
    print(json.dumps([found, photos.get(ids=["later"], include=["embeddings"])["embeddings"].tolist()]))
"""


@pytest.fixture(scope="module")
def embedder():
    return LocalEmbedder(
        EmbeddingConfig(model="nano", dimensions=64), encoder=JinaClipEncoder.load("nano", device="cpu")
    )


@pytest.fixture
def function(embedder):
    return JinaClipEmbeddingFunction.from_embedder(embedder)


@pytest.fixture
def paths(tmp_path):
    paths = [str(tmp_path / f"{colour}.png") for colour in ("red", "blue")]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (20, 30), colour).save(path)
    return paths


def test_a_collection_finds_texts_and_pictures_by_texts_paths_and_pixels(client, name, function, paths, embedder):
    photos = client.create_collection(name, embedding_function=function, data_loader=JinaClipImageLoader())
    assert photos.configuration_json["hnsw"]["space"] == "cosine"
    photos.add(ids=["red", "blue"], uris=paths)
    photos.add(ids=["note"], documents=["a red circle"])
    assert photos.query(query_texts=["a red circle"], n_results=1)["ids"] == [["note"]]
    assert photos.query(query_uris=[paths[1]], n_results=1)["ids"] == [["blue"]]
    assert photos.query(query_images=JinaClipImageLoader()([paths[0]]), n_results=1)["ids"] == [["red"]]
    kept = photos.get(ids=["red", "note"], include=["embeddings"])
    expected = {"red": embedder.embed_images([paths[0]])[0], "note": embedder.embed_texts(["a red circle"])[0]}
    for record_id, row in zip(kept["ids"], kept["embeddings"], strict=True):
        np.testing.assert_allclose(row, expected[record_id], atol=1e-6)


def test_queries_have_the_prefix_of_queries(client, name, function, embedder):
    photos = client.create_collection(name, embedding_function=function)
    photos.add(ids=["note"], documents=["a red circle"])
    ((distance,),) = photos.query(query_texts=["a star"], n_results=1)["distances"]
    cosine = float(embedder.embed_texts(["a red circle"])[0] @ embedder.embed_query("a star"))
    assert 1 - distance == pytest.approx(cosine, abs=1e-5)


def test_a_collection_keeps_the_options_and_makes_the_function_again(client, name):
    given = JinaClipEmbeddingFunction("nano", dimensions=32, rendering="as_stored", device="cpu")
    client.create_collection(name, embedding_function=given)
    kept = client.get_collection(name).configuration_json["embedding_function"]
    assert (kept["type"], kept["name"]) == ("known", "jclip")
    assert kept["config"] == given.get_config()
    assert JinaClipEmbeddingFunction.build_from_config(kept["config"]).config == given.config


@pytest.mark.slow
def test_another_process_opens_it_without_naming_the_function(tmp_path, embedder, function):
    with folder_client(tmp_path / "data") as client:
        photos = client.create_collection("photos", embedding_function=function)
        photos.add(ids=["circle", "square"], documents=["a red circle", "a blue square"])
    code, printed, complaints = run_program("-c", REOPENS, tmp_path / "data")
    assert (code, complaints) == (0, "")
    found, rows = json.loads(printed)
    assert found == ["circle"]
    np.testing.assert_allclose(rows, embedder.embed_texts(["a yellow star"]), atol=1e-6)


def test_nothing_of_a_batch_with_a_bad_picture_is_added(client, name, function, paths, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    photos = client.create_collection(name, embedding_function=function, data_loader=JinaClipImageLoader())
    with pytest.raises(EmbedInputError, match="item 1"):
        photos.add(ids=["red", "bad"], uris=[paths[0], str(tmp_path / "bad.png")])
    assert photos.count() == 0


def test_vectors_of_another_kind_are_refused_by_the_collection(client, name, function):
    photos = client.create_collection(name, embedding_function=function)
    other = JinaClipEmbeddingFunction("nano", dimensions=32)
    with pytest.raises(EmbedInputError, match=r"the vectors of a collection cannot change, and \['dimensions'\]"):
        photos.modify(configuration={"embedding_function": other})
