import functools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core_encoder import image_preprocess
from core_encoder.errors import ConfigError
from core_encoder.image_input import load_image
from core_encoder.image_preprocess import PreprocessConfig, preprocess_batch
from tests.profiles import examples

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ("public-v1-tiny", "public-v2-tiny")
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def read(model, name):
    return json.loads((GOLDEN / model / name).read_text())


def golden_images():
    return [(model, name) for model in MODELS for name in read(model, "manifest.json")["image_names"]]


def golden_variants():
    return [(model, i) for model in MODELS for i in range(len(read(model, "manifest.json")["preproc_variants"]))]


@functools.cache
def golden_array(model, name):
    with np.load(GOLDEN / model / "expected.npz") as arrays:
        return arrays[name]


def golden_picture(model, name):
    """Decode a picture; of a JPEG, the pixels that the reference had, since a decoder may be off by one."""
    with np.load(GOLDEN / model / "expected.npz") as arrays:
        if f"decoded__{name}" in arrays:
            return Image.fromarray(arrays[f"decoded__{name}"])
    return load_image(GOLDEN / model / "images" / name, index=0)


def make(size=64, **options):
    return PreprocessConfig(size=size, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), **options)


def preprocess(image, config, resize_mode=None):
    return preprocess_batch([image], config, resize_mode)[0]


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


# The reference


@pytest.mark.parametrize(("model", "name"), golden_images())
def test_pixel_values_equal_the_references_to_the_last_bit(model, name):
    config = PreprocessConfig.from_json(read(model, "preprocessor_config.json"))
    expected = golden_array(model, "pixel_values")[read(model, "manifest.json")["image_names"].index(name)]
    values = preprocess(golden_picture(model, name), config)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(("model", "variant"), golden_variants())
def test_every_variant_equals_the_references_to_the_last_bit(model, variant):
    changed = dict(read(model, "manifest.json")["preproc_variants"][variant])
    names = changed.pop("images")
    config = PreprocessConfig.from_json(read(model, "preprocessor_config.json") | changed)
    values = preprocess_batch([golden_picture(model, name) for name in names], config)
    np.testing.assert_array_equal(values, golden_array(model, f"preproc_variant{variant}"))


@pytest.mark.parametrize(("model", "name"), [case for case in golden_images() if case[1].endswith(".jpg")])
def test_decoded_jpegs_are_the_references_within_one_level(model, name):
    mine = np.asarray(load_image(GOLDEN / model / "images" / name, index=0)).astype(int)
    assert np.abs(mine - golden_array(model, f"decoded__{name}")).max() <= 1


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_is_its_images_one_by_one(model):
    config = PreprocessConfig.from_json(read(model, "preprocessor_config.json"))
    images = [golden_picture(model, name) for name in read(model, "manifest.json")["image_names"]]
    batch = preprocess_batch(images, config)
    assert batch.shape == (16, 3, config.size, config.size)
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, np.stack([preprocess(image, config) for image in images]))


def test_an_empty_batch_has_the_right_shape():
    assert preprocess_batch([], make()).shape == (0, 3, 64, 64)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_the_resize_mode_of_a_call_overrides_the_configured_one(mode):
    image = noise(90, 50)
    other = "squash" if mode != "squash" else "longest"
    called = preprocess(image, make(resize_mode=other), mode)
    np.testing.assert_array_equal(called, preprocess(image, make(resize_mode=mode)))
    assert not np.array_equal(called, preprocess(image, make(resize_mode=other)))


def test_an_unknown_resize_mode_is_refused():
    with pytest.raises(ConfigError, match="'fit'"):
        preprocess(noise(9, 9), make(), "fit")


def test_every_channel_value_is_scaled_and_normalised_in_float32():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = preprocess(Image.fromarray(np.dstack([levels] * 3)), make(16))
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), strict=True)):
        expected = (levels.astype(np.float32) / np.float32(255) - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(values[channel], expected)


def test_a_padded_picture_keeps_the_fill_colour_around_it():
    values = preprocess(Image.new("RGB", (100, 50), (255, 255, 255)), make(64, resize_mode="longest", fill_color=51))
    fill = np.array([(0.2 - mean) / std for mean, std in ((0.1, 0.4), (0.2, 0.5), (0.3, 0.6))], np.float32)
    for rows in (slice(0, 16), slice(48, 64)):
        np.testing.assert_allclose(values[:, rows], np.broadcast_to(fill[:, None, None], (3, 16, 64)), atol=1e-6)
    assert (values[:, 16:48] > values[:, :16].max()).all()


@pytest.mark.parametrize("size", [(21, 64), (64, 21)])
def test_of_an_odd_padding_the_smaller_half_comes_first(size):
    bright = preprocess(Image.new("RGB", size, (255, 255, 255)), make(64, resize_mode="longest"))[0] > 0
    line = bright.all(axis=0) if size[0] == 21 else bright.all(axis=1)
    assert np.flatnonzero(line).tolist() == list(range(21, 42))


# Long strips


def naive_shortest(image, config):
    """The reference's way: resize all of it, then crop."""
    short = min(image.size)
    width, height = (config.size if side == short else int(config.size * side / short) for side in image.size)
    left, top = round((width - config.size) / 2.0), round((height - config.size) / 2.0)
    whole = image.resize((width, height), RESAMPLING[config.interpolation])
    return whole.crop((left, top, left + config.size, top + config.size))


@settings(max_examples=examples(40), deadline=None)
@given(
    size=st.sampled_from([32, 62, 64, 224]),
    short=st.integers(1, 31),
    ratio=st.floats(1, 60),
    tall=st.booleans(),
    extreme=st.booleans(),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    seed=st.integers(0, 99),
)
def test_a_long_strip_gets_the_same_pixels_without_the_whole(size, short, ratio, tall, extreme, interpolation, seed):
    long = int(short * ratio)
    image = noise(short, long, seed) if tall else noise(long, short, seed)
    if extreme:  # black and white overshoots most
        image = image.point(lambda level: 255 if level > 127 else 0)
    config = make(size, interpolation=interpolation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_preprocess, "_MAX_RESIZED_PIXELS", 0)
        strip = preprocess(image, config)
    naive = preprocess(naive_shortest(image, config), config)
    np.testing.assert_array_equal(strip, naive)


def test_both_ways_meet_at_the_bound(monkeypatch):
    image, config = noise(3, 400), make(64)
    pixels = 64 * int(64 * 400 / 3)
    ways = []
    original = image_preprocess._resize_centre

    def watched(*args):
        ways.append("strip")
        return original(*args)

    monkeypatch.setattr(image_preprocess, "_resize_centre", watched)
    monkeypatch.setattr(image_preprocess, "_MAX_RESIZED_PIXELS", pixels)
    whole = preprocess(image, config)
    assert ways == []
    monkeypatch.setattr(image_preprocess, "_MAX_RESIZED_PIXELS", pixels - 1)
    np.testing.assert_array_equal(preprocess(image, config), whole)
    assert ways == ["strip"]


@pytest.mark.parametrize("size", [(1, 2**17), (2**17, 1), (2, 100_001), (65_535, 3)])
def test_an_extreme_strip_takes_neither_time_nor_memory(size, monkeypatch):
    largest = 0
    resize = Image.Image.resize

    def watched(self, new_size, *args, **kwargs):
        nonlocal largest
        largest = max(largest, new_size[0] * new_size[1], new_size[0] * self.height)
        return resize(self, new_size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    start = time.process_time()
    values = preprocess(noise(*size), make(512))
    assert time.process_time() - start < 5
    assert np.isfinite(values).all()
    assert largest <= 2**24


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_longest_keeps_a_line_of_one_pixel_where_a_side_would_vanish(size):
    values = preprocess(Image.new("RGB", size, (255, 255, 255)), make(64, resize_mode="longest"))
    bright = values[0] > 0
    assert bright.sum() == 64
    assert bright.any(axis=0).sum() == (1 if size[0] == 1 else 64)


# The configuration


def test_the_published_configuration_is_read():
    config = PreprocessConfig.from_json(read("public-v2-tiny", "preprocessor_config.json"))
    assert config == PreprocessConfig(
        size=62,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resize_mode="shortest",
        interpolation="bicubic",
        fill_color=0,
    )


def test_a_size_of_two_equal_sides_is_one_size():
    raw = read("public-v2-tiny", "preprocessor_config.json")
    assert PreprocessConfig.from_json(raw | {"size": [62, 62]}).size == 62


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("size", value) for value in (0, -1, 2.0, True, "62", None, [62, 64], [62], {"height": 62, "width": 62})),
        *(("mean", value) for value in (0.5, [0.5], [0.5] * 4, ["a"] * 3, [float("nan")] * 3, None, [True] * 3)),
        *(("std", value) for value in ([0.0, 1, 1], [-1, 1, 1], [float("inf")] * 3, 1, [1, 1])),
        *(("resize_mode", value) for value in ("fit", None, ["shortest"])),
        *(("interpolation", value) for value in ("random", "nearest", 3)),
        *(("fill_color", value) for value in (-1, 256, 0.5, [0, 0, 0], True, None)),
    ],
)
def test_an_unsupported_value_is_refused_by_name(field, value):
    raw = read("public-v2-tiny", "preprocessor_config.json")
    with pytest.raises(ConfigError, match=f"`{field}`"):
        PreprocessConfig.from_json(raw | {field: value})


@pytest.mark.parametrize("field", ["size", "mean", "std", "resize_mode", "interpolation", "fill_color"])
def test_a_missing_field_is_refused_by_name(field):
    raw = read("public-v2-tiny", "preprocessor_config.json")
    del raw[field]
    with pytest.raises(ConfigError, match=field):
        PreprocessConfig.from_json(raw)
