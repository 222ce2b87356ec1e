"""The pictures of records: read from allowed folders only, and always encoded again, so that no file leaves as it is.

What a record says about its file is not trusted: whoever writes the database chooses it. Only regular files are read,
below the allowed folders after all links are followed, within the limits on pictures.
"""

import dataclasses
import functools
import os
import stat
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.errors import ImageDecodeError, ImageLimitError
from core_encoder.image_input import LoadedImage, read_image
from core_encoder.image_limits import ImageLimits
from core_encoder.rendering import Rendering
from core_encoder.tiling import Box
from jclip_connectors.identity import describe_image
from jclip_connectors.server.requests import RequestError

_QUALITY = 85
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")  # whose size Pillow reads without decoding
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF: width and height are exchanged
_CACHE_BYTES = 64 * 2**20
_CACHED_SIZES = 100_000
_JPEG = b"\xff\xd8\xff"


class Pictures:
    """Reads pictures by their location; threads may share it."""

    def __init__(self, *, roots: Sequence[Path] | None, rendering: Rendering, limits: ImageLimits) -> None:
        """Keep the rules.

        Args:
            roots: the folders that pictures are read from; `None` reads every regular file.
            rendering: how pictures were read when they were embedded: boxes fit only that.
            limits: on pictures.
        """
        self._roots = None if roots is None else tuple(os.path.realpath(root) for root in roots)
        self._rendering = rendering
        self._limits = limits
        self._sizes = functools.lru_cache(maxsize=_CACHED_SIZES)(self._read_size)
        self._encoded = _ByteCache(_CACHE_BYTES)

    def shown_path(self, location: str) -> str:
        """What may be shown of a location: the part below an allowed folder, or the name alone."""
        for root in self._roots or ():
            if Path(location).is_relative_to(root):
                return str(Path(location).relative_to(root))
        return Path(location).name

    def size(self, uri: str, content_hash: str | None) -> tuple[int, int] | None:
        """Width and height as shown, from the head of the file; `None` if they are not known without decoding."""
        return self._sizes(uri, content_hash)

    def jpeg(self, uri: str, content_hash: str | None, *, side: int) -> bytes:
        """The picture as a JPEG whose longest side is at most `side` pixels, without any metadata.

        Raises:
            RequestError: 404 if there is no such picture, or it cannot be read.
        """
        key = (uri, content_hash, side)
        found = self._encoded.get(key)
        if found is None:
            try:
                image = self._decode(self.read(uri, content_hash), side=side).image
            except ImageLimitError:
                raise _no_picture() from None
            if max(image.size) > side:
                image = image.copy()  # the decoded picture may be shared
                image.thumbnail((side, side))
            found = _encode(image, "JPEG", quality=_QUALITY)
            self._encoded.put(key, found)
        return found

    def region(self, data: bytes, box: Sequence[int]) -> NDArray[np.uint8]:
        """Cut a region out of a picture.

        Args:
            data: the encoded picture.
            box: left, top, right, bottom in its pixels as shown.

        Returns:
            (H, W, 3) uint8 0..255, RGB.

        Raises:
            RequestError: 400 if the picture cannot be read, or the box is not inside it.
        """
        try:
            loaded = read_image(data, index=0, rendering=self._rendering, limits=self._limits)
        except ImageDecodeError:
            raise RequestError("the picture cannot be read", status=400, code="INPUT_INVALID") from None
        width, height = loaded.full_size
        left, top, right, bottom = Box(*box)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise RequestError(
                f"`box` is not inside the picture of {width} x {height} pixels: give left, top, right, bottom",
                status=400,
                field="box",
            )
        image = loaded.image
        across, down = image.width / width, image.height / height  # below 1 if it was shrunk while decoding
        cut = (int(left * across), int(top * down), round(right * across), round(bottom * down))
        return np.asarray(image.crop((cut[0], cut[1], max(cut[2], cut[0] + 1), max(cut[3], cut[1] + 1))))

    def read(self, uri: str, content_hash: str | None = None) -> bytes:
        """The bytes of a record's file.

        Args:
            uri: where it is.
            content_hash: of the picture that was embedded, if that is known.

        Raises:
            RequestError: 404 if the location is no regular file in an allowed folder, the file is too large, or it has
                changed since.
        """
        with self._opened(uri) as file:
            data = file.read(self._limits.max_bytes + 1)
        if not data or len(data) > self._limits.max_bytes:
            raise _no_picture()
        if content_hash is not None and describe_image(data)["content_hash"] != content_hash:
            raise _no_picture()  # another picture has taken its place: what was found is not in it
        return data

    @contextmanager
    def _opened(self, uri: str) -> Iterator[BinaryIO]:
        """Open a record's file for reading; an error while it is read is that there is no picture."""
        path = self._allowed(uri)
        try:
            # Without waiting for a pipe's other end, and without following a link that was put there since.
            number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        except (OSError, ValueError):
            raise _no_picture() from None
        try:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self._limits.max_bytes:
                raise _no_picture()
            with open(number, "rb", closefd=False) as file:
                yield file
        except OSError:
            raise _no_picture() from None
        finally:
            os.close(number)

    def _allowed(self, uri: str) -> str:
        """The file of a location, with all links followed."""
        try:
            path = os.path.realpath(uri, strict=True)
        except (OSError, ValueError):
            raise _no_picture() from None
        if self._roots is not None and not any(Path(path).is_relative_to(root) for root in self._roots):
            raise _no_picture()
        return path

    def _read_size(self, uri: str, _version: str | None) -> tuple[int, int] | None:
        try:
            with (
                self._opened(uri) as file,  # of which only the head is read
                warnings.catch_warnings(action="ignore"),
                Image.open(file, formats=_FORMATS) as image,
            ):
                width, height = image.size
                turned = self._rendering == "as_seen" and image.getexif().get(_ORIENTATION) in _TURNED
                is_tiff = image.format == "TIFF"  # Pillow turns it by itself
        except (RequestError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        return (height, width) if turned and not is_tiff else (width, height)

    def _decode(self, data: bytes, *, side: int) -> LoadedImage:
        """Decode a picture, a JPEG in no more detail than is shown."""
        if data.startswith(_JPEG):
            # The sides of a JPEG are halved until it has so few pixels; its longest side is at least `side` then.
            fewer = dataclasses.replace(self._limits, max_pixels=min(4 * side * side, self._limits.max_pixels))
            with suppress(ImageLimitError):  # it cannot be shrunk so far
                return self._read_image(data, fewer)
        return self._read_image(data, self._limits)

    def _read_image(self, data: bytes, limits: ImageLimits) -> LoadedImage:
        try:
            return read_image(data, index=0, rendering=self._rendering, limits=limits)
        except ImageLimitError:
            raise
        except ImageDecodeError:
            raise _no_picture() from None


class _ByteCache:
    """The most recently used values, within a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._values: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> bytes | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: tuple[object, ...], value: bytes) -> None:
        with self._lock:
            self._held += len(value) - len(self._values.pop(key, b""))
            self._values[key] = value
            while self._held > self._max_bytes:
                self._held -= len(self._values.popitem(last=False)[1])


def _encode(image: Image.Image, format_: str, **options: int) -> bytes:
    file = BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def _no_picture() -> RequestError:
    return RequestError(
        "there is no such picture any more, or it cannot be read", status=404, code="RESOURCE_NOT_FOUND"
    )
