"""Choose one decoder by the first bytes of an image, and decode with limits.

The bytes are untrusted. The first bytes choose one format from a short list of raster formats, and only that Pillow
plugin runs, on bytes in memory: no ghostscript, no file name, no memory map, no other plugin is tried.
"""

import contextlib
import re
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from core_encoder.avif_frames import check_avif
from core_encoder.decode_limits import TimedBytes, TooCostlyError, check_tiff, has_second_page
from core_encoder.errors import ImageDecodeError
from core_encoder.image_limits import ImageLimits, check_size
from core_encoder.image_notes import FIRST_FRAME, FIRST_PAGE, ImageNote
from core_encoder.jpeg import Jpeg, decode_jpeg, decode_plain
from core_encoder.optional_formats import OPTIONAL_FORMATS, decode_optional, find_optional
from core_encoder.rendering import pillow_warnings_ignored

_PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), Jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
    # The first name, or one of the other names if the first is that of all such containers.
    (re.compile(rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,9}avi[fs])", re.DOTALL), AvifImageFile),
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

EXTRAS_OF_SUFFIXES = MappingProxyType({suffix: each.extra for each in OPTIONAL_FORMATS for suffix in each.suffixes})
"""The suffixes, in lower case, of files that need an extra, each with the name of the extra."""

_DESCRIPTIONS = (  # what is often found under the name of a picture
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS (`git lfs pull` fetches the picture)"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)", re.IGNORECASE), "a web page (HTML)"),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg)"), "XML, perhaps a drawing in SVG (export it as PNG)"),
    (re.compile(rb"%PDF"), "a PDF (export its pages as pictures)"),
    (re.compile(rb"8BPS"), "a Photoshop document (export it as PNG or TIFF)"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video or a container of another kind"),
    (re.compile(rb"\0*\Z"), "empty, or only zeros"),
)

_GIF_EXTENSION, _GIF_FRAME = 0x21, 0x2C
_GREY_LEVELS = {"L;2": 3, "L;4": 15}  # highest value of PNG's grey of 2 and 4 bits


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A decoded picture in the mode of its file.

    Attributes:
        image: loaded, if there are no `pixels`.
        full_size: width and height of the file's picture, before it was turned; larger than `image` if that was shrunk.
        notes: what was left out or mended.
        pixels: (H, W, 3) uint8 of a picture of mode RGB; `image` then only tells what the file says about it.
    """

    image: Image.Image
    full_size: tuple[int, int]
    notes: tuple[ImageNote, ...]
    pixels: NDArray[np.uint8] | None = None


def allowed_formats() -> str:
    """The names of the formats that can be decoded, for a message."""
    optional = [each.name for each in OPTIONAL_FORMATS if each.is_installed()]
    return ", ".join([*(str(plugin.format) for _, plugin in _PLUGINS), *optional])


def readable_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of files that can be decoded with what is installed."""
    optional = [each.suffixes for each in OPTIONAL_FORMATS if each.is_installed()]
    return frozenset(suffix for suffixes in (*SUFFIXES_OF_FORMATS.values(), *optional) for suffix in suffixes)


def is_known(data: bytes) -> bool:
    """Whether the first bytes are those of a format that can be decoded."""
    return _find_plugin(data) is not None or find_optional(data) is not None


def decode(data: bytes, where: str, limits: ImageLimits, *, array: bool = False) -> Decoded:
    """Decode the first picture of a file with the one plugin that its first bytes choose.

    Args:
        data: the whole file.
        where: names the picture in a message.
        limits: on pixels and time; `max_bytes` is not looked at.
        array: whether an ordinary JPEG may come as `pixels`, which is faster.

    Raises:
        ImageDecodeError: the file is damaged, in another format, or too large for memory.
        ImageLimitError: the picture is over a limit.
    """
    plugin = _find_plugin(data)
    optional = find_optional(data) if plugin is None or plugin is TiffImageFile else None
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageDecodeError(
            f"{where} was not decoded: this process has set `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`, which decodes a "
            "damaged image half grey without an error; set it to False, or pass Pillow images"
        )
    name = optional.name if optional is not None else "" if plugin is None else plugin.format
    can_warn = optional is not None or (plugin in _WARNS_ABOUT and _WARNS_ABOUT[plugin] in data)
    try:
        with pillow_warnings_ignored() if can_warn else contextlib.nullcontext():
            if optional is not None:
                image, full_size, notes = decode_optional(optional, data, where, limits)
                return Decoded(image=image, full_size=full_size, notes=notes)
            if plugin is not None:
                return _run(plugin, data, where, limits, array=array)
    except ImageDecodeError:
        raise
    except TooCostlyError as error:
        raise ImageDecodeError(f"{where} {error}") from error
    except MemoryError as error:
        raise too_little_memory(where) from error
    except Exception as error:  # on damaged data plugins raise errors of many types
        raise ImageDecodeError(f"{where} cannot be decoded as {name}: {reason(error)}") from error
    raise ImageDecodeError(
        f"{where} is {_describe(data)}not an image in an allowed format ({allowed_formats()}): it has {len(data)} "
        f"bytes and starts with {data[:8]!r}"
    )


def too_little_memory(where: str) -> ImageDecodeError:
    """The error of an image for which the memory is not enough."""
    return ImageDecodeError(f"{where}: there was not enough memory to decode it; free some, or scale it down first")


def reason(error: BaseException) -> str:
    """Give the error's reason in one short line, without the path (`OSError`) or a tag's long content (plugins)."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return " ".join(str(error)[:200].split()) or type(error).__name__


def _run(plugin: type[ImageFile.ImageFile], data: bytes, where: str, limits: ImageLimits, *, array: bool) -> Decoded:
    if plugin is Jpeg:
        plain = decode_plain(data, limits) if array else None
        if plain is not None:
            return Decoded(image=plain[0], full_size=plain[0].size, notes=(), pixels=plain[1])
        jpeg, full_size, notes = decode_jpeg(data, where, limits)
        return Decoded(image=jpeg, full_size=full_size, notes=notes)
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


def _describe(data: bytes) -> str:
    return next((f"{name}, " for start, name in _DESCRIPTIONS if start.match(data)), "")


def _scale_transparent_grey(image: ImageFile.ImageFile) -> None:
    """Pillow scales grey of 2 and 4 bits to 8, but not the grey that tRNS makes transparent."""
    key = image.info.get("transparency")
    if isinstance(image, PngImageFile) and isinstance(key, int) and image.tile:
        levels = _GREY_LEVELS.get(str(image.tile[0].args))
        if levels is not None:
            image.info["transparency"] = min(key, levels) * 255 // levels


def _find_plugin(data: bytes) -> type[ImageFile.ImageFile] | None:
    return next((plugin for magic, plugin in _PLUGINS if magic.match(data)), None)
