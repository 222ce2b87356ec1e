"""HEIC, JPEG XL and camera raw files: decoded with an extra, named without it, held to the limits."""

import importlib.util
import struct
import subprocess
import sys
import time
import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from core_encoder.decode_limits import TooCostlyError
from core_encoder.heif_frames import check_heif
from core_encoder.image_formats import EXTRAS_OF_SUFFIXES, readable_suffixes
from core_encoder.image_input import load_image, read_image
from core_encoder.image_limits import ImageLimits
from tests.heic_pictures import CLEAR, EXIF_ONLY, PLAIN, TURNED, TWO, drawing
from tests.pictures import PICTURE, encoded, refusal

EXACT = ImageLimits(max_pixels=96 * 64)


def near(image, expected):
    assert image.size == expected.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 6


# HEIC


def test_a_heic_picture_is_decoded():
    for rendering in ("as_seen", "as_stored"):
        near(load_image(PLAIN, index=0, rendering=rendering), drawing())


def test_a_heic_picture_is_turned_once():
    near(load_image(TURNED, index=0, rendering="as_seen"), drawing().transpose(Image.Transpose.ROTATE_270))
    near(load_image(EXIF_ONLY, index=0, rendering="as_seen"), drawing())


def test_a_heic_picture_with_opacity_is_put_on_white():
    shown = np.asarray(load_image(CLEAR, index=0, rendering="as_seen"))
    assert (shown[40:, 60:] > 250).all()
    assert np.abs(shown[8:16, 8:32].astype(int) - (200, 20, 20)).max() < 12


def test_of_two_heic_pictures_the_main_one_counts():
    near(load_image(TWO, index=0), drawing())


def test_pillow_does_not_learn_heic_by_that():
    code = (
        "from core_encoder.image_input import load_image; from tests.heic_pictures import PLAIN; from PIL import Image;"
        "load_image(PLAIN, index=0); print('HEIF' in Image.OPEN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"


def test_the_pixels_of_a_heic_picture_are_limited():
    for data in (PLAIN, TURNED, CLEAR, TWO):
        load_image(data, index=0, limits=EXACT)
        assert "`max_pixels`" in refusal(data, limits=ImageLimits(max_pixels=96 * 64 - 1))


def box(kind, content):
    return struct.pack(">I4s", len(content) + 8, kind) + content


def grid(cells):
    """The main picture is a grid that shows the item 1 many times."""
    references = box(b"dimg", struct.pack(f">HH{cells}H", 9, cells, *[1] * cells))
    meta = PLAIN.index(b"meta") - 4
    (size,) = struct.unpack_from(">I", PLAIN, meta)
    primary = PLAIN.index(b"pitm")
    content = bytearray(PLAIN[meta + 8 : meta + size])
    at = primary - meta - 8
    content[at + 8 : at + 10] = struct.pack(">H", 9)
    # The places of the items stay: where the list was, there is an unused box.
    unused = box(b"free", bytes(size - 8))
    lists = box(b"meta", bytes(content) + box(b"iref", bytes(4) + references))
    return PLAIN[:meta] + unused + PLAIN[meta + size :] + lists


def test_a_heic_grid_that_shows_one_picture_many_times_is_refused_before_it_is_decoded():
    check_heif(grid(8), 96 * 64)
    with pytest.raises(TooCostlyError, match="9 HEVC pictures with 1 frames of up to 6144 pixels"):
        check_heif(grid(9), 96 * 64)


def test_a_grid_that_holds_itself_is_refused():
    data = grid(40).replace(struct.pack(">HHH", 9, 40, 1), struct.pack(">HHH", 9, 40, 9))
    start = time.thread_time()
    with pytest.raises(TooCostlyError, match="grid of over"):
        check_heif(data, 10**9)
    assert time.thread_time() - start < 5


def test_frames_behind_the_first_are_counted():
    start = PLAIN.index(b"mdat") + 4
    length_place = PLAIN.index(b"iloc")
    stored = struct.pack(">I", len(PLAIN) - start)
    at = PLAIN.index(stored, length_place)
    many = PLAIN[start:] * 20
    data = PLAIN[:at] + struct.pack(">I", len(many)) + PLAIN[at + 4 : start - 8]
    data += struct.pack(">I", len(many) + 8) + b"mdat" + many
    with pytest.raises(TooCostlyError, match="1 HEVC pictures with 20 frames"):
        check_heif(data, 96 * 64)


def test_damaged_heic_files_give_a_picture_or_our_error():
    rng = np.random.default_rng(5)
    for _ in range(400):
        data = bytearray([PLAIN, TURNED, CLEAR, TWO][rng.integers(4)])
        for _ in range(rng.choice([1, 3, 10])):
            data[rng.integers(len(data))] = rng.integers(256)
        try:
            load_image(bytes(data), index=7, limits=ImageLimits(max_pixels=10**6), rendering="as_seen")
        except ValueError as error:
            assert str(error).startswith("item 7")  # noqa: PT017  # either outcome is right
    for kept in (20, 100, 300, len(PLAIN) - 40):
        assert "HE" in refusal(PLAIN[:kept])


def test_an_avif_under_the_general_name_of_the_container_is_an_avif():
    data = encoded(PICTURE, "AVIF")
    renamed = data.replace(b"ftypavif", b"ftypmif1", 1)
    np.testing.assert_array_equal(np.asarray(load_image(renamed, index=0)), np.asarray(load_image(data, index=0)))


# JPEG XL


def jxl(image, **options):
    import pillow_jxl  # noqa: F401 - it adds itself to Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it keeps a JPEG
        buffer = BytesIO()
        image.save(buffer, "JXL", **options)
        return buffer.getvalue()


@pytest.mark.parametrize("size", [(96, 64), (100, 100), (77, 31), (256, 128), (300, 241), (8, 8), (64, 36)])
def test_a_jpeg_xl_picture_is_decoded_and_limited(size):
    data = jxl(drawing().resize(size), lossless=True)
    near(load_image(data, index=0), drawing().resize(size))
    load_image(data, index=0, limits=ImageLimits(max_pixels=size[0] * size[1]))
    assert "`max_pixels`" in refusal(data, limits=ImageLimits(max_pixels=size[0] * size[1] - 1))


def test_a_jpeg_inside_jpeg_xl_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    drawing().save(tmp_path / "photo.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "photo.jpg") as photo:
        data = jxl(photo)  # keeps the JPEG, as the photo has a file
    near(load_image(data, index=0, rendering="as_seen"), drawing().transpose(Image.Transpose.ROTATE_270))
    near(load_image(data, index=0), drawing())


def test_a_damaged_jpeg_xl_picture_is_refused():
    data = jxl(drawing())
    for bad in (data[:12], data[: len(data) // 2], b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50)):
        assert "JPEG XL" in refusal(bad)


# Camera raw


def entry(tag, kind, count, value):
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


def short(value):
    return struct.pack("<H", value)


def long(value):
    return struct.pack("<I", value)


def dng(preview, *, orientation=1, reduced=True):
    """A tiny DNG: its first directory is the preview, the second one the sensor."""
    size = 64
    sensor = np.full((size, size), 8000, "<u2").tobytes()
    place = 8
    blobs = b""

    def put(content):
        nonlocal blobs
        blobs += content + bytes(len(content) % 2)
        return long(place + len(blobs) - len(content) - len(content) % 2)

    raw_at, preview_at, make_at, model_at = put(sensor), put(preview), put(b"Example\0"), put(b"Camera\0")
    matrix_at = put(struct.pack("<18i", *[1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]))
    raw_tags = [
        entry(254, 4, 1, long(0)),
        entry(256, 4, 1, long(size)),
        entry(257, 4, 1, long(size)),
        entry(258, 3, 1, short(16)),
        entry(259, 3, 1, short(1)),
        entry(262, 3, 1, short(32803)),
        entry(273, 4, 1, raw_at),
        entry(277, 3, 1, short(1)),
        entry(278, 4, 1, long(size)),
        entry(279, 4, 1, long(len(sensor))),
        entry(33421, 3, 2, short(2) + short(2)),
        entry(33422, 1, 4, bytes([0, 1, 1, 2])),
    ]
    raw_directory = put(short(len(raw_tags)) + b"".join(raw_tags) + bytes(4))
    with Image.open(BytesIO(preview)) as image:
        width, height = image.size
    tags = [
        entry(254, 4, 1, long(int(reduced))),
        entry(256, 4, 1, long(width)),
        entry(257, 4, 1, long(height)),
        entry(258, 3, 1, short(8)),
        entry(259, 3, 1, short(7)),
        entry(262, 3, 1, short(6)),
        entry(271, 2, 8, make_at),
        entry(272, 2, 7, model_at),
        entry(273, 4, 1, preview_at),
        entry(274, 3, 1, short(orientation)),
        entry(277, 3, 1, short(3)),
        entry(278, 4, 1, long(height)),
        entry(279, 4, 1, long(len(preview))),
        entry(330, 4, 1, raw_directory),
        entry(50706, 1, 4, bytes([1, 4, 0, 0])),
        entry(50721, 10, 9, matrix_at),
    ]
    directory = put(short(len(tags)) + b"".join(tags) + bytes(4))
    return b"II*\0" + directory + blobs


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_preview_of_a_raw_file_counts_and_is_turned_once(orientation):
    data = dng(encoded(drawing(), "JPEG", quality=95), orientation=orientation)
    loaded = read_image(data, index=0, rendering="as_seen")
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    near(loaded.image, drawing() if orientation == 1 else drawing().transpose(turn[orientation]))
    assert [note.kind for note in loaded.notes] == ["preview"]
    near(load_image(data, index=0), drawing())


def test_the_preview_of_a_raw_file_is_limited():
    data = dng(encoded(drawing(), "JPEG", quality=95))
    assert load_image(data, index=0, limits=ImageLimits(max_pixels=96 * 64 - 1)).size == (48, 32)
    assert "`max_pixels`" in refusal(data, limits=ImageLimits(max_pixels=10))


@pytest.mark.parametrize("start", [b"FUJIFILMCCD-RAW ", b"IIRO", b"IIU\0", b"II*\0\x10\0\0\0CR", b"\0\0\0\x18ftypcrx "])
def test_other_raw_files_go_to_the_same_decoder(start):
    message = refusal(start + bytes(300))
    assert "raw" in message
    assert "export it as a JPEG" in message


# Without the extras


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    found = importlib.util.find_spec
    absent = ("pi_heif", "pillow_jxl", "rawpy")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else found(name, *rest))
    raw = dng(encoded(drawing(), "JPEG"))
    for data, name, extra in (
        (PLAIN, "HEIC", "heif"),
        (b"\xff\x0a" + bytes(50), "JPEG XL", "raw"),
        (raw, "camera raw", "raw"),
    ):
        message = refusal(data)
        assert name in message
        assert f"pip install 'jclip-connectors[{extra}]'" in message
    assert not readable_suffixes() & set(EXTRAS_OF_SUFFIXES)


def test_what_is_installed_is_readable():
    assert readable_suffixes() >= set(EXTRAS_OF_SUFFIXES)
    assert EXTRAS_OF_SUFFIXES[".heic"] == "heif"
    assert EXTRAS_OF_SUFFIXES[".nef"] == EXTRAS_OF_SUFFIXES[".jxl"] == "raw"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n  <html>", "web page"),
        (b"\0\0\0\x18ftypisom" + bytes(60), "video"),
        (b"%PDF-1.7", "PDF"),
        (b"", "empty"),
        (bytes(5000), "only zeros"),
    ],
)
def test_what_is_often_found_under_the_name_of_a_picture_is_named(content, named):
    assert named in refusal(content)
