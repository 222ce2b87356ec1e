"""Choose one decoder by the first bytes of an image, and decode with limits.

The bytes are untrusted. The first bytes choose one format from a short list of raster formats, and only that Pillow
plugin runs, on bytes in memory: no ghostscript, no file name, no memory map, no other plugin is tried.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from core_encoder.avif_frames import check_avif
from core_encoder.decode_limits import TimedBytes, TooCostlyError, check_tiff, has_second_page
from core_encoder.errors import ImageDecodeError
from core_encoder.image_limits import ImageLimits, check_size
from core_encoder.image_notes import FIRST_FRAME, FIRST_PAGE, ImageNote
from core_encoder.rendering import pillow_warnings_ignored


class _Jpeg(JpegImageFile):
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


_PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _Jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), AvifImageFile),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), TiffImageFile),
    (re.compile(rb"BM"), BmpImageFile),
)

# Formats for which Pillow may warn while it decodes, each with bytes that every such file holds. It warns about damaged
# tags and EXIF, invalid animations, and (GIF) frames larger than the canvas.
_WARNS_ABOUT: dict[type[ImageFile.ImageFile], bytes] = {
    PngImageFile: b"acTL",
    GifImageFile: b"",
    AvifImageFile: b"Exif",
    TiffImageFile: b"",
}

SUFFIXES_OF_FORMATS = MappingProxyType(
    {
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "PNG": (".png", ".apng"),
        "WEBP": (".webp",),
        "GIF": (".gif",),
        "AVIF": (".avif", ".avifs"),
        "TIFF": (".tif", ".tiff"),
        "BMP": (".bmp", ".dib"),
    }
)
"""The usual suffixes, in lower case, of the files of each format that can be decoded."""

_GIF_EXTENSION, _GIF_FRAME = 0x21, 0x2C
_GREY_LEVELS = {"L;2": 3, "L;4": 15}  # highest value of PNG's grey of 2 and 4 bits


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A decoded picture in the mode of its file.

    Attributes:
        image: loaded.
        full_size: width and height of the file's picture, before it was turned; larger than `image` if that was shrunk.
        notes: what was left out or mended.
    """

    image: Image.Image
    full_size: tuple[int, int]
    notes: tuple[ImageNote, ...]


def allowed_formats() -> str:
    """The names of the formats that can be decoded, for a message."""
    return ", ".join(str(plugin.format) for _, plugin in _PLUGINS)


def readable_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of files that can be decoded with what is installed."""
    return frozenset(suffix for suffixes in SUFFIXES_OF_FORMATS.values() for suffix in suffixes)


def is_known(data: bytes) -> bool:
    """Whether the first bytes are those of a format that can be decoded."""
    return _find_plugin(data) is not None


def decode(data: bytes, where: str, limits: ImageLimits) -> Decoded:
    """Decode the first picture of a file with the one plugin that its first bytes choose.

    Args:
        data: the whole file.
        where: names the picture in a message.
        limits: on pixels and time; `max_bytes` is not looked at.

    Raises:
        ImageDecodeError: the file is damaged, in another format, or too large for memory.
        ImageLimitError: the picture is over a limit.
    """
    plugin = _find_plugin(data)
    if plugin is None:
        raise ImageDecodeError(
            f"{where} is not an image in an allowed format ({allowed_formats()}): it has {len(data)} bytes and starts "
            f"with {data[:8]!r}"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageDecodeError(
            f"{where} was not decoded: this process has set `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`, which decodes a "
            "damaged image half grey without an error; set it to False, or pass Pillow images"
        )
    can_warn = plugin in _WARNS_ABOUT and _WARNS_ABOUT[plugin] in data
    try:
        with pillow_warnings_ignored() if can_warn else contextlib.nullcontext():
            return _run(plugin, data, where, limits)
    except ImageDecodeError:
        raise
    except TooCostlyError as error:
        raise ImageDecodeError(f"{where} {error}") from error
    except MemoryError as error:
        raise too_little_memory(where) from error
    except Exception as error:  # on damaged data plugins raise errors of many types
        raise ImageDecodeError(f"{where} cannot be decoded as {plugin.format}: {reason(error)}") from error


def too_little_memory(where: str) -> ImageDecodeError:
    """The error of an image for which the memory is not enough."""
    return ImageDecodeError(f"{where}: there was not enough memory to decode it; free some, or scale it down first")


def reason(error: BaseException) -> str:
    """Give the error's reason in one short line, without the path (`OSError`) or a tag's long content (plugins)."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)[:200] or type(error).__name__


def _run(plugin: type[ImageFile.ImageFile], data: bytes, where: str, limits: ImageLimits) -> Decoded:
    if plugin is AvifImageFile:
        check_avif(data, limits.max_pixels)
    image = plugin(TimedBytes(data, limits.max_decode_s))
    check_size(image.size, where, limits)
    if isinstance(image, TiffImageFile) and image.use_load_libtiff:
        check_tiff(image, data, limits.max_pixels)
    notes = _notes(image, data)
    _scale_transparent_grey(image)
    image.load()
    return Decoded(image=image, full_size=image.size, notes=notes)


def _notes(image: ImageFile.ImageFile, data: bytes) -> tuple[ImageNote, ...]:
    """Say if the file has more pictures than the first, as far as this costs little to know."""
    if isinstance(image, TiffImageFile):
        return (FIRST_PAGE,) if has_second_page(image, data) else ()
    if isinstance(image, GifImageFile):
        return (FIRST_FRAME,) if _has_second_frame(data) else ()
    return (FIRST_FRAME,) if getattr(image, "is_animated", False) else ()


def _has_second_frame(data: bytes) -> bool:
    """Whether a GIF has another frame, told from the lengths of its blocks. Source: GIF89a, sections 15 to 20."""
    place, frames = 13, 0
    try:
        place += _palette_bytes(data[10])
        while data[place] in (_GIF_EXTENSION, _GIF_FRAME):
            if data[place] == _GIF_FRAME:
                frames += 1
                if frames == 2:
                    return True
                place += 11 + _palette_bytes(data[place + 9])
            else:
                place += 2
            while data[place]:
                place += data[place] + 1
            place += 1
    except IndexError:  # the file ends within its first frame, or has no end mark
        pass
    return False


def _palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0


def _scale_transparent_grey(image: ImageFile.ImageFile) -> None:
    """Pillow scales grey of 2 and 4 bits to 8, but not the grey that tRNS makes transparent."""
    key = image.info.get("transparency")
    if isinstance(image, PngImageFile) and isinstance(key, int) and image.tile:
        levels = _GREY_LEVELS.get(str(image.tile[0].args))
        if levels is not None:
            image.info["transparency"] = min(key, levels) * 255 // levels


def _find_plugin(data: bytes) -> type[ImageFile.ImageFile] | None:
    return next((plugin for magic, plugin in _PLUGINS if magic.match(data)), None)
