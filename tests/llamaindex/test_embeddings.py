import asyncio
import base64
import copy
import dataclasses
import pickle
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.callbacks.schema import EventPayload
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, Node, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import ValidationError

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.llamaindex import embeddings as llamaindex_embeddings
from jclip_connectors.llamaindex.embeddings import JinaClipEmbedding
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.every_store.loops import needing_the_loop

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=24)
TEXTS = [f"text number {i}" for i in range(7)]
SECRET = "sk-very-secret"  # noqa: S105 - it is looked for, and must not be found


class PrefixEmbedder(HashEmbedder):
    """Embeds a query otherwise than a document, as v2 does."""

    def embed_query(self, text):
        return super().embed_query(f"query: {text}")


@pytest.fixture
def embedder():
    return PrefixEmbedder(CONFIG)


@pytest.fixture
def embedding(embedder):
    return JinaClipEmbedding.from_embedder(embedder, embed_batch_size=3)


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"picture {i}.png" for i in range(7)]
    for i, path in enumerate(made):
        picture(i).save(path)
    return [str(path) for path in made]


@pytest.fixture(autouse=True)
def _nothing_is_downloaded(monkeypatch):
    def get(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("requests.get", get)


def equal(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_options_are_those_of_the_configuration():
    fields = JinaClipEmbedding.model_fields
    for field in dataclasses.fields(EmbeddingConfig):
        assert fields[field.name].default == field.default
        assert fields[field.name].annotation == EmbeddingConfig.__annotations__[field.name]
    config = EmbeddingConfig(
        model="nano", dimensions=64, max_tokens=20, resize_mode="squash", resampling="fast", tiling=Tiling(max_tiles=3)
    )
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    assert JinaClipEmbedding(**values).config == config


def test_it_is_llamaindex_s_and_makes_the_embedder_s_vectors_in_order(embedding, embedder, paths):
    assert issubclass(JinaClipEmbedding, MultiModalEmbedding)
    equal(embedding.get_query_embedding(TEXTS[0]), embedder.embed_query(TEXTS[0]))
    equal(embedding.get_text_embedding(TEXTS[0]), embedder.embed_texts(TEXTS)[0])
    equal(embedding.get_text_embedding_batch(TEXTS), embedder.embed_texts(TEXTS))
    equal(embedding.get_text_embeddings(tuple(TEXTS)), embedder.embed_texts(TEXTS))
    equal(embedding.get_image_embedding(paths[1]), embedder.embed_images(paths)[1])
    equal(embedding.get_image_embedding_batch(paths, show_progress=False), embedder.embed_images(paths))
    equal(embedding.get_image_embeddings(tuple(paths)), embedder.embed_images(paths))
    assert type(embedding.get_image_embeddings(paths)[0][0]) is float
    assert type(embedding.get_query_embedding("a")[0]) is float
    assert embedding.get_text_embeddings([]) == embedding.get_image_embeddings([]) == []


async def test_the_async_twins_make_the_same_vectors(embedding, embedder, paths):
    equal(await embedding.aget_query_embedding(TEXTS[0]), embedder.embed_query(TEXTS[0]))
    equal(await embedding.aget_text_embedding(TEXTS[0]), embedder.embed_texts(TEXTS)[0])
    equal(await embedding.aget_text_embedding_batch(TEXTS), embedder.embed_texts(TEXTS))
    equal(await embedding.aget_text_embeddings(TEXTS), embedder.embed_texts(TEXTS))
    equal(await embedding.aget_image_embedding(paths[1]), embedder.embed_images(paths)[1])
    equal(await embedding.aget_image_embedding_batch(paths), embedder.embed_images(paths))
    equal(await embedding.aget_image_embeddings(paths), embedder.embed_images(paths))


def test_an_image_has_one_vector_in_whatever_form_it_comes(embedding, paths):
    with open(paths[0], "rb") as file:  # noqa: PTH123 - as a caller would
        data = file.read()
    read = BytesIO(data)
    read.read()
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    url = "file://" + paths[0].replace(" ", "%20")
    forms = [paths[0], url, url.replace("file:///", "FILE://localhost/"), read, data, picture(0)]
    rows = embedding.get_image_embeddings(forms)
    equal(rows, np.repeat([embedding.get_image_embedding(paths[0])], len(forms), axis=0))
    nano = JinaClipEmbedding(model="nano")
    equal(nano.get_image_embedding(uri), nano.get_image_embedding(paths[0]))


@pytest.mark.parametrize("dimensions", [16, 128])
def test_dimensions_count_for_texts_queries_and_images_alike(paths, dimensions):
    embedding = JinaClipEmbedding(model="nano", dimensions=dimensions)
    rows = [
        embedding.get_query_embedding("a red circle"),
        *embedding.get_text_embeddings(["a red circle"]),
        *embedding.get_image_embeddings(paths[:2]),
    ]
    assert np.shape(rows) == (4, dimensions)
    equal(np.linalg.norm(rows, axis=1), np.ones(4))


def nodes_of(paths):
    with open(paths[2], "rb") as file:  # noqa: PTH123 - as a caller would
        data = file.read()
    encoded = base64.b64encode(data).decode()
    images = {
        0: ImageNode(image_path=paths[0], text="a caption"),
        2: ImageNode(image=encoded, image_path="not looked at"),
        3: ImageNode(image="\n".join(encoded[i : i + 76] for i in range(0, len(encoded), 76))),
        4: ImageNode(image_url="file://" + paths[1].replace(" ", "%20")),
        6: ImageDocument(image_path=paths[3]),
        7: ImageDocument(image=encoded),
        8: Node(image_resource=MediaResource(path=paths[4]), text_resource=MediaResource(text="a caption")),
    }
    shown = {0: 0, 2: 2, 3: 2, 4: 1, 6: 3, 7: 2, 8: 4}
    texts = {
        1: TextNode(text="a note", metadata={"year": 2020, "hidden": 1}, excluded_embed_metadata_keys=["hidden"]),
        5: Document(text="a document"),
        9: TextNode(text=""),
    }
    said = {1: "year: 2020\n\na note", 5: "a document", 9: ""}
    nodes = [node for _, node in sorted({**images, **texts}.items())]
    return nodes, shown, said


def expected_rows(embedder, paths, shown, said):
    rows = {at: embedder.embed_images([paths[i]])[0] for at, i in shown.items()}
    rows.update({at: embedder.embed_texts([text])[0] for at, text in said.items()})
    return [row for _, row in sorted(rows.items())]


def test_nodes_with_an_image_go_to_the_image_tower_and_the_others_to_the_text_tower(embedding, embedder, paths):
    nodes, shown, said = nodes_of(paths)
    assert embedding(nodes) is nodes
    equal([node.embedding for node in nodes], expected_rows(embedder, paths, shown, said))
    assert embedding([]) == []


async def test_acall_does_the_same(embedding, embedder, paths):
    nodes, shown, said = nodes_of(paths)
    await embedding.acall(nodes)
    equal([node.embedding for node in nodes], expected_rows(embedder, paths, shown, said))


async def test_a_pipeline_embeds_image_nodes_as_images(embedding, embedder, paths):
    pipeline = IngestionPipeline(transformations=[embedding])
    nodes = [ImageNode(image_path=path, metadata={"file_path": path}) for path in paths]
    equal([node.embedding for node in pipeline.run(nodes=nodes[:4])], embedder.embed_images(paths[:4]))
    equal([node.embedding for node in await pipeline.arun(nodes=nodes[4:])], embedder.embed_images(paths[4:]))
    pipeline = IngestionPipeline(transformations=[embedding], disable_cache=True)
    for path in paths:
        (node,) = pipeline.run(nodes=[ImageNode(image_path=path)])
        assert getattr(node, "image_path", None) == path
        equal([node.embedding], embedder.embed_images([path]))


def test_a_model_is_loaded_when_it_is_needed_and_once(monkeypatch):
    loaded = []

    class Loading(HashEmbedder):
        def __init__(self, config, *, device):
            time.sleep(0.05)
            loaded.append(device)
            super().__init__(config)

    monkeypatch.setattr(llamaindex_embeddings, "LocalEmbedder", Loading)
    embedding = JinaClipEmbedding(model="hash", revision="1", dimensions=8, device="cpu")
    assert loaded == []
    threads = [threading.Thread(target=embedding.get_text_embedding, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["cpu"]
    assert copy.deepcopy(embedding).embedder is copy.copy(embedding).embedder is embedding.embedder


def test_options_come_back_from_a_dict_from_json_and_from_a_pickle_without_the_model():
    embedding = JinaClipEmbedding(model="nano", dimensions=16, tiling=Tiling(max_tiles=4), embed_batch_size=7)
    vector = embedding.get_query_embedding("a red circle")
    pickled = pickle.dumps(embedding)
    assert len(pickled) < 2000
    for back in (
        JinaClipEmbedding.from_dict(embedding.to_dict()),
        JinaClipEmbedding.from_json(embedding.to_json()),
        pickle.loads(pickled),  # noqa: S301 - made here
        embedding.model_copy(),
    ):
        assert back == embedding
        assert back.config == embedding.config
        assert back.embed_batch_size == 7
        assert back.get_query_embedding("a red circle") == vector
    assert embedding.to_dict()["class_name"] == "JinaClipEmbedding"
    assert embedding != JinaClipEmbedding(model="nano", dimensions=32)
    assert embedding != "nano"


def test_a_shared_embedder_is_not_pickled_but_its_options_are_dumped(embedding):
    with pytest.raises(TypeError, match="from_embedder"):
        pickle.dumps(embedding)
    assert JinaClipEmbedding.from_dict(embedding.to_dict()).config == CONFIG


def test_a_copy_with_other_options_has_a_model_of_its_own(embedding):
    other = embedding.model_copy(update={"model": "nano", "revision": None, "dimensions": 16})
    assert len(other.get_query_embedding("a")) == 16
    assert other.model_name == "nano"
    with pytest.raises(ValidationError, match="dimensions"):
        embedding.model_copy(update={"dimensions": 0})


def test_options_cannot_change_under_a_loaded_model(embedding):
    with pytest.raises(ValidationError, match="frozen"):
        embedding.dimensions = 8


def test_events_say_what_was_embedded_and_with_what(embedding, paths):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    embedding.callback_manager = CallbackManager([handler])
    embedding.get_image_embeddings(paths[:4])
    events = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert [(end.payload or {})[EventPayload.CHUNKS] for _, end in events] == [paths[:3], paths[3:4]]
    assert (events[0][0].payload or {})[EventPayload.SERIALIZED] == {
        "class_name": "JinaClipEmbedding",
        "model_name": "hash",
        "embed_batch_size": 3,
        "revision": "1",
        "dimensions": 24,
    }


async def test_the_event_loop_goes_on_while_the_model_works(paths):
    embedder = needing_the_loop(HashEmbedder(CONFIG), "embed_texts", "embed_query", "embed_images")
    embedding = JinaClipEmbedding.from_embedder(embedder)
    for work in (
        embedding.aget_query_embedding("a"),
        embedding.aget_text_embedding("a"),
        embedding.aget_image_embedding(paths[0]),
        embedding.acall([TextNode(text="a"), ImageNode(image_path=paths[0])]),
    ):
        assert await work


BAD_OPTIONS = {
    "dimensions that are text": ({"dimensions": "256"}, "dimensions"),
    "dimensions that are a bool": ({"dimensions": True}, "dimensions"),
    "no dimensions": ({"dimensions": 0}, "`dimensions` is 0"),
    "more dimensions than the model has": ({"dimensions": 1025}, "`dimensions` is 1025"),
    "a misspelt option": ({"dimension": 256}, "dimension\n"),
    "no model": ({"model": ""}, "`model` is ''"),
    "the model under LlamaIndex's name": ({"model_name": "jinaai/jina-clip-v1"}, "use `model` instead"),
    "an unknown resize mode": ({"resize_mode": "crop"}, "resize_mode"),
    "a number as bool": ({"normalize": 1}, "normalize"),
    "tiling that is a number": ({"tiling": 9}, "tiling"),
    "a misspelt option of tiling": ({"tiling": {"max_tile": 9}}, "unknown key 'max_tile'"),
    "no tiles": ({"tiling": {"max_tiles": 0}}, "`max_tiles`"),
    "empty batches": ({"embed_batch_size": 0}, "embed_batch_size"),
    "a cache that mixes everything up": ({"embeddings_cache": SimpleKVStore()}, "`embeddings_cache` is not supported"),
}


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_refused_by_name(options, message):
    with pytest.raises(ValidationError, match=message):
        JinaClipEmbedding(**options)


BAD_IMAGES = {
    "a missing file": ("nope.png", "nope.png"),
    "a web address": (f"https://user:{SECRET}@host/a.png", "URLs are not downloaded"),
    "another address": ("s3://bucket/a.png", "URLs are not downloaded"),
    "a file of another host": ("file://host/a.png", "another host"),
    "no image": (BytesIO(b"no image"), "cannot"),
    "an empty file": (BytesIO(), "cannot"),
}


@pytest.mark.parametrize(("image", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_a_bad_image_is_refused_and_the_others_are_kept(embedding, embedder, paths, image, message):
    with pytest.raises(EmbedInputError, match=message) as alone:
        embedding.get_image_embedding(image)
    given = [*paths[:4], image, *paths[4:]]  # of the second batch of three
    with pytest.raises(PartialFailureError, match="1 of 8 images failed: 4: ") as caught:
        embedding.get_image_embeddings(given)
    assert list(caught.value.failed) == [4]
    assert list(caught.value.kept) == [0, 1, 2, 3, 5, 6, 7]
    equal(list(caught.value.kept.values()), embedder.embed_images(paths))
    assert SECRET not in f"{alone.value}{caught.value}{caught.value.failed}"


async def test_a_bad_image_is_refused_by_the_async_twin_too(embedding, paths):
    with pytest.raises(PartialFailureError) as caught:
        await embedding.aget_image_embeddings([*paths[:4], "nope.png"])
    assert list(caught.value.failed) == [4]


BAD_NODES = {
    "a node without an image": (ImageNode(text="only a caption"), "no image"),
    "a node with a web address": (ImageNode(image_url=f"https://host/a.png?key={SECRET}"), "URLs are not downloaded"),
    "a node with a web address as its path": (ImageNode(image_path="https://host/a.png"), "URLs are not downloaded"),
    "a node with damaged base64": (ImageNode(image="?!"), "base64"),
    "a node with a missing file": (ImageNode(image_path="nope.png"), "nope.png"),
    "a resource with a web address": (
        Node.model_validate({"image_resource": {"url": "http://host/a.png"}}),
        "downloaded",
    ),
}


@pytest.mark.parametrize(("node", "message"), BAD_NODES.values(), ids=BAD_NODES)
async def test_a_bad_node_is_refused_by_name_and_no_node_is_changed(embedding, paths, node, message):
    nodes = [*(ImageNode(image_path=path) for path in paths), TextNode(text="a"), node]
    for attempt in (lambda: asyncio.to_thread(embedding, nodes), lambda: embedding.acall(nodes)):
        with pytest.raises(PartialFailureError, match=message) as caught:
            await attempt()
        assert list(caught.value.failed) == [8]
        assert repr(node.node_id) in str(caught.value)
        assert SECRET not in str(caught.value)
        assert list(caught.value.kept) == list(range(8))
        assert all(given.embedding is None for given in nodes)


@pytest.mark.parametrize("method", ["get_text_embeddings", "get_text_embedding_batch"])
def test_what_is_no_list_of_texts_is_refused(embedding, method):
    with pytest.raises(EmbedInputError, match=r"texts?. is one str: pass a list"):
        getattr(embedding, method)("abc")
    with pytest.raises(EmbedInputError, match="int"):
        getattr(embedding, method)(["a", 3])


@pytest.mark.parametrize("method", ["get_image_embeddings", "get_image_embedding_batch"])
@pytest.mark.parametrize(
    "images", ["a.png", b"bytes", BytesIO(b"bytes"), picture(0)], ids=lambda one: type(one).__name__
)
def test_one_image_is_not_a_list(embedding, method, images):
    with pytest.raises(EmbedInputError, match="pass a list"):
        getattr(embedding, method)(images)


def test_a_key_meant_for_another_class_is_refused_and_not_repeated():
    with pytest.raises(ValidationError, match="api_key") as caught:
        JinaClipEmbedding.from_dict({"model": "nano", "api_key": SECRET})
    assert SECRET not in str(caught.value)
