"""Read one image from any supported input into a `PIL.Image.Image` in mode RGB, with limits; URLs are refused.

The parts: `image_sources` (where the bytes come from), `image_formats` (which decoder runs), `rendering` (how the
decoded picture becomes RGB), `image_limits`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core_encoder.errors import ConfigError, ImageDecodeError
from core_encoder.image_formats import Decoded, decode, reason, too_little_memory
from core_encoder.image_limits import DEFAULT_LIMITS, ImageLimits, check_size
from core_encoder.image_notes import ImageNote
from core_encoder.image_sources import read_bytes, wrap_array
from core_encoder.pictures import Picture, as_image, size_of
from core_encoder.rendering import Rendering, check_rendering, has_other_colours, read_orientation, render, turn

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
"""A path, a data URI or base64 as `str`; an encoded image as bytes; a decoded one from Pillow or numpy."""

_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedImage:
    """A picture in RGB, and what there is to say about it.

    Attributes:
        picture: its pixels.
        full_size: width and height of the whole rendering; larger than `picture` if that was shrunk while decoding.
        notes: what was left out or mended.
    """

    picture: Picture
    full_size: tuple[int, int]
    notes: tuple[ImageNote, ...]

    @property
    def image(self) -> Image.Image:
        """The picture as Pillow's, mode RGB."""
        return as_image(self.picture)

    def full_boxes(self, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Boxes in pixels of the whole rendering.

        Args:
            boxes: (T, 4) in pixels of `picture`.

        Returns:
            (T, 4) int64.
        """
        size = size_of(self.picture)
        if self.full_size == size:
            return boxes
        scale = np.array(self.full_size * 2) / np.array(size * 2)
        scaled: NDArray[np.int64] = np.rint(boxes * scale).astype(np.int64)  # (T, 4)
        return scaled


def load_image(
    image: ImageInput, *, index: int, limits: ImageLimits = DEFAULT_LIMITS, rendering: Rendering = "as_stored"
) -> Image.Image:
    """Read one image and convert it to RGB.

    "as_stored" is the published model's code, Pillow's `convert("RGB")`: alpha is dropped without compositing, and
    neither the EXIF orientation (Pillow always applies it to TIFF) nor a colour profile is applied. One deliberate
    difference: an image that `convert("RGB")` would destroy is refused. `convert` clips 16-bit and 32-bit grayscale to
    0..255, which makes nearly all of a 16-bit scan white. "as_seen" is the picture in a viewer: upright, transparency
    on white, an embedded colour profile converted to sRGB, 16-bit grayscale scaled to 8 bits.

    Only the first frame of an animation and the first page of a document are decoded.

    Args:
        image: a path; a `data:` URI or base64 as `str`; an encoded image as bytes; a Pillow image; or a uint8 array
            `(H, W)`, `(H, W, 1)`, `(H, W, 3)` RGB or `(H, W, 4)` RGBA, range 0..255.
        index: position of the image in the caller's sequence, for the message.
        limits: limits on size and decoding time.
        rendering: "as_stored" or "as_seen".

    Returns:
        The image in mode RGB. A Pillow image already in RGB that needs no change is returned itself (loaded, if it was
        lazy), not a copy: do not write to the result.

    Raises:
        ImageDecodeError: the image is missing, unreadable, damaged, over a limit, in another format, too large for
            memory, or not an image at all.

    Source: the reference's preprocessing, `convert('RGB')` first.
    """
    return read_image(image, index=index, limits=limits, rendering=rendering).image


def read_image(
    image: ImageInput, *, index: int, limits: ImageLimits = DEFAULT_LIMITS, rendering: Rendering = "as_stored"
) -> LoadedImage:
    """Read one image as `load_image` does, with its full size and notes; the picture is Pillow's.

    Raises:
        ImageDecodeError: as for `load_image`.
    """
    return _read(image, index, limits, rendering, array=False)


def read_picture(
    image: ImageInput, *, index: int, limits: ImageLimits = DEFAULT_LIMITS, rendering: Rendering = "as_stored"
) -> LoadedImage:
    """Read one image as `read_image` does, faster: the picture is an array where that saves copies.

    Raises:
        ImageDecodeError: as for `load_image`.
    """
    return _read(image, index, limits, rendering, array=True)


def _read(image: ImageInput, index: int, limits: ImageLimits, rendering: Rendering, *, array: bool) -> LoadedImage:
    where = f"item {index}"
    if isinstance(image, np.ndarray):
        picture = wrap_array(image, where, limits)
    elif isinstance(image, Image.Image):
        picture = image
    else:
        where, data = read_bytes(image, where, limits)
        decoded = decode(data, where, limits, array=array)
        if decoded.pixels is not None:
            return _rendered_pixels(decoded, decoded.pixels, where, limits, rendering)
        return _rendered(decoded.image, where, limits, rendering, notes=decoded.notes, full_size=decoded.full_size)
    return _rendered(picture, where, limits, rendering)


def image_reader(
    items: Sequence[ImageInput] | Mapping[int, ImageInput],
    *,
    rendering: Rendering,
    limits: ImageLimits | None,
    notes: dict[int, list[ImageNote]] | None,
) -> Callable[[int], LoadedImage]:
    """Make the function that reads the image at a position.

    Args:
        items: as for `load_image`, by position.
        rendering: "as_stored" or "as_seen".
        limits: `ImageLimits()` if `None`.
        notes: gets the notes of an image that is read, by position.

    Raises:
        ConfigError: `rendering` or `limits` has a value that is not allowed.
    """
    check_rendering(rendering)
    given: object = limits  # the caller may pass any type
    if given is not None and not isinstance(given, ImageLimits):
        raise ConfigError(f"`limits` is {limits!r}: write ImageLimits(max_pixels=...), or None for the defaults")

    def read(index: int) -> LoadedImage:
        used = DEFAULT_LIMITS if limits is None else limits
        loaded = read_picture(items[index], index=index, limits=used, rendering=rendering)
        if notes is not None and loaded.notes:
            notes[index] = list(loaded.notes)
        return loaded

    return read


def _rendered_pixels(
    decoded: Decoded, pixels: NDArray[np.uint8], where: str, limits: ImageLimits, rendering: Rendering
) -> LoadedImage:
    """Render the pixels of a JPEG: without a colour profile, all that can be needed is to turn them."""
    if rendering == "as_seen" and has_other_colours(decoded.image):
        image = Image.fromarray(pixels)
        image.info = decoded.image.info
        return _rendered(image, where, limits, rendering, notes=decoded.notes, full_size=decoded.full_size)
    if rendering == "as_seen":
        pixels = turn(pixels, read_orientation(decoded.image))
    return LoadedImage(picture=pixels, full_size=size_of(pixels), notes=decoded.notes)


def _rendered(
    image: Image.Image,
    where: str,
    limits: ImageLimits,
    rendering: Rendering,
    *,
    notes: tuple[ImageNote, ...] = (),
    full_size: tuple[int, int] | None = None,
) -> LoadedImage:
    """Load a Pillow image and convert it; the caller's image keeps its pixels, mode and info."""
    check_size(image.size, where, limits)
    try:
        image.load()
        turned = rendering == "as_seen" and full_size is not None and read_orientation(image) in _TURNED
        picture = render(image, where, rendering)
    except ImageDecodeError:
        raise
    except MemoryError as error:
        raise too_little_memory(where) from error
    except Exception as error:  # a lazy image runs its plugin here
        raise ImageDecodeError(f"{where} cannot be converted to RGB: {reason(error)}") from error
    if full_size is None:
        full_size = picture.size
    return LoadedImage(picture=picture, full_size=full_size[::-1] if turned else full_size, notes=notes)
