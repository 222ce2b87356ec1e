"""Resize a part of a large picture with cykooz-resizer: Pillow's algorithm with the processor's vector instructions.

Both shrink with a kernel as wide as the scale, one axis after the other, and round to uint8 after each. Pillow's order
of the axes is kept, since what overshoots is clipped after the first. The weights have 16 bits here and 22 in Pillow,
so that a value that lies between two levels may be rounded the other way: by one level after the first axis, and so by
at most two after the second, as the sizes of a kernel's weights add up to 1.3. Of a photograph it is fewer than one
value in a hundred, and nearly always one level.

Small pictures are left to Pillow: they take no time, and keep its values to the last bit.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core_encoder.pictures import Box, Picture, raw_pixels, size_of

try:
    import cykooz_resizer
except ImportError:  # there is no wheel for this platform, or no extra was installed
    cykooz_resizer = None

Interpolation: TypeAlias = Literal["bicubic", "bilinear"]

LARGE_PIXELS = 2**18
"""A source picture of fewer pixels is resized by Pillow."""

_REACHES = {"bicubic": 2.0, "bilinear": 1.0}  # of the kernel, in pixels of the smaller of both pictures
_FILTERS = {"bicubic": "catmull_rom", "bilinear": "bilinear"}  # Keys' kernel with a = -0.5 is Catmull and Rom's
_STRIP_BYTES = 2**20  # a strip is copied twice, so it should stay in the cache


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a picture, its new length, and which part of the new axis is wanted.

    Attributes:
        side: pixels before.
        resized: pixels of the whole axis afterwards.
        start: the first pixel that is wanted.
        count: how many are wanted.
    """

    side: int
    resized: int
    start: int
    count: int

    @property
    def scale(self) -> float:
        """Pixels before for one afterwards."""
        return self.side / self.resized

    def mirrored(self) -> "Axis":
        """The same axis from its other end."""
        return replace(self, start=self.resized - self.start - self.count)

    def source(self, interpolation: Interpolation) -> tuple[int, int]:
        """The first and the end of the pixels before that have a weight, or a little more of them."""
        reach = _REACHES[interpolation] * max(self.scale, 1.0) + 1
        first = math.floor((self.start + 0.5) * self.scale - reach)
        end = math.ceil((self.start + self.count - 0.5) * self.scale + reach)
        return max(0, first), min(self.side, end)

    def window(self, origin: int, length: int) -> tuple[float, float]:
        """Start and length of the wanted part in a piece of so many pixels before, whose first is `origin`."""
        start = self.start * self.scale - origin
        return start, min(self.count * self.scale, length - start)


def is_installed() -> bool:
    """Whether cykooz-resizer is installed, which `resize` needs."""
    return cykooz_resizer is not None


def is_large(picture: Picture) -> bool:
    """Whether `resize` pays for this picture."""
    width, height = size_of(picture)
    return width * height >= LARGE_PIXELS


def resize(picture: Picture, columns: Axis, rows: Axis, interpolation: Interpolation) -> NDArray[np.uint8]:
    """Resize a picture, and compute only the part that is wanted.

    Args:
        picture: any size.
        columns: the horizontal axis.
        rows: the vertical axis.
        interpolation: the kernel.

    Returns:
        (rows.count, columns.count, 3) uint8, within two levels of what Pillow gives.

    Source: Pillow 13, src/libImaging/Resample.c, `ImagingResampleInner`, for the order.
    """
    removed = rows.side - rows.resized
    rows_first = removed > 0 and removed > 2 * (columns.side - columns.resized)
    if isinstance(picture, np.ndarray):
        return _resize_array(picture, columns, rows, interpolation, rows_first=rows_first)
    return _resize(picture, columns, rows, interpolation, rows_first=rows_first)


def _resize_array(
    pixels: NDArray[np.uint8], columns: Axis, rows: Axis, interpolation: Interpolation, *, rows_first: bool
) -> NDArray[np.uint8]:
    """Resize a turned picture as it lies in memory, and turn the result: copying pixels in another order is slow."""
    if abs(pixels.strides[0]) < abs(pixels.strides[1]):
        upright = pixels.transpose(1, 0, 2)
        return _resize_array(upright, rows, columns, interpolation, rows_first=not rows_first).transpose(1, 0, 2)
    if pixels.strides[1] < 0:
        return _resize(pixels[:, ::-1], columns.mirrored(), rows, interpolation, rows_first=rows_first)[:, ::-1]
    return _resize(pixels, columns, rows, interpolation, rows_first=rows_first)


def _resize(
    picture: Picture, columns: Axis, rows: Axis, interpolation: Interpolation, *, rows_first: bool
) -> NDArray[np.uint8]:
    (left, right), (top, bottom) = columns.source(interpolation), rows.source(interpolation)
    box = left, top, right, bottom
    if rows_first:
        part = _resize_rows(picture, box, rows, top, interpolation)
        return _resize_columns(part, (0, 0, *size_of(part)), columns, left, interpolation)
    part = _resize_columns(picture, box, columns, left, interpolation)
    return _resize_rows(part, (0, 0, *size_of(part)), rows, top, interpolation)


def _resize_columns(
    picture: Picture, box: Box, axis: Axis, first: int, interpolation: Interpolation
) -> NDArray[np.uint8]:
    """Resize a box, whose first column is pixel `first` of the axis, from (h, w, 3) to (h, axis.count, 3)."""
    left, top, right, bottom = box
    start, length = axis.window(first, right - left)
    result = np.empty((bottom - top, axis.count, 3), np.uint8)
    lines = max(1, _STRIP_BYTES // (3 * (right - left)))
    for begin in range(0, bottom - top, lines):
        strip = result[begin : begin + lines]
        count = len(strip)
        pixels = raw_pixels(picture, (left, top + begin, right, top + begin + count))
        window = start, 0.0, length, float(count)
        strip[:] = _convolve(pixels, (right - left, count), (axis.count, count), window, interpolation)
    return result


def _resize_rows(picture: Picture, box: Box, axis: Axis, first: int, interpolation: Interpolation) -> NDArray[np.uint8]:
    """Resize a box, whose first row is pixel `first` of the axis, from (h, w, 3) to (axis.count, w, 3)."""
    left, top, right, bottom = box
    start, length = axis.window(first, bottom - top)
    result = np.empty((axis.count, right - left, 3), np.uint8)
    lines = max(1, _STRIP_BYTES // (3 * (bottom - top)))
    for begin in range(0, right - left, lines):
        strip = result[:, begin : begin + lines]
        count = strip.shape[1]
        pixels = raw_pixels(picture, (left + begin, top, left + begin + count, bottom))
        window = 0.0, start, float(count), length
        strip[:] = _convolve(pixels, (count, bottom - top), (count, axis.count), window, interpolation)
    return result


def _convolve(
    pixels: bytes,
    size: tuple[int, int],
    target: tuple[int, int],
    window: tuple[float, float, float, float],
    interpolation: Interpolation,
) -> NDArray[np.uint8]:
    """Resize a window (left, top, width, height) of raw pixels; sizes are width and height."""
    kind = cykooz_resizer.PixelType.U8x3
    options = cykooz_resizer.ResizeOptions(
        resize_alg=cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType[_FILTERS[interpolation]]),
        crop_box=cykooz_resizer.CropBox(*window),
    )
    result = cykooz_resizer.ImageData(*target, kind)
    cykooz_resizer.Resizer().resize(cykooz_resizer.ImageData(*size, kind, pixels), result, options)
    return np.frombuffer(result.get_buffer(), np.uint8).reshape(target[1], target[0], 3)
