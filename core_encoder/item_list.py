"""Check that an argument is a list of texts or images, not one bare item."""

import io
import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
from PIL import Image

from core_encoder.errors import InputError

T = TypeVar("T")


def as_list(items: Iterable[T], name: str) -> list[T]:
    """Make a list of the caller's items; one bare item is refused, because its parts are not items.

    Raises:
        InputError: not a list, or a bare item.
    """
    single = isinstance(items, str | bytes | bytearray | memoryview | io.IOBase | os.PathLike | Mapping | Image.Image)
    if single or (isinstance(items, np.ndarray) and name == "images" and items.ndim < 4):
        raise InputError(f"`{name}` is one {type(items).__name__}: pass a list; for a single one write [{name[:-1]}]")
    try:
        return list(items)
    except TypeError as error:
        raise InputError(f"`{name}` is {type(items).__name__}: pass a list") from error
