"""Image files that ask for too much, or are none: small to send, and large, slow or dangerous to believe."""

import re
import struct
import zlib

from tests.pictures import PICTURE, TIFF_TAGS, encoded, png, png_chunk, png_with, tiff

_SIDE = 31_623  # squared, a thousand million pixels
_ZEROS = zlib.compress(bytes(2**26), 9)  # 64 MiB in 64 KiB


def _patched(data, pattern, replacement):
    changed, count = re.subn(pattern, lambda _: replacement, data, count=1, flags=re.DOTALL)
    assert count == 1
    return changed


def _jpeg(width, height):
    size = struct.pack(">HH", height, width)
    return _patched(encoded(PICTURE, "JPEG"), rb"(?<=\xff\xc0\x00\x11\x08).{4}", size)


def _gif(width, height):
    return _patched(encoded(PICTURE, "GIF"), rb"(?<=GIF8[79]a).{4}", struct.pack("<HH", width, height))


def _webp(width, height):
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + encoded(PICTURE, "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _avif(width, height):
    return _patched(encoded(PICTURE, "AVIF"), rb"(?<=ispe.{4}).{8}", struct.pack(">II", width, height))


def _bmp(width, height):
    return _patched(encoded(PICTURE, "BMP"), rb"(?<=\x28\x00\x00\x00).{8}", struct.pack("<ii", width, height))


def _tiff(**changes):
    tags = {**TIFF_TAGS, **{int(name[1:]): value for name, value in changes.items()}}
    return tiff(*tags.values())


def _scans(number, side=8000):
    """A progressive JPEG of one grey plane, whose every scan says of all blocks that there is nothing new."""
    blocks = (side // 8) ** 2
    run = "0" + "1" * 14  # one symbol: this block and the next 2**15 - 2 have no more coefficients
    bits = run * -(-blocks // 2**15)
    bits += "1" * (-len(bits) % 8)
    empty = bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    table = bytes([1]) + bytes(15)  # one code of one bit
    dc_bits = bytes(-(-blocks // 8))  # the difference is 0, of no bits, for each block
    return (
        b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1]) * 64
        + b"\xff\xc2\0\x0b\x08" + struct.pack(">HH", side, side) + b"\1\1\x11\0"
        + b"\xff\xc4\0\x14\0" + table + b"\0" + b"\xff\xc4\0\x14\x10" + table + b"\xe0"
        + b"\xff\xda\0\x08\1\1\0\0\0\0" + dc_bits
        + (b"\xff\xda\0\x08\1\1\0\1\x3f\0" + empty) * number
        + b"\xff\xd9"
    )  # fmt: skip


TOO_LARGE = {
    "a PNG of 1e9 pixels": png(_SIDE, _SIDE),
    "a PNG of 4e18 pixels": png(2**31 - 1, 2**31 - 1),
    "a PNG of 1e9 pixels whose data is there": png(_SIDE, _SIDE, body=_ZEROS),
    "a PNG of no width": png(0, 10),
    "a JPEG of 1e9 pixels": _jpeg(_SIDE, _SIDE),
    "a JPEG of 65 500 by 65 500": _jpeg(65_500, 65_500),
    "a JPEG of no height": _jpeg(31, 0),
    "a GIF of 1e9 pixels": _gif(_SIDE, _SIDE),
    "a GIF of 65 535 by 65 535": _gif(65_535, 65_535),
    "a WebP of 1e9 pixels": _webp(_SIDE, _SIDE),
    "a WebP of 2**48 pixels": _webp(2**24, 2**24),
    "an AVIF of 1e9 pixels": _avif(_SIDE, _SIDE),
    "an AVIF of 2**64 pixels": _avif(2**32 - 1, 2**32 - 1),
    "a BMP of 1e9 pixels": _bmp(_SIDE, _SIDE),
    "a BMP of 1e9 pixels from the top": _bmp(_SIDE, -_SIDE),
    "a BMP of negative width": _bmp(-31, 24),
    "a TIFF of 1e9 pixels": _tiff(t256=(256, 4, 1, _SIDE), t257=(257, 4, 1, _SIDE)),
    "a TIFF of 2**64 pixels": _tiff(t256=(256, 4, 1, 2**32 - 1), t257=(257, 4, 1, 2**32 - 1)),
    "a strip of a million by one": png(2**20, 1, body=zlib.compress(bytes(3 * 2**20 + 1))),
}

BOMBS = {
    "a PNG with a text of 64 MiB": png_with(png_chunk(b"zTXt", b"a\0\0" + _ZEROS)),
    "a PNG with an international text of 64 MiB": png_with(png_chunk(b"iTXt", b"a\0\1\0\0\0" + _ZEROS)),
    "a PNG with a colour profile of 64 MiB": png_with(png_chunk(b"iCCP", b"a\0\0" + _ZEROS)),
    "a PNG with a hundred texts of 1 MiB": png_with(
        *[png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 1)))] * 100
    ),
    "a PNG whose chunk says it has 2 GiB": png_with()[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT" + bytes(50),
    "a PNG with a chunk of a wrong sum": png_with()[:-20] + b"\0" * 20,
    "a PNG whose pixels end early": png(3000, 3000, body=zlib.compress(bytes(100))),
    "a TIFF with 4e9 strips": _tiff(t273=(273, 4, 2**32 - 1, 8)),
    "a TIFF whose strip is far beyond its end": _tiff(t273=(273, 4, 1, 2**32 - 1)),
    "a TIFF whose tags are its own tags": b"II*\0" + struct.pack("<I", 4) + bytes(60),
    "a TIFF of 65 535 samples": _tiff(t277=(277, 3, 1, 65_535)),
    "a TIFF with an unknown compression": _tiff(t259=(259, 3, 1, 47_802)),
    "a large TIFF with a table 2**63 bytes away": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63) + bytes(50),
    "a WebP that ends early": encoded(PICTURE, "WEBP")[:-200],
    "an AVIF that ends early": encoded(PICTURE, "AVIF")[:-200],
    "an AVIF whose first box has 4 GiB": b"\xff\xff\xff\xffftypavif" + encoded(PICTURE, "AVIF")[12:],
    "a JPEG that ends early": encoded(PICTURE, "JPEG")[:-200],
    "a GIF that ends early": encoded(PICTURE, "GIF")[:-200],
    "a BMP that ends early": encoded(PICTURE, "BMP")[:-200],
}

OTHER_FILES = {
    "an SVG that reads a file": b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "an SVG that laughs a thousand million times": b'<!DOCTYPE s [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "an icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(1128),
    "a PDF": b"%PDF-1.7\n1 0 obj <</Type/Catalog>> endobj\ntrailer <</Root 1 0 R>>",
    "PostScript that runs a command": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
    "a program": b"\x7fELF\2\1\1\0" + bytes(100),
    "a program of another system": b"MZ\x90\0" + bytes(100),
    "a script": b"#!/bin/sh\nid\n",
    "a pickle that runs a command": b"cos\nsystem\n(S'id'\ntR.",
    "a zip": b"PK\3\4" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "a Photoshop file": b"8BPS\0\1" + bytes(100),
    "a JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "an image in words": b"P3\n1 1\n255\n0 0 0\n",
    "a FITS": b"SIMPLE  =                    T" + bytes(100),
    "text": b"a red circle",
    "one byte": b"\x89",
    "only the first bytes of a PNG": b"\x89PNG\r\n\x1a\n",
    "only the first bytes of a JPEG": b"\xff\xd8\xff",
    "only the first bytes of a WebP": b"RIFF\0\0\0\0WEBP",
    "only the first bytes of an AVIF": b"\0\0\0\x20ftypavif",
    "only the first bytes of a TIFF": b"II*\0",
    "only the first bytes of a BMP": b"BM",
}

THOUSAND_SCANS = _scans(1000)  # 220 KB that take seconds; 8 MB of them take minutes
