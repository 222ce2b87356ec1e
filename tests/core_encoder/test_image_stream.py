"""A stream of images has the vectors of a list of them, and reads only some images ahead."""

import itertools
import threading

import numpy as np
import pytest

from core_encoder import ConfigError, ImageDecodeError, ImageNote, InputError, JinaClipEncoder, Tiling
from core_encoder.tiling import TileEmbeddings
from tests.checkpoints import V2_TINY
from tests.core_encoder.test_encoder import picture


@pytest.fixture(scope="module")
def encoder():
    return JinaClipEncoder.load(V2_TINY, device="cpu")


@pytest.mark.parametrize("at_once", [None, 1, 3, 100])
def test_a_stream_gives_each_image_its_vector_or_its_error_in_order(encoder, tmp_path, at_once):
    images = [picture(70, 80, seed=0), tmp_path / "none.png", *(picture(90, 50, seed=i) for i in (1, 2)), b"", b"x"]
    found = list(encoder.stream_images(iter(images), at_once=at_once, truncate_dim=16))
    assert [str(item)[:6] for item in found if isinstance(item, ImageDecodeError)] == [f"item {at}" for at in (1, 4, 5)]
    rows = encoder.encode_image([images[0], *images[2:4]], truncate_dim=16)
    np.testing.assert_allclose([found[at] for at in (0, 2, 3)], rows, atol=1e-6)


def test_a_stream_of_tiles_gives_what_a_list_of_them_gives(encoder):
    images = [picture(150, 70, seed=i) for i in range(3)]
    found = list(encoder.stream_images(images, tiling=Tiling(max_tiles=4), at_once=2))
    for streamed, listed in zip(found, encoder.encode_image_tiles(images, tiling=Tiling(max_tiles=4)), strict=True):
        assert isinstance(streamed, TileEmbeddings)
        np.testing.assert_allclose(streamed.vectors, listed.vectors, atol=1e-6)
        np.testing.assert_array_equal(streamed.boxes, listed.boxes)


def test_an_endless_stream_can_be_left_and_its_threads_end(encoder):
    asked = []

    def endless():
        for seed in itertools.count():
            asked.append(seed)
            yield picture(64, 64, seed=seed % 5)

    threads = threading.active_count()
    stream = encoder.stream_images(endless(), at_once=4)
    for _ in range(10):
        next(stream)
    assert len(asked) < 1000
    stream.close()
    assert threading.active_count() == threads


def test_a_note_is_there_with_its_image(encoder):
    notes: dict[int, list[ImageNote]] = {}
    stream = encoder.stream_images([picture(64, 64), picture(300, 64)], notes=notes)
    next(stream)
    assert 0 not in notes
    next(stream)
    assert [note.kind for note in notes[1]] == ["centre_only"]


def test_no_image_is_asked_for_where_an_option_is_wrong(encoder):
    with pytest.raises(ConfigError, match="resize_mode"):
        next(encoder.stream_images(iter(lambda: 1 / 0, None), resize_mode="none"))
    assert list(encoder.stream_images([])) == []


@pytest.mark.parametrize("at_once", [0, -1, True, 1.5])
def test_a_number_of_images_below_one_is_refused_before_an_image_is_asked_for(encoder, at_once):
    with pytest.raises(ConfigError, match="`at_once` is"):
        next(encoder.stream_images(iter(lambda: 1 / 0, None), at_once=at_once))


@pytest.mark.parametrize("image", ["1.png", b"\x89PNG", picture(64, 64), np.zeros((8, 8, 3), np.uint8), 5])
def test_one_bare_image_is_refused_with_what_to_write(encoder, image):
    with pytest.raises(InputError, match=r"`images` is .*: pass a list"):
        next(encoder.stream_images(image))
