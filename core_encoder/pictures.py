"""A picture in RGB in memory: Pillow's image, or an array of its pixels."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture: TypeAlias = Image.Image | NDArray[np.uint8]
"""A `PIL.Image.Image` of mode RGB, or an array (H, W, 3) uint8, RGB, range 0..255, which may be a view of another."""

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; the last two are outside."""


def size_of(picture: Picture) -> tuple[int, int]:
    """Width and height in pixels."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


def as_image(picture: Picture) -> Image.Image:
    """The picture as Pillow's; itself if it is one."""
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)


def cut(picture: Picture, box: Box) -> Picture:
    """Cut a rectangle out; what is outside of the picture is black. Of an array a view, if all of it is inside."""
    if isinstance(picture, Image.Image):
        return picture.crop(box)
    left, top, right, bottom = box
    height, width, _ = picture.shape
    inside = picture[max(0, top) : bottom, max(0, left) : right]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return inside
    whole = np.zeros((bottom - top, right - left, 3), np.uint8)
    row, column = max(0, -top), max(0, -left)
    whole[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return whole


def raw_pixels(picture: Picture, box: Box) -> bytes:
    """The pixels of a rectangle inside of the picture, row by row, three bytes each."""
    left, top, right, bottom = box
    if isinstance(picture, Image.Image):
        return picture.crop(box).tobytes()
    return picture[top:bottom, left:right].tobytes()
