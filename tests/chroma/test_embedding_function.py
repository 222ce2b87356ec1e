"""The embedding function and the image loader, as Chroma calls them; without a collection."""

import json

import numpy as np
import pytest
from PIL import Image

from core_encoder import ConfigError, JinaClipEncoder
from core_encoder.tiling import Tiling
from jclip_connectors.chroma import JinaClipEmbeddingFunction, JinaClipImageLoader
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.local import LocalEmbedder

NANO = EmbeddingConfig(model="nano", dimensions=64)


@pytest.fixture(scope="module")
def embedder():
    return LocalEmbedder(NANO, encoder=JinaClipEncoder.load("nano", device="cpu"))


@pytest.fixture(scope="module")
def function(embedder):
    return JinaClipEmbeddingFunction.from_embedder(embedder)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_texts_and_images_get_the_embedders_vectors_in_order(function, embedder):
    found = function(["a red circle", picture(), "a star", picture(1)])
    texts, images = embedder.embed_texts(["a red circle", "a star"]), embedder.embed_images([picture(), picture(1)])
    np.testing.assert_allclose(np.stack(found), np.stack([texts[0], images[0], texts[1], images[1]]), atol=1e-6)
    assert {(row.dtype.name, row.shape) for row in found} == {("float32", (64,))}
    assert function([]) == []


def test_queries_are_embedded_as_queries(function, embedder):
    text, image = function.embed_query(["a star", picture()])
    np.testing.assert_allclose(text, embedder.embed_query("a star"), atol=1e-6)
    np.testing.assert_allclose(image, embedder.embed_images([picture()])[0], atol=1e-6)


def test_what_a_collection_keeps_makes_the_function_again():
    function = JinaClipEmbeddingFunction("nano", dimensions=32, rendering="as_stored", device="cpu")
    kept = json.loads(json.dumps(function.get_config()))
    assert kept == {"model": "nano", "dimensions": 32, "rendering": "as_stored", "device": "cpu"}
    function.validate_config(kept)
    again = JinaClipEmbeddingFunction.build_from_config(kept)
    assert again.config == function.config
    assert again.get_config() == kept
    assert (function.name(), function.default_space(), function.is_legacy()) == ("jclip", "cosine", False)


def test_a_collection_keeps_its_vectors_and_may_change_its_device(function):
    function.validate_config_update({"model": "nano"}, {"model": "nano", "device": "cpu"})
    with pytest.raises(EmbedInputError, match=r"the vectors of a collection cannot change, and \['dimensions'\]"):
        function.validate_config_update({"model": "nano"}, {"model": "nano", "dimensions": 32})


def test_bad_items_and_options_are_refused_by_name(function, embedder):
    with pytest.raises(EmbedInputError, match=r"`input`\[1\] is int"):
        function(["a", 7])
    with pytest.raises(EmbedInputError, match="`input` is one str"):
        function("a")
    with pytest.raises(EmbedInputError, match=r"`input`\[1\] cannot be embedded"):
        function(["a", np.zeros((2, 2, 7), np.uint8)])
    with pytest.raises(EmbedInputError, match="unknown option `tiling`"):
        JinaClipEmbeddingFunction("nano", tiling=Tiling())
    with pytest.raises(ConfigError, match="dimensions"):
        JinaClipEmbeddingFunction("nano", dimensions=0)
    with pytest.raises(EmbedInputError, match="`tiling`"):
        JinaClipEmbeddingFunction.from_embedder(
            embedder.with_config(EmbeddingConfig(model="nano", dimensions=64, tiling=Tiling()))
        )


def test_the_loader_reads_files_as_a_person_sees_them(tmp_path):
    upright = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(upright, exif=exif)
    seen, nothing = JinaClipImageLoader()([str(upright), None])
    assert nothing is None
    assert seen is not None
    assert (seen.shape, seen.dtype.name) == ((30, 20, 3), "uint8")
    (stored,) = JinaClipImageLoader(rendering="as_stored")([str(upright)])
    np.testing.assert_array_equal(stored, picture())
    with pytest.raises(EmbedInputError, match="item 1"):
        JinaClipImageLoader()([str(upright), str(tmp_path / "absent.png")])
    with pytest.raises(ConfigError, match="rendering"):
        JinaClipImageLoader(rendering="upright")  # type: ignore[arg-type]
