"""Limits on decoding time, so that a small hostile file cannot decode for an hour.

Pillow reads JPEG, PNG, GIF, BMP and plain TIFF piece by piece, so a time limit in `read` can stop these decoders.
WebP, AVIF and compressed TIFF decode in one C call that cannot be stopped, so limits on bytes and pixels must limit
the time. For WebP they do: a file holds the pixels of its first frame once. A TIFF can use the same bytes many times,
which is checked here before the call; for AVIF see `avif_frames`.
"""

import math
import struct
import time
from io import BytesIO

from PIL.TiffImagePlugin import TiffImageFile

_TILE_WIDTH, _TILE_LENGTH, _STRIP_BYTES, _TILE_BYTES = 322, 323, 279, 325  # Source: TIFF 6.0, sections 8 and 15
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _REDUCED_BIT, _OLD_REDUCED, _SHORT = 254, 255, 1, 2, 3  # Source: the same, section 8
_REUSED_BYTES = 4  # times the size of the file; files that store equal tiles once stay below
_PADDED_PIXELS = 2  # times `max_pixels`


class TooCostlyError(Exception):
    """An image takes too much time to decode; the message continues after the item's name."""


class TimedBytes(BytesIO):
    """A file in memory that can be read for `max_decode_s` seconds of its creating thread's processor time.

    Processor time, not wall time: an image is not refused because other threads are busy.
    """

    def __init__(self, data: bytes, max_decode_s: int) -> None:
        """Start the clock."""
        super().__init__(data)
        self._max_decode_s = max_decode_s
        self._deadline = time.thread_time() + max_decode_s

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, or raise `TooCostlyError` once the time is up."""
        if time.thread_time() > self._deadline:
            raise TooCostlyError(
                f"takes more than {self._max_decode_s} s of processor time to decode, over `max_decode_s`; "
                "save it again as a plain PNG or JPEG"
            )
        return super().read(size)


def check_tiff(image: TiffImageFile, data: bytes, max_pixels: int) -> None:
    """Refuse strips that share their bytes, and tiles that are much larger than the image.

    libtiff itself limits the time per pixel: it accepts at most 100 scans of a JPEG inside a TIFF.

    Raises:
        TooCostlyError: the file has such strips or tiles, or a tag that only libtiff can read.
    """
    tags = image.tag_v2
    unread = {_TILE_WIDTH, _TILE_LENGTH, _STRIP_BYTES, _TILE_BYTES} & read_directory(data, tags.offset)[0].keys() - set(
        tags
    )
    if unread:
        raise TooCostlyError(f"holds TIFF tag {min(unread)} in an unusual type; save it again with another program")
    if _TILE_WIDTH in tags or _TILE_LENGTH in tags:
        size = image.tag_v2[256], image.tag_v2[257]
        tile = tags.get(_TILE_WIDTH), tags.get(_TILE_LENGTH)
        if not all(isinstance(side, int) and side > 0 for side in tile):
            raise TooCostlyError(f"has TIFF tiles of {tile[0]!r} x {tile[1]!r} pixels; save it again")
        padded = math.prod(-(-whole // side) * side for whole, side in zip(size, tile, strict=True))
        if padded > _PADDED_PIXELS * max_pixels:
            raise TooCostlyError(
                f"has TIFF tiles of {tile[0]} x {tile[1]} pixels, {padded} in all, over {_PADDED_PIXELS} times "
                f"`max_pixels` {max_pixels}; save it again with smaller tiles"
            )
    num_bytes = _sum_of_counts(tags.get(_STRIP_BYTES, 0)) + _sum_of_counts(tags.get(_TILE_BYTES, 0))
    if num_bytes > _REUSED_BYTES * max(len(data), 2**20):
        raise TooCostlyError(
            f"has TIFF strips or tiles of {num_bytes} bytes in {len(data)} bytes, over {_REUSED_BYTES} times as many; "
            "save it again so that each has its own bytes"
        )


def has_second_page(image: TiffImageFile, data: bytes) -> bool:
    """Whether a TIFF has another page; a second directory with a smaller copy of the first page is none."""
    try:
        _, following = read_directory(data, image.tag_v2.offset)
        values, _ = read_directory(data, following) if following else ({}, 0)
    except struct.error:
        return False
    is_reduced = values.get(_SUBFILE_TYPE, 0) & _REDUCED_BIT or values.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED
    return bool(values) and not is_reduced


def _sum_of_counts(counts: object) -> int:
    """Sum the absolute values of a tag's integers, so that negative ones cannot cancel others."""
    total = 0
    for count in counts if isinstance(counts, tuple) else (counts,):
        if not isinstance(count, int):
            raise TooCostlyError("has TIFF byte counts that are not integers; save it again")
        total += abs(count)
    return total


def read_directory(data: bytes, offset: int) -> tuple[dict[int, int], int]:
    """Read each tag's first value as a number, those of tags that Pillow skips too, and the next directory's offset.

    The number means something only if the value fits the entry itself. The offset is 0 in the last directory.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    number_format, offset_format, head = (order + "Q", order + "Q", 12) if is_big else (order + "H", order + "I", 8)
    (number,) = struct.unpack_from(number_format, data, offset)
    start = offset + struct.calcsize(number_format)
    size = head + struct.calcsize(offset_format)
    number = min(number, (len(data) - start) // size)
    values = {}
    for entry in range(start, start + number * size, size):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        values[tag] = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, entry + head)[0]
    end = start + number * size
    following = struct.unpack_from(offset_format, data, end)[0] if end + size - head <= len(data) else 0
    return values, following
