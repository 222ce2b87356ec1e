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
from core_encoder.image_formats import decode, reason, too_little_memory
from core_encoder.image_limits import DEFAULT_LIMITS, ImageLimits, check_size
from core_encoder.image_notes import ImageNote
from core_encoder.image_sources import read_bytes, wrap_array
from core_encoder.rendering import Rendering, check_rendering, read_orientation, render

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
"""A path, a data URI or base64 as `str`; an encoded image as bytes; a decoded one from Pillow or numpy."""

_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedImage:
    """A picture in RGB, and what there is to say about it.

    Attributes:
        image: mode RGB.
        full_size: width and height of the whole rendering; larger than `image` if that was shrunk while decoding.
        notes: what was left out or mended.
    """

    image: Image.Image
    full_size: tuple[int, int]
    notes: tuple[ImageNote, ...]

    def full_boxes(self, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Boxes in pixels of the whole rendering.

        Args:
            boxes: (T, 4) in pixels of `image`.

        Returns:
            (T, 4) int64.
        """
        if self.full_size == self.image.size:
            return boxes
        scale = np.array(self.full_size * 2) / np.array(self.image.size * 2)
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
    """Read one image as `load_image` does, with its full size and notes.

    Raises:
        ImageDecodeError: as for `load_image`.
    """
    where = f"item {index}"
    if isinstance(image, np.ndarray):
        picture = wrap_array(image, where, limits)
    elif isinstance(image, Image.Image):
        picture = image
    else:
        where, data = read_bytes(image, where, limits)
        decoded = decode(data, where, limits)
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
        loaded = read_image(items[index], index=index, limits=used, rendering=rendering)
        if notes is not None and loaded.notes:
            notes[index] = list(loaded.notes)
        return loaded

    return read


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
    return LoadedImage(image=picture, full_size=full_size[::-1] if turned else full_size, notes=notes)
