"""Features are computed once, kept in a folder, and cut to every length."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from core_encoder import JinaClipEncoder
from jclip_connectors.errors import EvaluationError
from jclip_connectors.evaluation.features import CachedEncoder, FeatureCache, finish, picture_digest, text_digest


@pytest.fixture(scope="module")
def nano():
    return JinaClipEncoder.load("nano")


def digests(*names):
    return [hashlib.sha256(name.encode()).digest() for name in names]


def numbered(asked):
    def compute(positions):
        asked.append(positions)
        return np.array([[position, 1] for position in positions], np.float32)

    return compute


def test_a_row_is_computed_once_whatever_asks_for_it(tmp_path):
    cache = FeatureCache(tmp_path, "model")
    asked: list[list[int]] = []
    rows = cache.rows(digests("a", "b", "a"), numbered(asked))
    assert rows.tolist() == [[0, 1], [1, 1], [0, 1]]
    assert cache.rows(digests("b", "c"), numbered(asked)).tolist() == [[1, 1], [1, 1]]
    assert asked == [[0, 1], [1]]


def test_what_was_written_is_there_for_the_next_process(tmp_path):
    cache = FeatureCache(tmp_path, "model")
    written = cache.rows(digests("a", "b"), numbered([]))
    cache.write()
    asked: list[list[int]] = []
    assert FeatureCache(tmp_path, "model").rows(digests("b", "a"), numbered(asked)).tolist() == written[::-1].tolist()
    assert asked == []
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_another_model_has_rows_of_its_own(tmp_path):
    cache = FeatureCache(tmp_path, "model")
    cache.rows(digests("a"), numbered([]))
    cache.write()
    asked: list[list[int]] = []
    FeatureCache(tmp_path, "another").rows(digests("a"), numbered(asked))
    assert asked == [[0]]


def test_a_file_that_is_no_piece_of_the_cache_is_named(tmp_path):
    cache = FeatureCache(tmp_path, "model")
    cache.rows(digests("a"), numbered([]))
    cache.write()
    [piece] = tmp_path.iterdir()
    piece.write_bytes(piece.read_bytes()[:100])
    with pytest.raises(EvaluationError, match=piece.name):
        FeatureCache(tmp_path, "model")


def test_cut_features_equal_shortened_vectors_bit_for_bit(tmp_path, nano):
    texts = [f"a {colour} square" for colour in ("red", "green", "blue")] + ["two circles"] * 2
    pictures = [Image.new("RGB", (90, 60), colour) for colour in ("red", "green", "blue")]
    with CachedEncoder(nano, tmp_path) as cached:
        for dimensions in (128, 64, 16):
            assert np.array_equal(
                finish(cached.texts(texts), dimensions), nano.encode_text(texts, truncate_dim=dimensions)
            )
            assert np.array_equal(
                finish(cached.pictures(pictures), dimensions), nano.encode_image(pictures, truncate_dim=dimensions)
            )


def test_no_texts_and_no_pictures_give_no_rows(tmp_path, nano):
    with CachedEncoder(nano, tmp_path) as cached:
        assert cached.texts([]).shape == cached.pictures([]).shape == (0, 128)


def test_pictures_whose_pixels_are_numbers_of_other_colours_differ(tmp_path, nano):
    pictures = []
    for colour in ((255, 0, 0), (0, 0, 255)):
        picture = Image.new("P", (72, 72), 0)
        picture.putpalette(colour)
        pictures.append(picture)
    transparent = pictures[0].copy()
    transparent.info["transparency"] = 0
    assert len({picture_digest(one) for one in [*pictures, transparent]}) == 3
    with CachedEncoder(nano, tmp_path) as cached:
        assert np.array_equal(cached.pictures(pictures), nano.encode_image(pictures, normalize=False))


def test_another_tokenizer_or_preprocessing_has_features_of_its_own(tmp_path, nano):
    folder = shutil.copytree(nano.origin.folder, tmp_path / "model")
    preprocessing = folder / "preprocessor_config.json"
    preprocessing.write_text(preprocessing.read_text() + "\n")
    for encoder in (nano, JinaClipEncoder.load(folder)):
        with CachedEncoder(encoder, tmp_path / "features") as cached:
            cached.texts(["a red circle"])
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_what_moves_a_vector_is_in_the_digest():
    picture = Image.new("L", (4, 4), 7)
    others = [Image.new("L", (2, 8), 7), Image.new("P", (4, 4), 7), Image.new("L", (4, 4), 8)]
    assert len({picture_digest(one) for one in [picture, *others]}) == 4
    assert picture_digest(picture) == picture_digest(picture.copy())
    assert text_digest("a") != text_digest("a", task="retrieval.query")
