"""Pictures made for tests: good ones, and files put together by hand to be damaged."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from core_encoder.errors import ImageDecodeError
from core_encoder.image_input import load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP"]


def encoded(image, fmt, **options):
    buffer = BytesIO()
    image.copy().save(buffer, fmt, **options)
    return buffer.getvalue()


PNG = encoded(PICTURE, "PNG")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *extra, body=b""):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def png_with(*extra):
    rows = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    return png(31, 24, *extra, body=zlib.compress(rows))


def refusal(image, **options):
    with pytest.raises(ImageDecodeError) as caught:
        load_image(image, index=7, **options)
    message = str(caught.value)
    assert message.startswith("item 7")
    assert len(message) < 600
    return message


def tiff(*tags):
    """A tiny TIFF out of (tag, type, count, value) entries, its pixels at offset 8."""
    pixels = bytes(range(48))
    entries = b"".join(struct.pack("<HHII", *entry) for entry in sorted(tags))
    return b"II*\0" + struct.pack("<I", 56) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


# Width, height, bits, no compression, black is zero, offset, samples, rows a strip, bytes: 4 x 4 gray pixels.
TIFF_TAGS = {
    256: (256, 3, 1, 4),
    257: (257, 3, 1, 4),
    258: (258, 3, 1, 8),
    259: (259, 3, 1, 1),
    262: (262, 3, 1, 1),
    273: (273, 4, 1, 8),
    277: (277, 3, 1, 1),
    278: (278, 3, 1, 4),
    279: (279, 4, 1, 16),
}
