"""The content hash of an item, and the id that is made from this hash."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core_encoder.rendering import read_orientation
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import ImageSource, Modality

_LIKE_RGB = ("1", "L", "P", "RGB")  # modes of which conversion to RGB loses nothing
_UPRIGHT = 1  # the EXIF orientation of a picture that has none


def describe_text(text: str) -> dict[str, Any]:
    """The fields of a record that are computed from its text.

    Raises:
        EmbedInputError: the text is not valid Unicode.
    """
    try:
        digest = hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise EmbedInputError(f"the text has a lone surrogate at position {error.start}: it is not Unicode") from error
    return {**_identity("text", digest), "content": text, "uri": None}


def describe_image(image: ImageSource) -> dict[str, Any]:
    """The fields of a record that are computed from its image; a path becomes its `uri`.

    Raises:
        EmbedInputError: the image cannot be read.
    """
    uri = str(image) if isinstance(image, str | Path) and not _is_data_uri(image) else None
    return {**_identity("image", _hash_image(image)), "content": None, "uri": uri}


def _identity(modality: Modality, digest: str) -> dict[str, Any]:
    return {"record_id": f"{modality}-{digest[:32]}", "modality": modality, "content_hash": f"sha256:{digest}"}


def _hash_image(image: ImageSource) -> str:
    """Hash the bytes of an encoded image, or the pixels of a decoded image."""
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    if isinstance(image, np.ndarray):
        return hashlib.sha256(repr((image.shape, image.dtype.str)).encode() + image.tobytes()).hexdigest()
    if isinstance(image, Image.Image):
        return _hash_pixels(image)
    if _is_data_uri(image):
        return hashlib.sha256(str(image).encode()).hexdigest()
    return _hash_file(image)


def _hash_pixels(image: Image.Image) -> str:
    """Hash all that decides how a decoded image looks: pixels, opacity, colour profile and EXIF orientation."""
    try:
        image.load()
        digest = hashlib.sha256(repr(image.size).encode())
        if image.mode in _LIKE_RGB and not image.has_transparency_data:
            digest.update(image.copy().convert("RGB").tobytes())
        else:
            palette = image.getpalette("RGBA") if image.mode in ("P", "PA") else None
            digest.update(repr((image.mode, image.info.get("transparency"), palette)).encode() + image.tobytes())
        orientation, profile = read_orientation(image), image.info.get("icc_profile")
    except Exception as error:  # a lazy image is decoded here, and a decoder may raise any error
        raise EmbedInputError(f"the image cannot be read: {error}") from error
    if orientation != _UPRIGHT or profile:
        digest.update(repr((orientation, profile)).encode())
    return digest.hexdigest()


def _hash_file(path: str | Path) -> str:
    if isinstance(path, str) and "://" in path:
        # The message leaves out the URL: it may contain a password.
        raise EmbedInputError("the image is a URL, and URLs are not downloaded: download the image and pass its bytes")
    try:
        path = Path(path)
        if not path.is_file():
            raise EmbedInputError(f"the image cannot be read: there is no file {str(path)[:200]!r}")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbedInputError(f"the image cannot be read: {error.strerror}: {str(path)[:200]!r}") from error
    except (TypeError, UnicodeEncodeError) as error:
        raise EmbedInputError(f"the image cannot be read: {error}") from error


def _is_data_uri(image: str | Path) -> bool:
    return isinstance(image, str) and image[:5].lower() == "data:"
