"""Colour profiles made by hand, for tests: matrix and curve only, ICC version 2."""

import struct

PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))  # XYZ of red, green, blue
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries=PROPHOTO, gamma=1.8):
    colours = [(name, _xyz(value)) for name, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)]
    return _profile(b"RGB ", colours + [(name, _gamma(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")])


def grey_profile(gamma):
    return _profile(b"GRAY", [(b"kTRC", _gamma(gamma))])


def cmyk_profile(lab_of_inks):
    """A table of two levels for each ink: `lab_of_inks` gives L, a, b for each of (c, m, y, k) of 0 and 1."""
    grid = [lab_of_inks(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"".join(bytes([round(light * 2.55), round(a + 128), round(b + 128)]) for light, a, b in grid)
    curve = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + b"".join(map(_number, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    return _profile(b"CMYK", [(b"A2B0", lut + curve * 4 + table + curve * 3)], pcs=b"Lab ", kind=b"prtr")


def _number(value):
    return struct.pack(">i", round(value * 65536))


def _xyz(values):
    return b"XYZ \0\0\0\0" + b"".join(map(_number, values))


def _gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def _profile(space, tags, *, pcs=b"XYZ ", kind=b"mntr"):
    described = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = [(b"desc", described), (b"cprt", b"text\0\0\0\0x\0"), (b"wtpt", _xyz(_D50)), *tags]
    table = body = b""
    for name, content in tags:
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += padded
    size = 132 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s6H", size, b"none", 0x02200000, kind, space, pcs, 2026, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + b"".join(map(_number, _D50))
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body
