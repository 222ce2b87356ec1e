"""Formats that Pillow cannot read: HEIC, JPEG XL, and the preview in the raw file of a camera.

Each needs a package of an extra; without it, an error names the extra. The packages are imported when the first such
file is met, and Pillow's list of plugins is not changed for HEIC (JPEG XL's package adds itself when it is imported).
"""

import importlib
import importlib.util
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from core_encoder.avif_frames import boxes
from core_encoder.decode_limits import TooCostlyError, read_directory
from core_encoder.errors import ImageDecodeError
from core_encoder.heif_frames import check_heif
from core_encoder.image_limits import ImageLimits, check_size
from core_encoder.image_notes import FIRST_FRAME, PREVIEW, ImageNote
from core_encoder.jpeg import decode_jpeg

_EXIF_ORIENTATION = 0x0112
_EXIF_OF_TURNS = {3: 3, 5: 8, 6: 6}  # LibRaw's `flip` as EXIF's orientation
_SUBFILE_TYPE, _MAKE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 271, 330, 50706  # Source: TIFF 6.0; DNG 1.7
_REDUCED = 1
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # Source: ISO/IEC 18181-1, SizeHeader

Result = tuple[Image.Image, tuple[int, int], tuple[ImageNote, ...]]
"""A loaded picture, its full width and height, and what there is to say about it."""


@dataclass(frozen=True, kw_only=True)
class OptionalFormat:
    """A format that needs a package.

    Attributes:
        name: for messages.
        package: that reads it, as it is imported.
        extra: of this distribution, that brings the package.
        suffixes: of such files, in lower case.
        matches: whether a file is of this format.
        decode: decodes it, if the package is installed.
    """

    name: str
    package: str
    extra: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    decode: Callable[[bytes, str, ImageLimits], Result]

    def is_installed(self) -> bool:
        """Whether the package can be imported."""
        return importlib.util.find_spec(self.package) is not None


def find_optional(data: bytes) -> OptionalFormat | None:
    """The optional format of a file, told by its first bytes; for raw files in a TIFF by its first directory."""
    return next((each for each in OPTIONAL_FORMATS if each.matches(data)), None)


def decode_optional(kind: OptionalFormat, data: bytes, where: str, limits: ImageLimits) -> Result:
    """Decode a file of an optional format.

    Raises:
        ImageDecodeError: the package is not installed, or the file has no picture.
        ImageLimitError: the picture is over a limit.
        TooCostlyError: decoding it takes too long.
    """
    if not kind.is_installed():
        raise ImageDecodeError(
            f"{where} is a file of the format {kind.name}, which needs the package {kind.package!r}: "
            f"pip install 'jclip-connectors[{kind.extra}]'"
        )
    return kind.decode(data, where, limits)


def _decode_heif(data: bytes, where: str, limits: ImageLimits) -> Result:
    """Libheif turns the picture as its container says; its package then says "upright" in the EXIF."""
    check_heif(data, limits.max_pixels)
    plugin: Any = importlib.import_module("pi_heif.as_plugin")
    image: Image.Image = plugin.HeifImageFile(BytesIO(data))
    check_size(image.size, where, limits)
    several = getattr(image, "is_animated", False)
    image.load()
    check_size(image.size, where, limits)
    return image, image.size, (FIRST_FRAME,) if several and data[8:12] in (b"msf1", b"hevc") else ()


def _decode_jxl(data: bytes, where: str, limits: ImageLimits) -> Result:
    """Its package decodes when it opens a file, so the size is read from the header before."""
    check_size(_jxl_size(data), where, limits)
    plugin: Any = importlib.import_module("pillow_jxl.JpegXLImagePlugin")
    image: Image.Image = plugin.JXLImageFile(BytesIO(data))
    check_size(image.size, where, limits)
    image.load()
    if not getattr(image, "jpeg", False):
        image.info.pop("exif", None)  # libjxl has turned the picture; the pixels of a kept JPEG are as they were
    return image, image.size, ()


def _decode_raw(data: bytes, where: str, limits: ImageLimits) -> Result:
    rawpy: Any = importlib.import_module("rawpy")
    try:
        with rawpy.imread(BytesIO(data)) as raw:
            preview = raw.extract_thumb()
            orientation = _EXIF_OF_TURNS.get(raw.sizes.flip, 1)
    except rawpy.LibRawError as error:
        raise ImageDecodeError(
            f"{where} is a camera's raw file without a preview that can be read ({str(error)[:100]!r}): export it as a "
            "JPEG or TIFF"
        ) from error
    image: Image.Image
    if preview.format == rawpy.ThumbFormat.JPEG:
        image, full_size, notes = decode_jpeg(preview.data, where, limits)
    else:
        image, notes = Image.fromarray(preview.data), ()
        full_size = image.size
        check_size(full_size, where, limits)
    exif = image.getexif()
    if _EXIF_ORIENTATION not in exif:
        exif[_EXIF_ORIENTATION] = orientation
    return image, full_size, (*notes, PREVIEW)


def _is_raw(data: bytes) -> bool:
    """Whether a file comes from a camera's sensor; most such files are TIFFs whose first page is a small preview."""
    if _RAW_STARTS.match(data):
        return True
    if not re.match(rb"II\*\0|MM\0\*", data):
        return False
    try:
        (offset,) = struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)
        values, _ = read_directory(data, offset)
    except struct.error:
        return False
    small = values.get(_SUBFILE_TYPE, 0) & _REDUCED and _MAKE in values and _SUB_DIRECTORIES in values
    return _DNG_VERSION in values or bool(small)


def _jxl_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the header. Source: ISO/IEC 18181-1, SizeHeader; ISO/IEC 18181-2, the boxes."""
    stream = data
    if data[:2] != _JXL_STREAM:
        in_front = {b"jxlc": 0, b"jxlp": 4}  # bytes
        parts = [body[in_front[kind] :] for kind, body in boxes(memoryview(data)) if kind in in_front]
        stream = b"".join(bytes(part[:16]) for part in parts[:16])
    if stream[:2] != _JXL_STREAM:
        raise TooCostlyError("has a damaged JPEG XL structure; save it again")
    bits, place = int.from_bytes(stream[2:16], "little"), 0

    def number(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    is_small = number(1)

    def side() -> int:
        return 8 * (number(5) + 1) if is_small else number((9, 13, 18, 30)[number(2)]) + 1

    height = side()
    ratio = number(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


_JXL_STREAM = b"\xff\x0a"
_HEIF_START = re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)
_JXL_START = re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")
_RAW_STARTS = re.compile(
    rb"(?:II\*\0|MM\0\*).{4}CR|.{4}ftypcrx|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM", re.DOTALL
)

OPTIONAL_FORMATS = (
    OptionalFormat(
        name="HEIC",
        package="pi_heif",
        extra="heif",
        suffixes=(".heic", ".heif", ".heics", ".heifs", ".hif"),
        matches=lambda data: bool(_HEIF_START.match(data)),
        decode=_decode_heif,
    ),
    OptionalFormat(
        name="JPEG XL",
        package="pillow_jxl",
        extra="raw",
        suffixes=(".jxl",),
        matches=lambda data: bool(_JXL_START.match(data)),
        decode=_decode_jxl,
    ),
    OptionalFormat(
        name="camera raw",
        package="rawpy",
        extra="raw",
        suffixes=(
            *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"),
            *(".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
        ),
        matches=_is_raw,
        decode=_decode_raw,
    ),
)
