import base64
import os
import struct
import traceback
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from core_encoder.errors import ImageDecodeError
from core_encoder.image_input import load_image
from core_encoder.rendering import Rendering
from tests.pictures import FORMATS, PICTURE, PIXELS, PNG, encoded, refusal

RENDERINGS: tuple[Rendering, ...] = ("as_stored", "as_seen")
GOLDEN = Path(__file__).parents[1] / "golden" / "public-v2-tiny" / "images"


# What is accepted


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
        lambda data: "DATA:;BASE64," + base64.encodebytes(data).decode(),
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.encodebytes(data).decode(),
        lambda data: Image.open(BytesIO(data)),
        lambda data: np.array(Image.open(BytesIO(data))),
    ],
    ids=["bytes", "bytearray", "memoryview", "uri", "URI", "base64", "base64 lines", "pillow", "array"],
)
def test_every_way_to_hold_an_image_gives_the_same_pixels(wrap):
    image = load_image(wrap(PNG), index=0)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("wrap", [str, Path, lambda path: os.fsdecode(os.fsencode(path))])
def test_a_path_is_read_whatever_its_suffix(tmp_path, wrap):
    path = tmp_path / "a photo é.eps"
    path.write_bytes(PNG)
    np.testing.assert_array_equal(np.asarray(load_image(wrap(path), index=0)), PIXELS)


def test_a_relative_path_that_looks_like_base64_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("abcd").write_bytes(PNG)
    np.testing.assert_array_equal(np.asarray(load_image("abcd", index=0)), PIXELS)


def test_base64_of_a_jpeg_is_not_taken_for_an_absolute_path():
    text = base64.b64encode(encoded(PICTURE, "JPEG")).decode()
    assert text.startswith("/9j/")
    assert load_image(text, index=0).size == (31, 24)


@pytest.mark.parametrize("fmt", [*FORMATS, "MPO"])
def test_every_allowed_format_decodes_as_pillow_does(fmt):
    data = encoded(PICTURE, fmt)
    with Image.open(BytesIO(data)) as reference:
        np.testing.assert_array_equal(np.asarray(load_image(data, index=0)), np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "La", "RGBa", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_of_pillow_is_converted_as_pillow_does(mode):
    if mode == "La":
        image = PICTURE.convert("LA").convert("La")
    elif mode == "RGBa":
        image = PICTURE.convert("RGBA").convert("RGBa")
    elif mode == "PA":
        image = PICTURE.convert("P").convert("PA")
    else:
        image = PICTURE.convert(mode)
    assert image.mode == mode
    try:
        expected = np.asarray(image.convert("RGB"))
    except ValueError:
        refusal(image)
    else:
        np.testing.assert_array_equal(np.asarray(load_image(image, index=0)), expected)


def test_alpha_is_dropped_without_compositing():
    transparent = np.dstack([PIXELS, np.zeros((24, 31), np.uint8)])
    np.testing.assert_array_equal(np.asarray(load_image(transparent, index=0)), PIXELS)
    np.testing.assert_array_equal(np.asarray(load_image(Image.fromarray(transparent), index=0)), PIXELS)


@pytest.mark.parametrize("shape", [(24, 31), (24, 31, 1)])
def test_a_gray_array_becomes_rgb(shape):
    image = load_image(PIXELS[:, :, :1].reshape(shape), index=0)
    np.testing.assert_array_equal(np.asarray(image), PIXELS[:, :, :1].repeat(3, axis=2))


def test_a_strided_array_is_read_in_its_own_order():
    np.testing.assert_array_equal(np.asarray(load_image(PIXELS[::-2, ::3, ::-1], index=0)), PIXELS[::-2, ::3, ::-1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_later_write_to_the_array_does_not_reach_the_image(channels):
    array = np.ascontiguousarray(np.dstack([PIXELS, PIXELS])[:, :, :channels])
    image = load_image(array, index=0)
    before = np.array(image)
    array[:] = 0
    np.testing.assert_array_equal(np.asarray(image), before)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_the_callers_pillow_image_stays_as_it_was(name):
    with Image.open(GOLDEN / name) as image:
        image.load()
        before = image.mode, image.size, dict(image.info), image.tobytes()
        load_image(image, index=0)
        load_image(image, index=0, rendering="as_seen")
        assert (image.mode, image.size, image.info, image.tobytes()) == before


def test_a_palette_with_transparency_bytes_loads_without_a_warning():
    data = encoded(PICTURE.convert("P"), "PNG", transparency=bytes(range(200)))
    with Image.open(BytesIO(data)) as lazy:
        assert isinstance(lazy.info["transparency"], bytes)
        from_pillow = load_image(lazy, index=0)
        assert isinstance(lazy.info["transparency"], bytes)
    np.testing.assert_array_equal(np.asarray(from_pillow), np.asarray(load_image(data, index=0)))
    with pytest.warns(UserWarning, match="Transparency"):
        Image.open(BytesIO(data)).convert("RGB")


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_the_exif_orientation_is_applied_only_to_a_picture_as_seen(fmt, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, fmt, exif=exif)
    with Image.open(BytesIO(data)) as reference:
        plain, turned = np.asarray(reference.convert("RGB")), np.asarray(ImageOps.exif_transpose(reference))
    np.testing.assert_array_equal(np.asarray(load_image(data, index=0)), plain)
    np.testing.assert_array_equal(np.asarray(load_image(data, index=0, rendering="as_seen")), turned)
    assert (orientation == 1) == np.array_equal(plain, turned)


def test_a_tiff_is_turned_once_as_pillow_always_does():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(PICTURE, "TIFF", exif=exif)
    for wanted in RENDERINGS:
        image = load_image(data, index=0, rendering=wanted)
        np.testing.assert_array_equal(np.asarray(image), np.rot90(PIXELS, -1))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0junk" * 5, b"Exif\0\0II*\0\x08\0\0\0\x05\0\x1a\x01\x05\0\xff\xff"]
)
def test_a_damaged_exif_neither_warns_nor_refuses(exif):
    jpeg = encoded(PICTURE, "JPEG")
    damaged = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    expected = np.asarray(load_image(jpeg, index=0))
    for wanted in RENDERINGS:
        np.testing.assert_array_equal(np.asarray(load_image(damaged, index=0, rendering=wanted)), expected)


# What is refused


@pytest.mark.parametrize("image", [None, 3, 2.5, object(), {"url": "x"}, BytesIO(PNG), ["a.png"]])
def test_what_cannot_hold_an_image_is_refused_by_its_type(image):
    assert type(image).__name__ in refusal(image)


@pytest.mark.parametrize(
    "url", ["http://user:secret@host/a.png?sig=secret", "HTTPS://host/secret", "s3://secret/a", "file:///secret"]
)
def test_a_url_is_refused_without_repeating_it(url):
    message = refusal(url)
    assert "never downloads" in message
    assert "secret" not in message


@pytest.mark.parametrize("wrap", [str, Path])
def test_a_missing_file_is_called_missing(tmp_path, wrap):
    message = refusal(wrap(tmp_path / "cat.jpg"))
    assert "no such file" in message
    assert "cat.jpg" in message


def test_an_empty_string_is_refused():
    assert "empty string" in refusal("")


def test_a_string_with_a_nul_byte_is_refused():
    assert "null" in refusal("a\0b.png")
    assert "null" in refusal(Path("a\0b.png"))


def test_a_long_string_that_is_no_image_is_not_repeated():
    text = "QUJD" * 50_000
    with pytest.raises(ImageDecodeError, match="200000 characters") as caught:
        load_image(text, index=7)
    assert len("".join(traceback.format_exception(caught.value, limit=0))) < 600


@pytest.mark.parametrize(
    "uri", ["data:", "data:image/png,rawbytes", "data:image/png;base64", "data:image/svg+xml,%3Csvg/%3E"]
)
def test_a_data_uri_without_base64_is_refused(uri):
    assert "without base64" in refusal(uri)


def test_a_data_uri_with_damaged_base64_is_refused():
    assert "damaged" in refusal("data:image/png;base64,iVBOR*w0KGgo=")


def test_base64_of_something_else_is_refused():
    assert "base64" in refusal(base64.b64encode(b"%PDF-1.7 and so on").decode())


def test_a_directory_a_pipe_and_a_device_are_refused_without_waiting(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        assert repr(str(path)) in refusal(path)


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path in (tmp_path / "a", str(tmp_path / "a")):
        assert "symbolic links" in refusal(path)


def test_no_bytes_and_other_bytes_are_refused():
    assert "0 bytes" in refusal(b"")
    assert "b'%PDF-1.7'" in refusal(b"%PDF-1.7 and so on")


@pytest.mark.parametrize("fmt", ["EPS", "ICO", "PPM", "TGA", "PCX", "PDF", "JPEG2000"])
def test_a_format_outside_the_list_is_refused(tmp_path, fmt):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(PICTURE, fmt))
    message = refusal(path)
    assert "allowed format" in message
    assert "picture.png" in message


@pytest.mark.parametrize(
    "start", [b"8BPS\0\1", b"<svg xmlns=", b"<?xml version", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x00\x00\x01\x00"]
)
def test_svg_psd_and_postscript_never_reach_a_decoder(start):
    assert "allowed format" in refusal(start + bytes(100))


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_truncated_image_is_refused_by_name(tmp_path, fmt):
    data = encoded(PICTURE, fmt)
    path = tmp_path / "photo"
    for kept in (len(data) // 2, len(data) * 3 // 4, 30):
        path.write_bytes(data[:kept])
        message = refusal(path)
        assert "photo" in message
        assert fmt in message


def test_a_damaged_png_is_refused():
    data = bytearray(PNG)
    data[len(data) // 2] ^= 0x55
    assert "PNG" in refusal(bytes(data))


@pytest.mark.parametrize("dtype", [bool, np.uint16, np.int64, np.float32, np.float64, np.complex64, "U1", object])
def test_an_array_of_another_dtype_is_refused_and_says_what_to_do(dtype):
    message = refusal(np.zeros((4, 4, 3), dtype))
    assert "uint8" in message


def test_the_advice_for_other_dtypes_works():
    for array, advice in [
        (np.ones((4, 4), bool), lambda image: image.astype("uint8") * 255),
        (np.full((4, 4), 65535, np.uint16), lambda image: (image // 257).astype("uint8")),
        (np.ones((4, 4), np.float32), lambda image: (image * 255).round().astype("uint8")),
    ]:
        refusal(array)
        assert np.asarray(load_image(advice(array), index=0)).min() == 255


@pytest.mark.parametrize("shape", [(4,), (3, 8, 9), (8, 9, 2), (8, 9, 5), (1, 8, 9, 3), ()])
def test_an_array_of_another_shape_is_refused(shape):
    message = refusal(np.zeros(shape, np.uint8))
    assert str(shape) in message
    assert ("transpose" in message) == (shape == (3, 8, 9))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(size):
    assert "empty" in refusal(Image.new("RGB", size))
    assert "empty" in refusal(np.zeros((*size, 3), np.uint8))


def test_a_closed_pillow_image_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with Image.open(path) as image:
        pass
    refusal(image)


def test_a_lazy_pillow_image_of_a_truncated_file_is_refused():
    with Image.open(BytesIO(PNG[: len(PNG) // 2])) as image:
        assert "truncated" in refusal(image)


# 16 bits


def test_a_16_bit_scan_is_refused_since_rgb_would_turn_it_white():
    scan = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    assert np.asarray(scan.convert("RGB")).mean() > 250
    for fmt in ("PNG", "TIFF"):
        message = refusal(encoded(scan, fmt))
        assert "0..65535" in message
        assert "8 bits" in message
    refusal(scan)
    refusal(Image.fromarray(np.full((4, 4), -1, np.int32)))
    refusal(Image.fromarray(np.full((4, 4), 256, np.uint16)))


def test_16_bit_grayscale_that_holds_8_bit_values_is_converted():
    dark = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16))
    np.testing.assert_array_equal(
        np.asarray(load_image(encoded(dark, "PNG"), index=0)), np.asarray(dark.convert("RGB"))
    )


def test_floating_point_grayscale_is_refused():
    assert "'F'" in refusal(Image.fromarray(np.full((4, 4), 0.5, np.float32)))
