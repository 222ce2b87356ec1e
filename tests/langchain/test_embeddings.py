"""LangChain's embeddings: LangChain's own suites, and what these do not ask."""

import copy
import dataclasses
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import ValidationError

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.langchain import JinaClipEmbeddings
from jclip_connectors.langchain import embeddings as langchain_embeddings
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.testing import HashEmbedder
from tests.every_store.loops import needing_the_loop
from tests.pictures import PICTURE, PNG

NANO: dict[str, Any] = {"model": "nano", "dimensions": 32, "device": "cpu"}
HASH = EmbeddingConfig(model="hash", revision="1", dimensions=24)


class TestStandardUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return JinaClipEmbeddings

    @property
    def embedding_model_params(self):
        return NANO


class TestStandardIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return JinaClipEmbeddings

    @property
    def embedding_model_params(self):
        return NANO


@pytest.fixture(scope="module")
def nano():
    return JinaClipEmbeddings(**NANO)


@pytest.fixture
def shared():
    return JinaClipEmbeddings.from_embedder(HashEmbedder(HASH))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return str(path)


def test_the_options_are_those_of_the_configuration_and_the_device():
    names = [field.name for field in dataclasses.fields(EmbeddingConfig)]
    assert list(JinaClipEmbeddings.model_fields) == [*names, "device"]
    assert JinaClipEmbeddings().config == EmbeddingConfig()
    given = EmbeddingConfig(
        model="nano",
        revision="abc",
        dimensions=16,
        normalize=False,
        max_tokens=8,
        resize_mode="squash",
        rendering="as_stored",
        resampling="fast",
        precision="fp32",
        tiling=Tiling(max_tiles=3),
        max_pixels=10**6,
        max_image_bytes=10**5,
    )
    assert JinaClipEmbeddings(**{name: getattr(given, name) for name in names}).config == given


def test_the_vectors_are_those_of_the_embedder_to_the_last_bit(nano, picture):
    own = LocalEmbedder(EmbeddingConfig(model="nano", dimensions=32), device="cpu")
    np.testing.assert_array_equal(np.float32(nano.embed_documents(["a red circle"])), own.embed_texts(["a red circle"]))
    np.testing.assert_array_equal(np.float32(nano.embed_query("a red circle")), own.embed_query("a red circle"))
    np.testing.assert_array_equal(np.float32(nano.embed_images([picture])), own.embed_images([picture]))


def test_texts_and_images_have_vectors_of_one_length_and_unit_norm(nano, picture):
    rows = [*nano.embed_documents(["a", ""]), nano.embed_query("a"), *nano.embed_images([picture, PNG, PICTURE])]
    assert {len(row) for row in rows} == {32}
    assert {type(value) for row in rows for value in row} == {float}
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_one_image_is_embedded_as_one_of_many(nano, picture):
    assert nano.embed_image(picture) == nano.embed_image_query(picture) == nano.embed_images([picture])[0]


def test_no_documents_and_no_images_are_no_vectors(shared):
    assert shared.embed_documents([]) == shared.embed_images([]) == []


async def test_every_coroutine_gives_what_its_twin_gives(nano, picture):
    assert await nano.aembed_documents(["a", "b"]) == nano.embed_documents(["a", "b"])
    assert await nano.aembed_query("a") == nano.embed_query("a")
    assert await nano.aembed_images([picture]) == nano.embed_images([picture])
    assert await nano.aembed_image(picture) == nano.embed_image(picture)
    assert await nano.aembed_image_query(picture) == nano.embed_image_query(picture)


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("aembed_documents", ["a"]),
        ("aembed_query", "a"),
        ("aembed_images", [PNG]),
        ("aembed_image", PNG),
        ("aembed_image_query", PNG),
    ],
)
async def test_the_event_loop_goes_on_while_vectors_are_made(method, argument):
    embedder = needing_the_loop(HashEmbedder(HASH), "embed_texts", "embed_query", "embed_images")
    assert await getattr(JinaClipEmbeddings.from_embedder(embedder), method)(argument)


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_kept(nano, picture):
    with pytest.raises(PartialFailureError) as caught:
        nano.embed_images([picture, "/no/such.png"])
    assert list(caught.value.failed) == [1]
    np.testing.assert_array_equal(np.float32(nano.embed_image(picture)), caught.value.kept[0])
    with pytest.raises(EmbedInputError, match=r"/no/such\.png"):
        nano.embed_image("/no/such.png")


async def test_a_list_of_images_gets_a_vector_for_each_as_other_stores_ask_for_it(nano, picture):
    single = nano.embed_image(picture)
    assert nano.embed_image(uris=[picture]) == nano.embed_image((picture,)) == [single]
    assert nano.embed_image(uris=picture) == await nano.aembed_image(picture) == single
    assert await nano.aembed_image(uris=[picture, picture]) == [single, single]
    with pytest.raises(PartialFailureError) as caught:
        nano.embed_image(uris=[picture, "/no/such.png"])
    assert list(caught.value.failed) == [1]


def test_texts_that_are_none_are_refused_by_position(nano):
    with pytest.raises(EmbedInputError, match="1"):
        nano.embed_documents(["a", 7])
    with pytest.raises(EmbedInputError, match="`texts` is one str"):
        nano.embed_documents("a")


def test_an_unknown_model_is_no_matter_until_a_vector_is_asked_for(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        langchain_embeddings, "LocalEmbedder", lambda config, *, device: loaded.append((config, device))
    )
    embeddings = JinaClipEmbeddings(model="someone/else", device="cuda:1")
    assert repr(embeddings) == "JinaClipEmbeddings(model='someone/else', device='cuda:1')"
    assert loaded == []
    _ = embeddings.embedder
    assert loaded == [(EmbeddingConfig(model="someone/else"), "cuda:1")]


def test_threads_load_the_model_once_and_share_it(monkeypatch):
    loaded = []

    def load(config, *, device):  # noqa: ARG001 (the embedder's signature)
        time.sleep(0.05)
        loaded.append(HashEmbedder(HASH))
        return loaded[-1]

    monkeypatch.setattr(langchain_embeddings, "LocalEmbedder", load)
    embeddings = JinaClipEmbeddings(model="nano")
    used = [embeddings, copy.copy(embeddings), copy.deepcopy(embeddings), embeddings.model_copy(deep=True)]
    threads = [threading.Thread(target=each.embed_query, args=("a",)) for each in used * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1


def test_pickled_embeddings_come_back_without_weights_and_load_them_again(nano):
    vector = nano.embed_query("a")
    pickled = pickle.dumps(nano)
    assert len(pickled) < 2000
    back = pickle.loads(pickled)  # noqa: S301 (our own)
    assert back == nano
    assert back.embedder is not nano.embedder
    assert back.embed_query("a") == vector


@pytest.mark.parametrize("options", [NANO, {}, {**NANO, "tiling": Tiling(max_tiles=4), "precision": "fp32"}])
def test_dumped_options_make_equal_embeddings(options):
    embeddings = JinaClipEmbeddings(**options)
    assert JinaClipEmbeddings(**embeddings.model_dump()) == embeddings
    assert JinaClipEmbeddings.model_validate_json(embeddings.model_dump_json()) == embeddings


def test_embeddings_of_other_options_are_not_equal():
    assert JinaClipEmbeddings(**NANO) != JinaClipEmbeddings(**{**NANO, "dimensions": 16})


def test_a_copy_with_another_option_makes_other_vectors(nano):
    assert len(nano.embed_query("a")) == 32
    short = nano.model_copy(update={"dimensions": 16})
    assert len(short.embed_query("a")) == 16
    with pytest.raises(ValidationError, match="dimensions"):
        nano.model_copy(update={"dimensions": 0})


def test_options_cannot_be_changed_once_they_are_given(nano):
    with pytest.raises(ValidationError, match="frozen"):
        nano.dimensions = 16


def test_an_embedder_is_shared_and_its_configuration_shown(shared):
    embedder = HashEmbedder(dataclasses.replace(HASH, tiling=Tiling(max_tiles=2)))
    embeddings = JinaClipEmbeddings.from_embedder(embedder)
    assert embeddings.embedder is embedder
    assert embeddings.config == embedder.config
    assert copy.deepcopy(embeddings).embedder is embedder
    assert embeddings != shared


def test_a_shared_embedder_is_neither_pickled_nor_given_other_options(shared):
    with pytest.raises(TypeError, match="from_embedder"):
        pickle.dumps(shared)
    with pytest.raises(TypeError, match="from_embedder"):
        shared.model_copy(update={"dimensions": 8})


def test_what_an_embedder_keeps_secret_stays_there():
    class Remote(HashEmbedder):
        api_key = "sk-secret"

        def __repr__(self):
            return f"Remote({self.api_key})"

    embeddings = JinaClipEmbeddings.from_embedder(Remote(HASH))
    with pytest.raises(TypeError) as caught:
        pickle.dumps(embeddings)
    shown = f"{embeddings!r} {embeddings} {embeddings.model_dump()} {embeddings.model_dump_json()} {caught.value}"
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"modle": "nano"}, "modle"),
        ({"model": ""}, "`model` is ''"),
        ({"model": 7}, "model"),
        ({"dimensions": 0}, "`dimensions` is 0"),
        ({"dimensions": "512"}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"model": "nano", "dimensions": 129}, "`dimensions` is 129, but nano has only 128"),
        ({"normalize": "yes"}, "normalize"),
        ({"max_tokens": -1}, "`max_tokens` is -1"),
        ({"resize_mode": "stretch"}, "'shortest', 'longest' or 'squash'"),
        ({"rendering": "upright"}, "'as_seen' or 'as_stored'"),
        ({"precision": "fp8"}, "'auto', 'fp32', 'bf16', 'fp16' or 'int8'"),
        ({"resampling": "quick"}, "'exact' or 'fast'"),
        ({"tiling": {"max_tiles": 0}}, "`max_tiles`"),
        ({"tiling": {"tiles": 4}}, "tiling.tiles"),
        ({"tiling": 4}, "tiling"),
        ({"api_key": "sk"}, "api_key"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options, named):
    with pytest.raises(ValidationError) as caught:
        JinaClipEmbeddings(**options)
    assert named in str(caught.value)


def test_importing_it_loads_no_torch_and_without_langchain_names_the_extra():
    code = (
        "import sys\n"
        "import jclip_connectors.langchain.vector_store\n"
        "print(sorted({'torch', 'qdrant_edge', 'qdrant_client', 'weaviate', 'pinecone'} & set(sys.modules)))\n"
        "for name in [name for name in sys.modules if name.startswith('jclip_connectors.langchain')]:\n"
        "    del sys.modules[name]\n"
        "sys.modules['langchain_core'] = sys.modules['langchain_core.embeddings'] = None\n"
        "try:\n    import jclip_connectors.langchain.embeddings\n"
        "except ImportError as error:\n    print(error.extra, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (our own code)
    assert done.stdout.splitlines() == [
        "[]",
        "langchain langchain-core is not installed: pip install 'jclip-connectors[langchain]'",
    ]
