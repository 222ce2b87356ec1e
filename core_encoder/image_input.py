"""Read one image from any supported input into a `PIL.Image.Image` in mode RGB, with limits; URLs are refused.

The bytes are untrusted. The first bytes choose one format from a short list of raster formats, and only that Pillow
plugin runs, on bytes in memory: no ghostscript, no file name, no memory map, no other plugin is tried.
"""

import base64
import contextlib
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from core_encoder.avif_frames import check_avif
from core_encoder.decode_limits import TimedBytes, TooCostlyError, check_tiff
from core_encoder.errors import ConfigError, ImageDecodeError
from core_encoder.forks import ForkSafeLock

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
"""A path, a data URI or base64 as `str`; an encoded image as bytes; a decoded one from Pillow or numpy."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Limits for one image; all but `max_decode_s` are checked before it is decoded.

    Attributes:
        max_bytes: size of the encoded image.
        max_pixels: width times height. A decoded pixel takes 4 bytes in Pillow; the default is the size from which
            Pillow itself refuses an image as a decompression bomb.
        max_side_px: width, and height. Resizing a long strip needs an intermediate picture of `size` times the long
            side, which `max_pixels` does not limit; JPEG and WebP files cannot reach the default.
        max_decode_s: seconds of processor time in the thread that decodes. A crafted file of 8 MB can take an hour;
            normal files do not reach the default. JPEG, PNG, GIF, BMP and plain TIFF are stopped at this limit; WebP,
            AVIF and compressed TIFF cannot be stopped and are limited by `max_bytes` and `max_pixels`.

    Raises:
        ConfigError: a limit is not a positive integer.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 178_956_970
    max_side_px: int = 2**17
    max_decode_s: int = 60

    def __post_init__(self) -> None:
        """Refuse values that could switch a limit off by accident."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"`{field.name}` must be an integer from 1 up, not {value!r}")


DEFAULT_LIMITS = ImageLimits()


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
_ALLOWED = ", ".join(str(plugin.format) for _, plugin in _PLUGINS)

# Formats for which Pillow may warn while it decodes, each with bytes that every such file holds. It warns about damaged
# tags and EXIF, invalid animations, and (GIF) frames larger than the canvas.
_WARNS_ABOUT: dict[type[ImageFile.ImageFile], bytes] = {
    PngImageFile: b"acTL",
    GifImageFile: b"",
    AvifImageFile: b"Exif",
    TiffImageFile: b"",
}

_TRANSPOSE_BY_EXIF = {  # Source: EXIF 2.3, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112

_WARNINGS_LOCK = ForkSafeLock()

_ARRAY_HINTS = {
    "b": "for a mask, use `image.astype('uint8') * 255`",
    "u": "for full-range uint16, use `(image // 257).astype('uint8')`",
    "i": "if the values are 0..255, use `image.astype('uint8')`",
    "f": "if the values are 0..1, use `(image * 255).round().astype('uint8')`",
}


def load_image(
    image: ImageInput, *, index: int, limits: ImageLimits = DEFAULT_LIMITS, exif_orientation: bool = False
) -> Image.Image:
    """Read one image and convert it to RGB as the reference does.

    The conversion is Pillow's `convert("RGB")`: alpha is dropped without compositing, and the EXIF orientation is
    not applied unless asked for (Pillow always applies it to TIFF). Only the first frame of an animation is decoded.
    One deliberate difference: an image that `convert("RGB")` would destroy is refused. `convert` clips 16-bit and
    32-bit grayscale to 0..255, which makes nearly all of a 16-bit scan white, and the file does not say the right
    scale (8, 12 or 16 bits, or 0..1).

    Args:
        image: a path; a `data:` URI or base64 as `str`; an encoded image as bytes; a Pillow image; or a uint8 array
            `(H, W)`, `(H, W, 1)`, `(H, W, 3)` RGB or `(H, W, 4)` RGBA, range 0..255.
        index: position of the image in the caller's sequence, for the message.
        limits: limits on size and decoding time.
        exif_orientation: turn and mirror the image as its EXIF says; an unreadable EXIF is ignored.

    Returns:
        The image in mode RGB. A Pillow image already in RGB is returned itself (loaded, if it was lazy), not a copy:
        do not write to the result.

    Raises:
        ImageDecodeError: the image is missing, unreadable, damaged, over a limit, in another format, too large for
            memory, or not an image at all.

    Source: the reference's preprocessing, `convert('RGB')` first.
    """
    where = f"item {index}"
    if isinstance(image, Image.Image):
        return _to_rgb(image, where, limits, exif_orientation=exif_orientation)
    if isinstance(image, np.ndarray):
        return _from_array(image, where, limits)
    if isinstance(image, bytes | bytearray | memoryview):
        if memoryview(image).nbytes > limits.max_bytes:
            raise _too_many_bytes(where, memoryview(image).nbytes, limits)
        data = bytes(image)
    elif isinstance(image, str):
        where, data = _read_str(image, where, limits)
    elif isinstance(image, os.PathLike):
        where, data = _read_file(os.fspath(image), where, limits)
    else:
        raise ImageDecodeError(
            f"{where} is a {type(image).__name__}; pass a path, a data URI or base64 as `str`, an encoded image as "
            "bytes, a `PIL.Image.Image` or a uint8 array"
        )
    return _decode(data, where, limits, exif_orientation=exif_orientation)


def _read_str(text: str, where: str, limits: ImageLimits) -> tuple[str, bytes]:
    """Tell a data URI, a URL, a path and base64 apart; return its name for messages, and the bytes."""
    if not text:
        raise ImageDecodeError(f"{where} is an empty string; pass a path, a data URI or base64")
    if text[:5].lower() == "data:":
        header, comma, payload = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise ImageDecodeError(f"{where} is a data URI without base64; write 'data:image/png;base64,...'")
        data = _from_base64(payload, where, limits)
        if data is None:
            raise ImageDecodeError(f"{where} is a data URI whose base64 is damaged")
        return f"{where} (a data URI)", data
    if url := re.match(r"([a-z][a-z0-9+.-]+)://", text, re.IGNORECASE):
        # The rest of a URL may hold a password or a signature.
        raise ImageDecodeError(
            f"{where} is a URL ('{url[1]}://...'), and this package never downloads; fetch it and pass the bytes"
        )
    try:
        Path(text).stat()
    except (OSError, ValueError) as error:
        reason = _reason(error)  # not chained below: the error repeats the whole string, which may be an image
    else:
        return _read_file(text, where, limits)
    data = _from_base64(text, where, limits)
    if data is None or _find_plugin(data) is None:
        raise ImageDecodeError(
            f"{where} is {_shorten(text)}: as a path, {reason}; and it is neither a data URI nor base64 of an image "
            f"({_ALLOWED})"
        )
    return f"{where} (base64)", data


def _from_base64(text: str, where: str, limits: ImageLimits) -> bytes | None:
    """Decode base64, white space allowed; None if it is not base64."""
    text = "".join(text.split())
    num_bytes = len(text) * 3 // 4
    if num_bytes > limits.max_bytes + 2:  # up to two of them are padding
        raise _too_many_bytes(where, num_bytes, limits)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _read_file(name: str | bytes, where: str, limits: ImageLimits) -> tuple[str, bytes]:
    """Read a regular file; anything else could block (a pipe) or never end (a device)."""
    where = f"{where} ({name!r})"
    path = Path(os.fsdecode(name))
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ImageDecodeError(f"{where} cannot be read: {_reason(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ImageDecodeError(f"{where} is not a file but a directory, a device or a pipe")
    if status.st_size > limits.max_bytes:
        raise _too_many_bytes(where, status.st_size, limits)
    try:
        with path.open("rb") as file:
            data = file.read(status.st_size + 1)
    except OSError as error:
        raise ImageDecodeError(f"{where} cannot be read: {_reason(error)}") from error
    if len(data) > status.st_size:
        raise ImageDecodeError(f"{where} grew while it was read; wait until it is written")
    return where, data


def _from_array(array: NDArray[np.uint8], where: str, limits: ImageLimits) -> Image.Image:
    """Wrap a uint8 array; for any other dtype only the caller knows the range of the values."""
    if array.dtype != np.uint8:
        hint = _ARRAY_HINTS.get(array.dtype.kind, "convert it to uint8 0..255")
        raise ImageDecodeError(f"{where} is an array of {array.dtype}; it must be uint8 0..255: {hint}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        raise ImageDecodeError(
            f"{where} is an array of shape {array.shape}; it must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
            + ("; `image.transpose(1, 2, 0)` moves channels to the end" if channels_first else "")
        )
    _check_size((array.shape[1], array.shape[0]), where, limits)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]  # (H, W)
    image = Image.fromarray(array)
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy either way: RGB is stored as four bytes


def _decode(data: bytes, where: str, limits: ImageLimits, *, exif_orientation: bool) -> Image.Image:
    """Decode the first frame with the one plugin that the first bytes choose."""
    plugin = _find_plugin(data)
    if plugin is None:
        raise ImageDecodeError(
            f"{where} is not an image in an allowed format ({_ALLOWED}): it has {len(data)} bytes and starts with "
            f"{data[:8]!r}"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageDecodeError(
            f"{where} was not decoded: this process has set `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`, which decodes a "
            "damaged image half grey without an error; set it to False, or pass Pillow images"
        )
    can_warn = plugin in _WARNS_ABOUT and _WARNS_ABOUT[plugin] in data
    try:
        with _pillow_warnings_ignored() if can_warn else contextlib.nullcontext():
            if plugin is AvifImageFile:
                check_avif(data, limits.max_pixels)
            image = plugin(TimedBytes(data, limits.max_decode_s))
            _check_size(image.size, where, limits)
            if isinstance(image, TiffImageFile) and image.use_load_libtiff:
                check_tiff(image, data, limits.max_pixels)
            image.load()
    except ImageDecodeError:
        raise
    except TooCostlyError as error:
        raise ImageDecodeError(f"{where} {error}") from error
    except MemoryError as error:
        raise _too_little_memory(where) from error
    except Exception as error:  # on damaged data plugins raise errors of many types
        raise ImageDecodeError(f"{where} cannot be decoded as {plugin.format}: {_reason(error)}") from error
    return _to_rgb(image, where, limits, exif_orientation=exif_orientation)


def _to_rgb(image: Image.Image, where: str, limits: ImageLimits, *, exif_orientation: bool) -> Image.Image:
    """Load a Pillow image and convert it; the caller's image keeps its pixels, mode and info."""
    _check_size(image.size, where, limits)
    try:
        image.load()
        _refuse_clipping(image, where)
        orientation = _read_orientation(image) if exif_orientation else 1
        if image.mode != "RGB":
            if "transparency" in image.info:  # has no effect on RGB pixels, but Pillow warns about it
                image = image.copy()
                del image.info["transparency"]
            image = image.convert("RGB")
    except ImageDecodeError:
        raise
    except MemoryError as error:
        raise _too_little_memory(where) from error
    except Exception as error:  # a lazy image runs its plugin here
        raise ImageDecodeError(f"{where} cannot be converted to RGB: {_reason(error)}") from error
    return image.transpose(_TRANSPOSE_BY_EXIF[orientation]) if orientation in _TRANSPOSE_BY_EXIF else image


def _refuse_clipping(image: Image.Image, where: str) -> None:
    """Refuse a grayscale image whose values `convert("RGB")` would clip, or whose range is unknown."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)  # (H, W) float32, int32 or uint16
        if image.mode == "F" or values.min() < 0 or values.max() > 255:
            raise ImageDecodeError(
                f"{where} is grayscale of mode {image.mode!r} with values {values.min()}..{values.max()}, which RGB "
                "would clip to 0..255; scale it to 8 bits first, for 16 bits with "
                "`Image.fromarray((numpy.asarray(image) // 257).astype('uint8'))`"
            )


def _read_orientation(image: Image.Image) -> int:
    """Read tag 0x0112, or give 1 (upright) if it is absent; damage in other tags is ignored."""
    with _pillow_warnings_ignored(), contextlib.suppress(SyntaxError, struct.error, ValueError, TypeError):
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    return 1


@contextlib.contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings: an image is either good or refused.

    The process has one list of filters, so this is used only where Pillow can warn, and under a lock: of two
    overlapping calls the later would restore the filters of the earlier.
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _find_plugin(data: bytes) -> type[ImageFile.ImageFile] | None:
    return next((plugin for magic, plugin in _PLUGINS if magic.match(data)), None)


def _check_size(size: tuple[int, int], where: str, limits: ImageLimits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageDecodeError(f"{where} is empty: {width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise ImageDecodeError(
            f"{where} has {width} x {height} = {width * height} pixels, over `max_pixels` {limits.max_pixels}; "
            "scale it down first"
        )
    if max(size) > limits.max_side_px:
        raise ImageDecodeError(
            f"{where} has {width} x {height} pixels, a side over `max_side_px` {limits.max_side_px}; cut it first"
        )


def _too_many_bytes(where: str, num_bytes: int, limits: ImageLimits) -> ImageDecodeError:
    return ImageDecodeError(
        f"{where} has {num_bytes} bytes, over `max_bytes` {limits.max_bytes}; scale it down or compress it first"
    )


def _too_little_memory(where: str) -> ImageDecodeError:
    return ImageDecodeError(f"{where}: there was not enough memory to decode it; free some, or scale it down first")


def _reason(error: BaseException) -> str:
    """Give the error's reason in one short line, without the path (`OSError`) or a tag's long content (plugins)."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)[:200] or type(error).__name__


def _shorten(text: str) -> str:
    """Quote a string; a long string may be a whole image in base64, so only its two ends are quoted."""
    return repr(text) if len(text) <= 120 else f"{text[:40]!r}...{text[-40:]!r} ({len(text)} characters)"
