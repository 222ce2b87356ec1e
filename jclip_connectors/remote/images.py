"""The bytes to send for an image: the file's own content, or a PNG of the pixels that the local encoder would get."""

import base64
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from core_encoder.image_input import load_image
from jclip_connectors.port import ImageSource

_SENT_AS_THEY_ARE = frozenset({"JPEG", "PNG", "WEBP"})


def content_of(source: ImageSource, image: Image.Image) -> bytes:
    """The file unchanged if all decoders get the same pixels from it, else a PNG of the picture.

    Decoders differ about EXIF orientation, transparency, palettes, colour profiles and other colour spaces.
    `load_image` has changed such an image, which leaves it without a `format`, or would change it with `rendering`
    "as_seen". An image that was shrunk while it was decoded is sent as it is now.
    """
    if isinstance(source, Image.Image | np.ndarray) or image.format not in _SENT_AS_THEY_ARE:
        return png_of(image)
    if load_image(image, index=0, rendering="as_seen") is not image:
        return png_of(image)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return base64.b64decode("".join(source.partition(",")[2].split()))
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes() if _is_file(source) else base64.b64decode("".join(str(source).split()))
    return bytes(source)


def _is_file(source: str | os.PathLike[str]) -> bool:
    try:
        return Path(source).is_file()
    except (OSError, ValueError):  # base64 is too long for a file name
        return False


def png_of(image: Image.Image) -> bytes:
    """A PNG of only the pixels: no EXIF, no colour profile, no comment."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    return buffer.getvalue()
