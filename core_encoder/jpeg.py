"""JPEG files: shrunk while decoding if they are huge, and mended if only the end mark is missing.

An ordinary photograph is decoded by simplejpeg, where it is installed, into an array: the same pixels, without the
copies into and out of Pillow's memory. Whatever is unusual, and whatever simplejpeg complains about, Pillow decodes.
"""

import os
import re
import struct

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from core_encoder.decode_limits import TimedBytes
from core_encoder.image_limits import ImageLimits, check_size
from core_encoder.image_notes import END_MISSING, SHRUNK, ImageNote

try:
    import simplejpeg
except ImportError:  # an extra brings it
    simplejpeg = None

_SCALES = (2, 4, 8)  # libjpeg decodes to these parts of the sides
_WHOLE_COEFFICIENTS = 2  # times `max_pixels`; a JPEG of several scans is held whole, at up to 6 bytes for a pixel
_PIXELS_A_BYTE = 256  # at most: a block of 8 x 8 has at least two bits
_PIXELS_A_SECOND = 10**7  # at least, and in one call; on a slow processor ten times as many
_ZEROS = bytes(64)  # so many zeros at the end are no picture, but what a broken copy leaves
_RESTARTS = range(0xD0, 0xD8)
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_TRUNCATED = "image file is truncated"  # how Pillow's message begins


class Jpeg(JpegImageFile):
    """A JPEG that is opened without parsing its EXIF, and decoded scan by scan.

    Pillow would parse the EXIF only for the resolution, and warn if it is damaged, which is common.
    """

    def load_read(self, read_bytes: int) -> bytes:
        """Stop before the next scan: a scan of ten bytes can cost as much work as a pass over the whole image."""
        data = super().load_read(read_bytes)
        values = np.frombuffer(data, np.uint8)  # (N,); a sixth of the time of `data.find`
        starts = np.flatnonzero((values[1:-1] == 0xFF) & (values[2:] == 0xDA))
        if not starts.size or self.fp is None:
            return data
        end = int(starts[0]) + 1
        self.fp.seek(end - len(data), os.SEEK_CUR)
        return data[:end]

    def _read_dpi_from_exif(self) -> None:
        """Leave the resolution unknown."""


def decode_jpeg(data: bytes, where: str, limits: ImageLimits) -> tuple[Jpeg, tuple[int, int], tuple[ImageNote, ...]]:
    """Decode a JPEG; return it, its full width and height, and what there is to say about it.

    Raises:
        ImageLimitError: it has too many pixels even to be shrunk.
        OSError: it is damaged.
    """
    image, full_size, shrunk = _open(data, where, limits)
    try:
        image.load()
    except OSError as error:
        mended = _mend(data, where, limits) if str(error).startswith(_TRUNCATED) else None
        if mended is None:
            raise
        return mended, full_size, (*shrunk, END_MISSING)
    # The decoder may stop at the last pixel, and not look for the end mark.
    has_end = data.rfind(_END) > data.rfind(_SCAN)
    return image, full_size, shrunk if has_end else (*shrunk, END_MISSING)


def decode_plain(data: bytes, limits: ImageLimits) -> tuple[Jpeg, NDArray[np.uint8]] | None:
    """Decode a JPEG in one call if it is an ordinary one: colour, one scan, within the limits, undamaged.

    One call cannot be stopped, so only a file whose decoding takes a time in proportion to its pixels is ordinary.

    Returns:
        The picture, opened only, for what the file says about it, and its pixels, (H, W, 3) uint8, as stored and equal
        to Pillow's; `None` if `decode_jpeg` should decode the file.

    Raises:
        Exception: Pillow cannot open the file.
    """
    if simplejpeg is None:
        return None
    image = Jpeg(TimedBytes(data, limits.max_decode_s))
    pixels = image.width * image.height
    most = min(limits.max_pixels, _PIXELS_A_BYTE * len(data), _PIXELS_A_SECOND * limits.max_decode_s)
    if image.mode != "RGB" or not 0 < pixels <= most or max(image.size) > limits.max_side_px:
        return None
    if _has_several_scans(image, data) or image.fp is None or data.rfind(_END, image.fp.tell()) < 0:
        return None
    try:
        return image, simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also for what is no error to Pillow, such as bytes that are skipped
        return None


def _open(data: bytes, where: str, limits: ImageLimits) -> tuple[Jpeg, tuple[int, int], tuple[ImageNote, ...]]:
    """Open a JPEG, and let the decoder shrink it if it has too many pixels."""
    image = Jpeg(TimedBytes(data, limits.max_decode_s))
    full_size = image.size
    width, height = full_size
    most = limits.max_pixels * (_WHOLE_COEFFICIENTS if _has_several_scans(image, data) else _SCALES[-1] ** 2)
    most = min(most, _PIXELS_A_BYTE * len(data))
    if not limits.max_pixels < width * height <= most:
        check_size(full_size, where, limits)
        return image, full_size, ()
    for scale in _SCALES:
        if -(-width // scale) * -(-height // scale) <= limits.max_pixels:
            image.draft(None, (max(1, width // scale), max(1, height // scale)))
            break
    check_size(image.size, where, limits)
    return image, full_size, (SHRUNK,)


def _has_several_scans(image: Jpeg, data: bytes) -> bool:
    """Whether libjpeg must hold the coefficients of the whole picture. Source: ITU T.81, B.2.3."""
    if "progressive" in image.info or image.fp is None:
        return True
    end = image.fp.tell()  # of the header of the first scan
    header = 8 + 2 * len(image.layer)  # of a scan with all the colours
    return data[end - header : end - header + 2] != _SCAN


def _mend(data: bytes, where: str, limits: ImageLimits) -> Jpeg | None:
    """Decode a JPEG without an end mark if all its pixels are there, else give `None`.

    The decoder would fill missing pixels with grey and say nothing. So the file is completed in two ways: where
    pixels are missing, it takes them from what was added, and the two pictures differ.
    """
    whole = data.rstrip(b"\0")
    whole = (whole if len(data) - len(whole) >= len(_ZEROS) else data).rstrip(b"\xff")
    pictures = []
    for filling in (b"\0", b"\x5b"):
        added = b"".join(filling * 64 + bytes([0xFF, restart]) for restart in _RESTARTS)
        image, _, _ = _open(whole + added + filling * 64 + _END, where, limits)
        image.load()
        pictures.append(image)
    same = pictures[0].tobytes() == pictures[1].tobytes()
    return pictures[0] if same and _is_complete(pictures[0], whole) else None


def _is_complete(image: Jpeg, data: bytes) -> bool:
    """Whether a progressive JPEG has all bits of all coefficients. Source: ITU T.81, B.2.3 and G.1.1."""
    if "progressive" not in image.info:
        return True
    missing = {(layer[0], coefficient) for layer in image.layer for coefficient in range(64)}
    for scan in re.finditer(_SCAN, data):
        try:
            length, count = struct.unpack_from(">HB", data, scan.end())
            if length != 6 + 2 * count:
                continue  # these bytes are not the start of a scan
            *_, first, last, bits = struct.unpack_from(f"{2 * count + 3}B", data, scan.end() + 3)
            names = data[scan.end() + 3 : scan.end() + 3 + 2 * count : 2]
        except struct.error:
            return False
        if bits & 15 == 0:
            missing -= {(name, coefficient) for name in names for coefficient in range(first, last + 1)}
    return not missing
