"""Files that are small, valid and slow: each is refused in time, and what looks like one is not."""

import struct
import threading
import time
import types
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from core_encoder import decode_limits
from core_encoder.decode_limits import TimedBytes
from core_encoder.errors import ConfigError
from core_encoder.image_input import load_image
from core_encoder.image_limits import ImageLimits
from tests.pictures import PICTURE, encoded, refusal

SMOOTH = PICTURE.resize((310, 240), Image.Resampling.BICUBIC)


# The clock


def test_the_limit_must_be_a_positive_integer():
    for value in (0, -1, 1.5, None):
        with pytest.raises(ConfigError, match="max_decode_s"):
            ImageLimits(max_decode_s=value)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_a_format_that_is_read_in_pieces_is_stopped_between_them(monkeypatch, fmt):
    data = encoded(PICTURE, fmt)
    seconds = iter(range(10**6))
    monkeypatch.setattr(decode_limits, "time", types.SimpleNamespace(thread_time=lambda: next(seconds)))
    load_image(data, index=0, limits=ImageLimits(max_decode_s=10**6))
    last_read = next(seconds) - 1
    message = refusal(data, limits=ImageLimits(max_decode_s=last_read - 1))
    assert f"more than {last_read - 1} s" in message
    assert "`max_decode_s`" in message


def test_time_in_which_other_threads_work_does_not_count():
    data = TimedBytes(b"abc", 1)
    time.sleep(1.1)
    assert data.read() == b"abc"


# JPEG: as many passes over the image as there are scans


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_scans(side, number):
    """A progressive gray JPEG that says `number` times that no coefficient changes, in a few bytes each time."""
    head = segment(0xDB, bytes([0] + [1] * 64)) + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    tables = segment(0xC4, bytes([0, 1, *[0] * 15, 0])) + segment(0xC4, bytes([0x10, 1, 1, *[0] * 14, 0xE0, 0]))
    runs = -(-side * side // 64 // 32767)  # of 32,767 blocks, the most one code can skip
    bits = ("0" + "1" * 14) * runs
    bits += "1" * (-len(bits) % 8)
    skips = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])) + skips
    return b"\xff\xd8" + head + tables + segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + scan * number + b"\xff\xd9"


def test_a_jpeg_of_thousands_of_scans_is_stopped_in_time():
    data = jpeg_of_scans(2048, 8000)  # half a minute of work
    assert len(data) < 200_000
    start = time.thread_time()
    assert "`max_decode_s`" in refusal(data, limits=ImageLimits(max_decode_s=1))
    assert time.thread_time() - start < 10


def test_a_jpeg_of_many_scans_is_decoded_where_there_is_time():
    assert load_image(jpeg_of_scans(64, 500), index=0).size == (64, 64)


def test_a_stopped_image_does_not_stop_the_one_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(load_image(jpeg_of_scans(64, 50), index=0)))
    assert "`max_decode_s`" in refusal(jpeg_of_scans(2048, 8000), limits=ImageLimits(max_decode_s=1))
    thread.start()
    thread.join()
    assert results[0].size == (64, 64)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2, "restart_marker_blocks": 3}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_keeps_its_pixels_wherever_its_scans_start(mode, options):
    plain = encoded(SMOOTH.convert(mode), "JPEG", quality=90, **options)
    with Image.open(BytesIO(plain)) as reference:
        expected = np.asarray(reference.convert("RGB"))
    scan = plain.index(b"\xff\xda")
    marker_like = segment(0xE5, b"\xff\xda" * 3000) + segment(0xFE, b"\xff\xda")
    for at in range(65533, 65540):  # Pillow reads 65,536 bytes at a time
        filler = at - scan - len(marker_like) - 8
        data = plain[:2] + marker_like + segment(0xE6, bytes(30000)) + segment(0xE7, bytes(filler - 30000)) + plain[2:]
        assert data.index(plain[scan : scan + 8], len(marker_like)) == at
        np.testing.assert_array_equal(np.asarray(load_image(data, index=0)), expected)


# TIFF: one call, so that its strips and tiles are checked before


def tiff(width, height, compression, blob, *, prefix=b"II*\0", **tags):
    """A gray TIFF whose blob lies at offset 8; a tag is a type and its values."""
    entries = {256: (4, [width]), 257: (4, [height]), 258: (3, [8]), 259: (3, [compression]), 262: (3, [1])}
    entries |= {277: (3, [1])} | {int(name[1:]): value for name, value in tags.items()}
    start = 8 + len(blob)
    extra, table = b"", b""
    for tag, (kind, values) in sorted(entries.items()):
        raw = struct.pack(f"<{len(values)}{ {3: 'H', 4: 'I', 9: 'i', 17: 'q'}[kind] }", *values)
        if len(raw) > 4:
            extra, raw = extra + raw, struct.pack("<I", start + 6 + 12 * len(entries) + len(extra))
        table += struct.pack("<HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
    return prefix + struct.pack("<I", start) + blob + struct.pack("<H", len(entries)) + table + bytes(4) + extra


ROW = zlib.compress(bytes(range(16)))


def strips(number, blob, count, *, kind=4):
    offsets, rows, counts = (4, [8] * number), (4, [1]), (kind, [count] * number)
    return tiff(16, number, 8, blob, t273=offsets, t278=rows, t279=counts)


def test_strips_that_share_their_bytes_thousands_of_times_are_refused():
    blob = ROW.ljust(500_000, b"\0")
    message = refusal(strips(4000, blob, len(blob)))
    assert "2000000000 bytes" in message
    assert "4 times" in message


def test_a_few_strips_may_share_their_bytes():
    image = load_image(strips(400, ROW, len(ROW)), index=0)
    np.testing.assert_array_equal(np.asarray(image)[:, :, 0], np.tile(np.arange(16), (400, 1)))


@pytest.mark.parametrize("kind", [9, 17])
def test_byte_counts_of_other_types_do_not_get_around_the_check(kind):
    blob = ROW.ljust(500_000, b"\0")
    refusal(strips(4000, blob, -len(blob), kind=kind))
    refusal(strips(4000, blob, len(blob), kind=kind))


def test_a_tile_far_larger_than_the_image_is_refused():
    blob = zlib.compress(bytes(2**20), 9)

    def tiled(side):
        tags = {"t322": (4, [side]), "t323": (4, [side]), "t324": (4, [8]), "t325": (4, [len(blob)])}
        return tiff(16, 16, 8, blob, **tags)

    limits = ImageLimits(max_pixels=2**17)
    assert "`max_pixels`" in refusal(tiled(1024), limits=limits)
    assert load_image(tiled(512), index=0, limits=limits).size == (16, 16)
    assert "TIFF tiles of 1024 x None" in refusal(
        tiled(1024).replace(struct.pack("<H", 323), struct.pack("<H", 321), 1)
    )


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"])
def test_a_tiff_of_every_compression_decodes_as_pillow_does(compression, big):
    data = encoded(SMOOTH, "TIFF", compression=compression, big_tiff=big, tiffinfo={278: 8})
    with Image.open(BytesIO(data)) as reference:
        expected = np.asarray(reference.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(load_image(data, index=0)), expected)


def test_libtiff_limits_the_scans_of_a_jpeg_inside():
    tags = {"t273": (4, [8]), "t278": (4, [64])}
    for number, is_refused in ((90, False), (110, True)):
        jpeg = jpeg_of_scans(64, number)
        data = tiff(64, 64, 7, jpeg, **tags, t279=(4, [len(jpeg)]))
        if is_refused:
            refusal(data)
        else:
            load_image(data, index=0)


# AVIF: one call, so that its frames are counted before


def avif(num_frames=1, side=64, **options):
    image = Image.new("RGB", (side, side), (90, 100, 110))
    options |= {"save_all": True, "append_images": [image] * (num_frames - 1)} if num_frames > 1 else {}
    return encoded(image, "AVIF", speed=10, **options)


def patched(data, box, offset, layout, *values):
    """Overwrite numbers after the name of a box."""
    copy = bytearray(data)
    struct.pack_into(layout, copy, data.index(box) + 4 + offset, *values)
    return bytes(copy)


def as_one_item(data):
    """An animation made a still, all of its frames in the one item."""
    start = struct.unpack_from(">I", data, data.index(b"iloc") + 18)[0]
    data = data.replace(b"ftypavis", b"ftypavif").replace(b"avis", b"mif1").replace(b"moov", b"free")
    return patched(data, b"iloc", 18, ">I", len(data) - start)


OWN_SIZE = ImageLimits(max_pixels=64 * 64)


@pytest.mark.parametrize(
    "data",
    [
        avif(),
        encoded(Image.new("RGBA", (64, 64), (1, 2, 3, 4)), "AVIF", speed=10),
        avif(30),
        avif(exif=Image.Exif(), icc_profile=bytes(100_000), xmp=b"\n<\x0a\x0e\xff" * 20_000),
    ],
    ids=["still", "alpha", "animation", "metadata"],
)
def test_an_honest_avif_is_accepted_at_its_own_size(data):
    assert load_image(data, index=0, limits=OWN_SIZE).size == (64, 64)


def test_an_animation_whose_frames_are_all_in_the_first_picture_is_refused():
    message = refusal(as_one_item(avif(30)), limits=OWN_SIZE)
    assert "30 AV1 frames of up to 4096 pixels" in message
    assert "`max_pixels`" in message
    load_image(as_one_item(avif(8)), index=0, limits=OWN_SIZE)


def test_the_first_sample_of_an_animation_is_counted_as_well():
    data = avif(30)
    sizes = data.index(b"stsz") + 16
    total = sum(struct.unpack_from(">30I", data, sizes))
    assert "31 AV1 frames" in refusal(patched(data, b"stsz", 12, ">I", total), limits=OWN_SIZE)


def test_frames_larger_than_the_image_says_are_refused():
    data = patched(avif(side=512), b"ispe", 4, ">II", 64, 64)
    assert load_image(data, index=0).size == (64, 64)
    assert "1 AV1 frames of up to 262144 pixels" in refusal(data, limits=OWN_SIZE)


def with_list(data, box, content):
    """Replace a box inside `meta`, which gets longer."""
    start = data.index(box) - 4
    end = start + struct.unpack_from(">I", data, start)[0]
    new = struct.pack(">I", 8 + len(content)) + box + content
    meta_bytes = struct.unpack_from(">I", data, data.index(b"meta") - 4)[0] + len(new) - (end - start)
    return patched(data[:start] + new + data[end:], b"meta", -8, ">I", meta_bytes)


def test_a_list_that_takes_libavif_long_is_refused():
    items = b"".join(struct.pack(">HHH", number, 0, 0) for number in range(2, 20_000))
    content = b"\0\0\0\0\x44\0" + struct.pack(">H", 19_998) + items
    assert "a list b'iloc' of 119996 bytes" in refusal(with_list(avif(), b"iloc", content))


def test_extents_that_repeat_the_file_are_refused():
    items = struct.pack(">HHH", 1, 0, 0xFFFF)
    assert "extents" in refusal(with_list(avif(), b"iloc", b"\0\0\0\0\0\0" + struct.pack(">H", 1) + items))
    items = struct.pack(">HHH", 1, 0, 100)
    assert "larger than the file" in refusal(with_list(avif(), b"iloc", b"\0\0\0\0\0\0" + struct.pack(">H", 1) + items))
    items = b"".join(struct.pack(">HHHI", number, 0, 1, 0) for number in range(1, 3000))
    data = with_list(avif(), b"iloc", b"\0\0\0\0\x40\0" + struct.pack(">H", 2999) + items)
    assert "share their bytes" in refusal(data + bytes(2**16))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("fmt", ["WEBP", "AVIF", "PNG"])
def test_what_is_counted_keeps_its_pixels(fmt, mode):
    data = encoded(SMOOTH.convert(mode), fmt)
    with Image.open(BytesIO(data)) as reference:
        expected = np.asarray(reference.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(load_image(data, index=0)), expected)
