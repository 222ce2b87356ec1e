"""Cut a large image into an overview and tiles, each with its box in original pixels; count tiles and tokens.

A tile is a square window of the image. Its side is the model's image side, or the smallest larger side that keeps the
number of tiles within the limit. The preprocessing shrinks a larger window to the model's side, which has the same
effect as scaling the image down first, but boxes stay in original pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import ConfigError
from core_encoder.pictures import Picture, cut, size_of

TOKENS_PER_TILE: Mapping[int, int] = MappingProxyType({512: 4000, 224: 1000})
"""Image side -> published cost of a tile; Source: the hosted API's billing of jina-clip-v2 and jina-clip-v1."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an image is cut into tiles.

    Attributes:
        max_tiles: the most tiles per image, the overview not counted.

    Raises:
        ConfigError: `max_tiles` is not a positive integer.
    """

    max_tiles: int = 9

    def __post_init__(self) -> None:
        """Refuse a `max_tiles` that is not a positive integer."""
        max_tiles: object = self.max_tiles  # a configuration file may hold any type
        if not isinstance(max_tiles, int) or isinstance(max_tiles, bool) or max_tiles < 1:
            raise ConfigError(f"`max_tiles` must be an integer from 1 up, not {max_tiles!r}")


class Box(NamedTuple):
    """A rectangle in pixels of the original image.

    Attributes:
        left: the first column of pixels.
        top: the first row of pixels.
        right: the column after the last one.
        bottom: the row after the last one.
    """

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, eq=False)
class TileEmbeddings:
    """The vectors of one image's tiles; the first is the overview, the whole image.

    Attributes:
        vectors: (T, E) float32.
        boxes: (T, 4) int64, (left, top, right, bottom) of each in pixels of the original image.
    """

    vectors: NDArray[np.float32]
    boxes: NDArray[np.int64]


def check_tiling(tiling: object) -> Tiling:
    """Give `Tiling()` for `None`, and refuse what is not a tiling.

    Raises:
        ConfigError: `tiling` is something else.
    """
    if tiling is None:
        return Tiling()
    if not isinstance(tiling, Tiling):
        raise ConfigError(f"`tiling` is {tiling!r}: write Tiling(max_tiles=...), or None for the default")
    return tiling


def count_tiles(width: int, height: int, *, size: int) -> int:
    """Count the windows of side `size` that an image needs, without a limit and without the overview."""
    return -(-width // size) * -(-height // size)  # both rounded up


def image_tokens(width: int, height: int, *, size: int) -> int:
    """Give an image's price at the hosted API, in tokens.

    Raises:
        ConfigError: no price is published for models of this image side; `TOKENS_PER_TILE` lists the published prices.
    """
    if size not in TOKENS_PER_TILE:
        raise ConfigError(f"no price is published for an image side of {size}; there is one for {set(TOKENS_PER_TILE)}")
    return TOKENS_PER_TILE[size] * count_tiles(width, height, size=size)


def tile_side(width: int, height: int, *, size: int, tiling: Tiling) -> int:
    """Find the smallest side, at least `size`, with which `max_tiles` windows cover the image."""
    low, high = size, max(size, width, height)  # one window of side `high` is always enough
    while low < high:
        middle = (low + high) // 2
        if count_tiles(width, height, size=middle) <= tiling.max_tiles:
            high = middle
        else:
            low = middle + 1
    return low


def tile_boxes(width: int, height: int, *, size: int, tiling: Tiling) -> list[Box]:
    """Lay out the tiles of an image, row by row, without the overview.

    The windows of a row are spread evenly and overlap if the side does not divide the width. Every box has the full
    side and lies inside the image, and every pixel is in a box. If the image is narrower (or lower) than a window, the
    boxes are as narrow (or low) as the image.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        size: the model's image side.
        tiling: how many tiles at most.
    """
    side = tile_side(width, height, size=size, tiling=tiling)
    return [
        Box(left, top, min(left + side, width), min(top + side, height))
        for top in _starts(height, side)
        for left in _starts(width, side)
    ]


def cut_tiles(picture: Picture, *, size: int, tiling: Tiling) -> tuple[list[Picture], NDArray[np.int64]]:
    """Cut a picture into an overview and tiles, to be preprocessed like any other pictures.

    The overview is the image itself, so its vector equals the image's vector without tiling. A square image of one
    tile has only the overview: the tile would be the same picture. Every tile is square, so that no resize mode crops
    it; a box that is not square is padded with black, half on each side.

    Args:
        picture: of any size.
        size: the model's image side.
        tiling: how many tiles at most.

    Returns:
        T pictures, the overview first, and their boxes (T, 4) int64 in pixels of `picture`.
    """
    width, height = size_of(picture)
    boxes = tile_boxes(width, height, size=size, tiling=tiling)
    if len(boxes) == 1 and width == height:
        boxes = []
    pictures = [picture, *(_cut_square(picture, box) for box in boxes)]
    return pictures, np.array([(0, 0, width, height), *boxes], np.int64)  # (T, 4)


def _starts(length: int, side: int) -> list[int]:
    """Place windows on one axis: the first at its start, the last at its end, the others evenly between."""
    gaps = -(-length // side) - 1
    return [0] if gaps == 0 else [round(i * (length - side) / gaps) for i in range(gaps + 1)]


def _cut_square(picture: Picture, box: Box) -> Picture:
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    # It may reach over the edge of the picture; the rest becomes black.
    left, top = left - (side - (right - left)) // 2, top - (side - (bottom - top)) // 2
    return cut(picture, (left, top, left + side, top + side))
