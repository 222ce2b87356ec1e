import base64
import os
import struct
import threading
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from core_encoder.errors import ConfigError, ImageDecodeError
from core_encoder.image_input import load_image
from core_encoder.image_limits import ImageLimits
from core_encoder.rendering import Rendering
from tests.pictures import FORMATS, PICTURE, PIXELS, PNG, TIFF_TAGS, encoded, png, png_chunk, png_with, refusal, tiff

RENDERINGS: tuple[Rendering, ...] = ("as_stored", "as_seen")
GOLDEN = Path(__file__).parents[1] / "golden" / "public-v2-tiny" / "images"


# Limits


def test_the_limits_must_be_positive():
    for name in ("max_bytes", "max_pixels", "max_side_px"):
        for value in (0, -1, 1.5, None):
            with pytest.raises(ConfigError, match=name):
                ImageLimits(**{name: value})  # type: ignore[arg-type]  # the point


def test_too_many_bytes_are_refused_before_they_are_read(tmp_path):
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(2**40)
    tracemalloc.start()
    assert "`max_bytes`" in refusal(huge)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    limits = ImageLimits(max_bytes=len(PNG) - 1)
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    text = base64.b64encode(PNG).decode()
    for image in (path, str(path), PNG, bytearray(PNG), memoryview(PNG)):
        assert "`max_bytes`" in refusal(image, limits=limits)
        load_image(image, index=0, limits=ImageLimits(max_bytes=len(PNG)))
    for image in (text, "data:image/png;base64," + text):
        assert "`max_bytes`" in refusal(image, limits=ImageLimits(max_bytes=len(PNG) - 3))
        load_image(image, index=0, limits=ImageLimits(max_bytes=len(PNG)))


def test_a_file_that_grows_while_it_is_read_is_not_read_to_its_end(tmp_path, monkeypatch):
    path = tmp_path / "growing.png"
    path.write_bytes(PNG + bytes(50_000_000))
    earlier = os.stat_result((*path.stat()[:6], len(PNG), *path.stat()[7:]))
    monkeypatch.setattr(Path, "stat", lambda _path: earlier)
    tracemalloc.start()
    assert "grew" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("width", "height"), [(31_623, 31_623), (2**31 - 1, 2**31 - 1), (1, 178_956_971), (178_956_971, 1)]
)
def test_too_many_pixels_are_refused_from_the_header(width, height):
    start = time.thread_time()
    assert "`max_pixels`" in refusal(png(width, height))
    assert time.thread_time() - start < 3


def test_a_jpeg_that_claims_65535_by_65535_is_refused_from_the_header():
    data = bytearray(encoded(PICTURE, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    assert "`max_pixels`" in refusal(bytes(data))


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != "JPEG"])  # which is shrunk instead
def test_the_pixel_limit_holds_for_every_format_and_is_exact(fmt):
    data = encoded(PICTURE, fmt)
    assert "`max_pixels`" in refusal(data, limits=ImageLimits(max_pixels=31 * 24 - 1))
    load_image(data, index=0, limits=ImageLimits(max_pixels=31 * 24))


@pytest.mark.parametrize("image", [PICTURE, PIXELS, PNG], ids=["pillow", "array", "bytes"])
def test_pixels_and_sides_are_limited_for_decoded_images_too(image):
    assert "`max_pixels`" in refusal(image, limits=ImageLimits(max_pixels=31 * 24 - 1))
    assert "`max_side_px`" in refusal(image, limits=ImageLimits(max_side_px=30))
    load_image(image, index=0, limits=ImageLimits(max_pixels=31 * 24, max_side_px=31))


@pytest.mark.parametrize("shape", [(1, 2**17 + 1), (2**17 + 1, 1)])
def test_a_long_strip_is_refused(shape):
    assert "`max_side_px`" in refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("their_limit", [None, 10, 500])
@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP"])
def test_pillows_own_pixel_limit_changes_nothing(monkeypatch, their_limit, fmt):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", their_limit)
    load_image(encoded(PICTURE, fmt), index=0)
    assert "`max_pixels`" in refusal(png(20_000, 20_000))


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "TIFF", "AVIF"])
def test_a_lower_limit_of_pillow_is_at_most_an_error_of_ours(monkeypatch, fmt):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    try:
        load_image(encoded(PICTURE, fmt), index=7)
    except ImageDecodeError as error:
        assert "exceeds limit" in str(error)  # noqa: PT017  # either outcome is right; no other exception may come


def test_with_truncated_images_tolerated_by_pillow_nothing_is_decoded(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert "LOAD_TRUNCATED_IMAGES" in refusal(PNG)
    load_image(PICTURE, index=0)


# Hostile files


def test_a_png_with_bombs_in_its_text_is_refused():
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    tracemalloc.start()
    assert "too large" in refusal(png_with(bomb))
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_png_metadata_within_reason_is_ignored():
    data = png_with(png_chunk(b"tEXt", b"Comment\0hello"), png_chunk(b"eXIf", b"junk"))
    for wanted in RENDERINGS:
        np.testing.assert_array_equal(np.asarray(load_image(data, index=0, rendering=wanted)), PIXELS)


@pytest.mark.parametrize("frames", [0, 2**31 + 1])
def test_a_png_with_an_invalid_animation_loads_without_a_warning(frames):
    data = png_with(png_chunk(b"acTL", struct.pack(">II", frames, 0)))
    np.testing.assert_array_equal(np.asarray(load_image(data, index=0)), PIXELS)
    with pytest.warns(UserWarning, match="APNG"):
        Image.open(BytesIO(data))


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_only_the_first_frame_is_decoded(fmt):
    frames = [Image.new("RGB", (64, 64), (i % 256, i // 256, 90)) for i in range(300 if fmt == "GIF" else 30)]
    data = encoded(
        frames[0], fmt, save_all=True, append_images=frames[1:], **({"lossless": True} if fmt == "WEBP" else {})
    )
    with Image.open(BytesIO(data)) as animation:
        assert getattr(animation, "n_frames", 1) > 1
    image = load_image(data, index=0)
    assert image.size == (64, 64)
    assert image.getpixel((5, 5)) == (0, 0, 90)
    middle = len(data) // 2  # what follows the first frame is not even looked at
    assert fmt == "WEBP" or load_image(data[:middle], index=0).getpixel((5, 5)) == (0, 0, 90)


def test_the_handmade_tiff_is_a_good_one():
    image = load_image(tiff(*TIFF_TAGS.values()), index=0)
    np.testing.assert_array_equal(np.asarray(image)[:, :, 0], np.arange(16).reshape(4, 4))


@pytest.mark.parametrize(
    "tag",
    [
        (256, 3, 2, 0x0004_0004),
        (270, 2, 2**31, 8),
        (270, 2, 10_000, 2**31),
        (282, 5, 1, 2**32 - 1),
        (305, 99, 5, 5),
        (34665, 4, 1, 56),
        (34853, 13, 1, 2**31),
        (700, 1, 0, 0),
    ],
)
def test_odd_tags_in_a_tiff_neither_warn_nor_escape(tag):
    data = tiff(*(TIFF_TAGS | {tag[0]: tag}).values())
    for wanted in RENDERINGS:
        try:
            assert load_image(data, index=7, rendering=wanted).size == (4, 4)
        except ImageDecodeError as error:
            assert "TIFF" in str(error)  # noqa: PT017  # either outcome is right; no other exception, no warning


def test_the_content_of_a_tag_does_not_fill_the_message():
    message = refusal(tiff(*(TIFF_TAGS | {259: (259, 7, 2000, 8)}).values()) + b"\1" * 4000)
    assert "TIFF" in message


def test_a_tiff_that_pillow_warns_about_is_among_them():
    with pytest.warns(UserWarning, match="TIFF|tag|EXIF|Tag|read"):
        Image.open(BytesIO(tiff(*(TIFF_TAGS | {270: (270, 2, 10_000, 2**31)}).values())))


def test_an_avif_with_a_damaged_exif_loads_without_a_warning():
    exif = Image.Exif()
    exif[0x010E] = "a description"
    good = encoded(PICTURE, "AVIF", exif=exif)
    damaged = good.replace(struct.pack(">HHI", 0x010E, 2, 14), struct.pack(">HHI", 0x010E, 2, 9999))
    assert damaged != good
    for wanted in RENDERINGS:
        image = load_image(damaged, index=0, rendering=wanted)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(load_image(good, index=0)))
    with pytest.warns(UserWarning, match="tag 270"):
        Image.open(BytesIO(damaged)).getexif()


def test_a_gif_frame_larger_than_its_canvas_keeps_the_limits():
    data = bytearray(encoded(PICTURE, "GIF"))
    descriptor = data.index(b"\x2c\0\0\0\0\x1f\0")
    data[descriptor + 5 : descriptor + 9] = b"\xff\xff\xff\xff"
    refusal(bytes(data))


def test_mutated_files_give_an_image_or_our_error():
    seeds = [encoded(PICTURE, fmt) for fmt in FORMATS] + [
        encoded(PICTURE.convert("P"), "PNG", transparency=bytes(range(200))),
        encoded(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90), PICTURE.rotate(180)]),
        encoded(PICTURE.convert("CMYK"), "JPEG"),
        (GOLDEN / "08_exif_orientation6.jpg").read_bytes(),
    ]
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(1500):
        data = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.choice([1, 2, 5, 20])):
            data[rng.integers(min(len(data), rng.choice([64, 4096])))] = rng.integers(256)
        try:
            load_image(bytes(data), index=7, limits=ImageLimits(max_pixels=10**6), rendering="as_seen")
        except ImageDecodeError:
            outcomes.add("refused")
        else:
            outcomes.add("loaded")
    assert outcomes == {"refused", "loaded"}


# Threads


def test_threads_get_the_same_images_and_leave_the_warning_filters_alone():
    inputs = [encoded(PICTURE, fmt) for fmt in FORMATS] + [tiff(*(TIFF_TAGS | {270: (270, 2, 10_000, 2**31)}).values())]
    expected = [np.asarray(load_image(data, index=0)) for data in inputs]
    before = list(warnings.filters)
    start = threading.Barrier(8)

    def work(_):
        start.wait()
        return [[np.asarray(load_image(data, index=0, rendering="as_seen")) for data in inputs] for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        for rounds in pool.map(work, range(8)):
            for images in rounds:
                for image, wanted in zip(images, expected, strict=True):
                    np.testing.assert_array_equal(image, wanted)
    assert list(warnings.filters) == before


def test_too_little_memory_is_not_taken_for_damage(monkeypatch):
    def load(*_):
        raise MemoryError

    for kind in (PngImageFile, Image.Image):
        monkeypatch.setattr(kind, "load", load)
        image = Image.new("L", (30, 20)) if kind is Image.Image else PNG
        message = refusal(image)
        assert "not enough memory" in message
        assert "cannot be" not in message
        monkeypatch.undo()
