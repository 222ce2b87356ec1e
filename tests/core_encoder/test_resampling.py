"""`resampling="fast"` is within two levels of Pillow, for small pictures Pillow; and only where it is asked for."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from core_encoder import image_preprocess, resampling
from core_encoder.errors import ConfigError
from core_encoder.image_preprocess import PreprocessConfig, check_resampling, preprocess_batch, squares
from core_encoder.pictures import raw_pixels
from tests.profiles import examples

MODES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")


def make(size, **options):
    return PreprocessConfig(size=size, mean=(0.5,) * 3, std=(0.5,) * 3, **options)


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def black_and_white(width, height, seed=0):
    """Where the kernel overshoots most."""
    return np.where(noise(width, height, seed) > 127, np.uint8(255), np.uint8(0))


def gradient(width, height):
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)
    return np.stack(np.broadcast_arrays(across, down[:, None], (across + down[:, None]) / 2), axis=-1).astype(np.uint8)


@functools.cache
def drawing(width, height):
    """Text and sharp shapes in pure colours."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for line in range(0, height, 60):
        draw.text((3, line), "The quick brown fox jumps over the lazy dog 0123456789 " * 2, fill=(0, 0, 0))
    draw.ellipse((width // 4, height // 4, width // 2, height // 2), fill=(255, 0, 0))
    draw.line((0, 0, width, height), fill=(0, 0, 255), width=3)
    return np.asarray(image)


PICTURES: dict[str, Callable[..., NDArray[np.uint8]]] = {
    "noise": noise,
    "black and white": black_and_white,
    "gradient": gradient,
    "drawing": drawing,
}


def both_ways(pictures, config):
    """The squares of pictures of any size: the fast ones, and Pillow's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "LARGE_PIXELS", 0)
        fast = fast_squares(pictures, config)
    return fast.astype(int), squares(pictures, config).astype(int)


def fast_squares(pictures, config):
    return squares(pictures, config, resampling="fast")


def pillow_square(pixels, size):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def test_these_tests_have_the_library_that_they_are_about():
    assert resampling.is_installed()
    assert resampling.is_large(noise(512, 512))
    assert not resampling.is_large(noise(512, 511))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(700, 500), (2100, 300), (301, 2100)])
def test_unless_it_is_asked_for_a_large_picture_is_pillows_to_the_last_bit(mode, size):
    pixels, config = noise(*size), make(64, resize_mode=mode)
    width, height = size
    resized = {
        "shortest": (64 * width // min(size), 64 * height // min(size)),
        "longest": (round(64 * width / max(size)), round(64 * height / max(size))),
        "squash": (64, 64),
    }[mode]
    left, top = (round((side - 64) / 2) if mode == "shortest" else -((64 - side) // 2) for side in resized)
    image = Image.fromarray(pixels).resize(resized, Image.Resampling.BICUBIC)
    expected = np.asarray(image.crop((left, top, left + 64, top + 64)))
    for picture in (pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(squares([picture], config)[0], expected)
    values = preprocess_batch([Image.fromarray(pixels)], config, resampling="fast")
    assert 0 < np.abs(values - preprocess_batch([Image.fromarray(pixels)], config)).max() <= 2 / 255 / 0.5 + 1e-6


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("mode", MODES)
def test_every_value_is_within_two_levels_of_pillows(kind, mode):
    # Shrunk, enlarged, and so tall that Pillow resizes its rows first.
    sizes = [(1600, 1200), (640, 480), (90, 120), (130, 900), (900, 130), (224, 224)]
    for size, interpolation in [(512, "bicubic"), (224, "bicubic"), (224, "bilinear")]:
        config = make(size, resize_mode=mode, interpolation=interpolation)
        ours, pillows = both_ways([PICTURES[kind](*each) for each in sizes], config)
        assert np.abs(ours - pillows).max() <= 2
        assert (ours != pillows).mean() < 0.02


@settings(max_examples=examples(60), deadline=None)
@given(
    size=st.sampled_from([16, 62, 224]),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(INTERPOLATIONS),
    seed=st.integers(0, 99),
)
def test_any_size_is_within_two_levels_of_pillows(size, width, height, mode, interpolation, seed):
    config = make(size, resize_mode=mode, interpolation=interpolation)
    ours, pillows = both_ways([black_and_white(width, height, seed)], config)
    assert np.abs(ours - pillows).max() <= 2


@settings(max_examples=examples(100), deadline=None)
@given(
    size=st.sampled_from([16, 62, 224]),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(INTERPOLATIONS),
    strip=st.sampled_from([1, 5000, 40_000, 2**20]),
    turned=st.booleans(),
    seed=st.integers(0, 99),
)
def test_an_array_of_any_size_is_resized_exactly_as_pillow_resizes_its_image(
    size, width, height, mode, interpolation, strip, turned, seed
):
    config = make(size, resize_mode=mode, interpolation=interpolation)
    pixels = black_and_white(width, height, seed)
    pixels = pixels.transpose(1, 0, 2)[::-1] if turned else pixels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_preprocess, "_STRIP_BYTES", strip)
        ours = squares([pixels], config)
    np.testing.assert_array_equal(ours, squares([Image.fromarray(pixels)], config))


@pytest.mark.parametrize("size", [(700, 500), (500, 701), (2100, 300), (301, 2100)])
@pytest.mark.parametrize("turn", range(8))
def test_a_view_is_resized_like_its_copy(size, turn):
    pixels = noise(*size)
    view = pixels.transpose(1, 0, 2) if turn & 4 else pixels
    view = view[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
    config = make(64)
    np.testing.assert_array_equal(fast_squares([view], config), fast_squares([view.copy()], config))


def test_an_array_is_resized_like_pillows_image():
    for pixels in (noise(700, 500), noise(90, 50)):
        config = make(64)
        np.testing.assert_array_equal(fast_squares([pixels], config), fast_squares([Image.fromarray(pixels)], config))


def test_a_small_picture_is_pillows_to_the_last_bit():
    pixels = noise(513, 511)
    assert resampling.LARGE_PIXELS == 513 * 511 + 1
    square = fast_squares([pixels], make(64, resize_mode="squash"))[0]
    np.testing.assert_array_equal(square, pillow_square(pixels, 64))


def test_without_the_library_it_is_refused_and_pillow_resizes(monkeypatch):
    pixels, config = noise(700, 500), make(64, resize_mode="squash")
    monkeypatch.setattr(resampling, "cykooz_resizer", None)
    with pytest.raises(ConfigError, match="`resampling` is 'fast', which needs the package cykooz-resizer"):
        fast_squares([pixels], config)
    check_resampling("exact")
    np.testing.assert_array_equal(squares([pixels], config)[0], pillow_square(pixels, 64))


@pytest.mark.parametrize("value", ["quick", "Fast", "", None])
def test_an_unknown_resampling_is_refused(value):
    with pytest.raises(ConfigError, match=r"`resampling` is .*: choose one of \('exact', 'fast'\)"):
        squares([], make(64), resampling=value)


def test_only_what_the_crop_needs_is_read(monkeypatch):
    read = []

    def watched(picture, box):
        read.append(raw_pixels(picture, box))
        return read[-1]

    monkeypatch.setattr(resampling, "raw_pixels", watched)
    fast_squares([noise(6000, 300)], make(64))
    assert sum(map(len, read)) < 1.3 * 3 * (300 * 300 + 64 * 300)
    read.clear()
    fast_squares([noise(2, 2**17)], make(512))  # enlarged, all of it would have 17 gigapixels
    assert sum(map(len, read)) < 40_000


def smooth(width, height):
    small = noise(9, 7, 3)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def test_of_a_photograph_few_values_differ_from_pillows():
    ours, pillows = both_ways([smooth(1600, 1200)], make(512))
    assert 0 < (ours != pillows).mean() < 0.01
