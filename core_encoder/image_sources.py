"""The bytes of an encoded image from a path, a data URI, base64 or memory, with a limit; URLs are refused."""

import base64
import os
import re
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.errors import ImageDecodeError
from core_encoder.image_formats import allowed_formats, is_known, reason
from core_encoder.image_limits import ImageLimits, check_bytes, check_size

_ARRAY_HINTS = {
    "b": "for a mask, use `image.astype('uint8') * 255`",
    "u": "for full-range uint16, use `(image // 257).astype('uint8')`",
    "i": "if the values are 0..255, use `image.astype('uint8')`",
    "f": "if the values are 0..1, use `(image * 255).round().astype('uint8')`",
}


def read_bytes(image: object, where: str, limits: ImageLimits) -> tuple[str, bytes]:
    """Read an encoded image; return its name for messages, and the bytes.

    Raises:
        ImageDecodeError: it is missing, unreadable or of another type.
        ImageLimitError: it has too many bytes.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        check_bytes(memoryview(image).nbytes, where, limits)
        return where, bytes(image)
    if isinstance(image, str):
        return _read_str(image, where, limits)
    if isinstance(image, os.PathLike):
        return _read_file(os.fspath(image), where, limits)
    raise ImageDecodeError(
        f"{where} is a {type(image).__name__}; pass a path, a data URI or base64 as `str`, an encoded image as "
        "bytes, a `PIL.Image.Image` or a uint8 array"
    )


def wrap_array(array: NDArray[np.uint8], where: str, limits: ImageLimits) -> Image.Image:
    """Make a Pillow image of a uint8 array; for any other dtype only the caller knows the range of the values.

    Returns:
        Mode L, RGB or RGBA; a copy of the array.

    Raises:
        ImageDecodeError: the array has another dtype or shape, or is over a limit.
    """
    if array.dtype != np.uint8:
        hint = _ARRAY_HINTS.get(array.dtype.kind, "convert it to uint8 0..255")
        raise ImageDecodeError(f"{where} is an array of {array.dtype}; it must be uint8 0..255: {hint}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        raise ImageDecodeError(
            f"{where} is an array of shape {array.shape}; it must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
            + ("; `image.transpose(1, 2, 0)` moves channels to the end" if channels_first else "")
        )
    check_size((array.shape[1], array.shape[0]), where, limits)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]  # (H, W)
    return Image.fromarray(array)


def _read_str(text: str, where: str, limits: ImageLimits) -> tuple[str, bytes]:
    """Tell a data URI, a URL, a path and base64 apart."""
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
        missing = reason(error)  # not chained below: the error repeats the whole string, which may be an image
    else:
        return _read_file(text, where, limits)
    data = _from_base64(text, where, limits)
    if data is None or not is_known(data):
        raise ImageDecodeError(
            f"{where} is {_shorten(text)}: as a path, {missing}; and it is neither a data URI nor base64 of an image "
            f"({allowed_formats()})"
        )
    return f"{where} (base64)", data


def _from_base64(text: str, where: str, limits: ImageLimits) -> bytes | None:
    """Decode base64, white space allowed; None if it is not base64."""
    text = "".join(text.split())
    check_bytes(len(text) * 3 // 4 - 2, where, limits)  # up to two of them are padding
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
        raise ImageDecodeError(f"{where} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ImageDecodeError(f"{where} is not a file but a directory, a device or a pipe")
    check_bytes(status.st_size, where, limits)
    try:
        with path.open("rb") as file:
            data = file.read(status.st_size + 1)
    except OSError as error:
        raise ImageDecodeError(f"{where} cannot be read: {reason(error)}") from error
    if len(data) > status.st_size:
        raise ImageDecodeError(f"{where} grew while it was read; wait until it is written")
    return where, data


def _shorten(text: str) -> str:
    """Quote a string; a long string may be a whole image in base64, so only its two ends are quoted."""
    return repr(text) if len(text) <= 120 else f"{text[:40]!r}...{text[-40:]!r} ({len(text)} characters)"
