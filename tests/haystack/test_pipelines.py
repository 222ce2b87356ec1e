"""Pipelines of Haystack: pictures are indexed and found, and what is saved loads in another process."""

import asyncio
import gc
import importlib
import os
from pathlib import Path

import pytest
from PIL import Image

from core_encoder.errors import ConfigError
from core_encoder.tiling import Tiling
from jclip_connectors import CollectionMismatchError, EmbeddingConfig, EmbedInputError, StoreUnavailableError
from jclip_connectors.edge import QdrantEdgeStore
from tests.doubles.qdrant_server import QdrantServer
from tests.forked import run_program
from tests.late import late

ours = late("jclip_connectors.haystack")
opening = late("jclip_connectors.haystack.opening")
haystack = late("haystack")
types = late("haystack.document_stores.types")
converters = late("haystack.components.converters.image")
writers = late("haystack.components.writers")
utils = late("haystack.utils")

NANO = EmbeddingConfig(model="nano", dimensions=32)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def pictures(tmp_path):
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), colour).save(tmp_path / name / "same.png")
    return [tmp_path / name / "same.png" for name in COLOURS]


@pytest.fixture
def url(tmp_path):
    yield f"edge:{tmp_path}/photos.jclip"
    gc.collect()  # a pipeline refers to itself
    opening()._close_unused()
    assert not opening()._open, "a collection is still open"


def indexing(url, **options):
    store = ours().JinaClipDocumentStore(url=url, config=NANO)
    pipeline = haystack().Pipeline()
    pipeline.add_component("converter", converters().ImageFileToDocument(**{"store_full_path": True} | options))
    pipeline.add_component("embedder", ours().JinaClipImageDocumentEmbedder(NANO))
    pipeline.add_component("writer", writers().DocumentWriter(store, policy=types().DuplicatePolicy.SKIP))
    pipeline.connect("converter.documents", "embedder.documents")
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


def searching(url):
    store = ours().JinaClipDocumentStore(url=url)
    pipeline = haystack().Pipeline()
    pipeline.add_component("by_text", ours().JinaClipTextRetriever(store, ours().JinaClipTextEmbedder(NANO), top_k=1))
    pipeline.add_component(
        "by_image", ours().JinaClipImageRetriever(store, ours().JinaClipImageEmbedder(NANO), top_k=1)
    )
    pipeline.add_component("embedder", ours().JinaClipTextEmbedder(NANO))
    pipeline.add_component("by_vector", ours().JinaClipEmbeddingRetriever(store, top_k=1, modality="image"))
    pipeline.connect("embedder.embedding", "by_vector.query_embedding")
    return pipeline


def asked(picture):
    return {"by_text": {"query": "red"}, "by_image": {"image": picture}, "embedder": {"text": "red"}}


def test_pictures_are_indexed_and_found_by_text_and_by_image(pictures, url):
    assert indexing(url).run({"converter": {"sources": pictures}})["writer"] == {"documents_written": 3}
    assert indexing(url).run({"converter": {"sources": pictures}})["writer"] == {"documents_written": 0}
    found = searching(url).run(asked(pictures[2]))
    [by_image] = found["by_image"]["documents"]
    assert (by_image.meta["file_path"], by_image.score) == (str(pictures[2]), pytest.approx(1, abs=1e-5))
    assert found["by_text"] == found["by_vector"]


def test_pictures_of_one_name_are_one_document_unless_all_of_the_path_is_stored(pictures, url):
    with pytest.raises(haystack().core.errors.PipelineRuntimeError, match="`store_full_path=True`"):
        indexing(url, store_full_path=False).run({"converter": {"sources": pictures}})


def test_asyncio_indexes_and_finds_the_same(pictures, url):
    async def both():
        await indexing(url).run_async({"converter": {"sources": pictures}})
        return await searching(url).run_async(asked(pictures[1]))

    found = asyncio.run(both())
    assert found == searching(url).run(asked(pictures[1]))


def test_what_is_saved_loads_without_more_modules_and_finds_the_same(pictures, url):
    saved = [pipeline.dumps() for pipeline in (indexing(url), searching(url))]
    index, search = map(haystack().Pipeline.loads, saved)
    index.run({"converter": {"sources": pictures}})
    assert search.run(asked(pictures[0])) == searching(url).run(asked(pictures[0]))
    assert [pipeline.dumps() for pipeline in (index, search)] == saved


def test_what_is_saved_has_every_option_and_no_key(monkeypatch, tmp_path):
    monkeypatch.setenv("OUR_KEY", "secret-key-1")
    config = EmbeddingConfig(model="nano", dimensions=32, tiling=Tiling(max_tiles=4), max_pixels=10**6)
    place = {"url": "http://localhost:1/v1", "api_key": utils().Secret.from_env_var("OUR_KEY")}
    images = ours().JinaClipImageDocumentEmbedder(
        config, **place, batch_size=3, file_path_meta_field="path", root_path="/pictures", raise_on_failure=False
    )
    store = ours().JinaClipDocumentStore(
        url=f"edge:{tmp_path}/a",
        config=config,
        read_only=True,
        image_embedder=images,
        allow_unembedded=True,
        drop_blobs=True,
    )
    search = {
        "filters": {"field": "meta.n", "operator": "==", "value": 1},
        "top_k": 3,
        "filter_policy": types().FilterPolicy.MERGE,
        "modality": "image",
        "tiles": False,
    }
    made = {
        "texts": ours().JinaClipDocumentEmbedder(
            config,
            device="cpu",
            batch_size=2,
            meta_fields_to_embed=["a"],
            embedding_separator=" ",
            raise_on_failure=False,
        ),
        "images": images,
        "text": ours().JinaClipTextRetriever(store, ours().JinaClipTextEmbedder(config, **place), **search),
        "image": ours().JinaClipImageRetriever(store, ours().JinaClipImageEmbedder(config, **place), **search),
        "vector": ours().JinaClipEmbeddingRetriever(store, **search),
    }
    pipeline = haystack().Pipeline()
    for name, component in made.items():
        pipeline.add_component(name, component)
    saved = pipeline.dumps()
    assert "secret-key-1" not in saved
    loaded = haystack().Pipeline.loads(saved)
    assert loaded.to_dict() == pipeline.to_dict()
    assert loaded.get_component("images").config == config
    for name, component in made.items():
        defaults = component.to_dict()["init_parameters"]
        assert loaded.get_component(name).to_dict()["init_parameters"] == defaults


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("nano", "`config` of a saved component is str"),
        ({"modle": "nano"}, "`config` of a saved component has 'modle'; known are model"),
        ({"model": "nano", "tiling": {"tiles": 3}}, "`tiling` of a saved component has 'tiles'"),
        ({"model": "nano", "dimensions": 0}, "`dimensions` is 0"),
    ],
)
def test_a_configuration_that_a_person_wrote_is_checked(config, message):
    saved = ours().JinaClipTextEmbedder(NANO).to_dict()
    saved["init_parameters"]["config"] = config
    with pytest.raises(ConfigError, match=message):
        ours().JinaClipTextEmbedder.from_dict(saved)


def test_document_stores_of_one_url_share_the_collection_and_the_last_closes_it(url):
    one, other = (ours().JinaClipDocumentStore(url=url, config=NANO) for _ in range(2))
    assert one.store is other.store
    with pytest.raises(CollectionMismatchError, match="`dimensions` 32"):
        ours().JinaClipDocumentStore(url=url, config=EmbeddingConfig(model="nano", dimensions=64)).warm_up()
    path = url.removeprefix("edge:")
    one.close()
    with pytest.raises(StoreUnavailableError):
        QdrantEdgeStore.open(path, NANO)
    assert other.count_documents() == 0
    other.close()
    with QdrantEdgeStore.open(path, NANO):
        reader = ours().JinaClipDocumentStore(url=url, read_only=True)
        assert reader.count_documents() == 0
    reader.close()
    assert one.count_documents() == 0  # opened again
    one.close()


def test_a_collection_that_a_forgotten_pipeline_has_left_open_is_used_again(pictures, url):
    indexing(url).run({"converter": {"sources": pictures}})
    gc.collect()
    [left] = opening()._open.values()
    again = ours().JinaClipDocumentStore(url=url)
    assert again.store is left.store
    del again  # and forgotten again: it is closed when another collection is opened
    other = ours().JinaClipDocumentStore(url=f"{url}.other", config=NANO)
    other.warm_up()
    with QdrantEdgeStore.open(url.removeprefix("edge:"), NANO) as store:
        assert store.count() == 3
    other.close()


def test_a_collection_whose_embedder_of_images_does_not_fit_is_not_kept_open(url):
    tiled = EmbeddingConfig(model="nano", dimensions=32, tiling=Tiling(max_tiles=4))
    embedder = ours().JinaClipImageDocumentEmbedder(tiled)
    store = ours().JinaClipDocumentStore(url=url, config=NANO, image_embedder=embedder)
    with pytest.raises(CollectionMismatchError, match="tiling"):
        store.warm_up()
    assert not opening()._open


def test_a_collection_that_is_not_there_needs_a_configuration(url):
    with pytest.raises(EmbedInputError, match=r"there is no collection '.*photos\.jclip': give a `config` to make one"):
        ours().JinaClipDocumentStore(url=url).warm_up()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("photos.jclip", "`url`"),
        ("http://localhost/photos", "`url`"),
    ],
)
def test_a_url_has_one_of_the_known_forms(url, message):
    with pytest.raises(EmbedInputError, match=message):
        ours().JinaClipDocumentStore(url=url, config=NANO).warm_up()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("qdrant://u:secret-1@h/photos", "`url` contains credentials"),
        ("qdrant://h/photos?api_key=secret-1", "`url` has an option that is no number"),
        ("milvus://h/photos?timeout=3&token=secret-1", "`url` has an option that is no number"),
    ],
)
def test_a_url_with_a_secret_is_refused_before_it_can_be_saved_and_not_repeated(url, says):
    with pytest.raises(EmbedInputError, match=says) as caught:
        ours().JinaClipDocumentStore(url=url, config=NANO)
    assert "secret-1" not in str(caught.value)


def test_a_url_is_a_text():
    with pytest.raises(EmbedInputError, match="`url` is PosixPath"):
        ours().JinaClipDocumentStore(url=Path("photos.jclip"), config=NANO)


def test_the_collection_of_a_server_is_named_by_a_url_too(pictures):
    with QdrantServer() as server:
        url = server.url.replace("http://", "qdrant://") + "/photos"
        index, search = indexing(url), haystack().Pipeline.loads(searching(url).dumps())
        index.run({"converter": {"sources": pictures}})
        found = asyncio.run(search.run_async(asked(pictures[1])))
        assert found["by_image"]["documents"][0].meta["file_path"] == str(pictures[1])
        index.close()
        asyncio.run(search.close_async())
    assert not opening()._open


def test_two_spellings_of_one_folder_are_one_collection(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = ours().JinaClipDocumentStore(url=url, config=NANO)
    other = ours().JinaClipDocumentStore(url="edge:./photos.jclip")
    assert one.store is other.store
    one.close()
    other.close()


LOADING = """
import socket, sys

def refuse(*_):
    raise AssertionError("a connection was made")

socket.socket.connect = refuse
from haystack import Pipeline

with open(sys.argv[1]) as file:
    pipeline = Pipeline.loads(file.read())
found = pipeline.run({"by_text": {"query": "red"}, "embedder": {"text": "red"}, "by_image": {"image": sys.argv[2]}})
print(found["by_image"]["documents"][0].meta["file_path"])
"""


@pytest.mark.slow
def test_a_fresh_process_loads_what_was_saved_and_connects_to_nothing(pictures, url, tmp_path):
    index = indexing(url)
    index.run({"converter": {"sources": pictures}})
    index.close()
    saved = tmp_path / "search.yaml"
    saved.write_text(searching(url).dumps())
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    code, printed, complaints = run_program("-c", LOADING, saved, pictures[1], environment=environment)
    assert (code, printed.splitlines(), complaints) == (0, [str(pictures[1])], "")
    assert "jclip_connectors" not in saved.read_text()
    assert importlib.import_module("haystack_integrations").__file__ is None  # a namespace package
