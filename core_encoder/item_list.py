"""Check that an argument is a list of texts or images, not one bare item."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
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
    _refuse_bare(items, name)
    try:
        return list(items)
    except TypeError as error:
        raise _not_a_list(items, name) from error


def as_iterator(items: Iterable[T], name: str) -> Iterator[T]:
    """Make an iterator over the caller's items, none of which is asked for yet; one bare item is refused.

    Raises:
        InputError: nothing to iterate over, or a bare item.
    """
    _refuse_bare(items, name)
    try:
        return iter(items)
    except TypeError as error:
        raise _not_a_list(items, name) from error


def _refuse_bare(items: object, name: str) -> None:
    single = isinstance(items, str | bytes | bytearray | memoryview | io.IOBase | os.PathLike | Mapping | Image.Image)
    if single or (isinstance(items, np.ndarray) and name == "images" and items.ndim < 4):
        raise InputError(f"`{name}` is one {type(items).__name__}: pass a list; for a single one write [{name[:-1]}]")


def _not_a_list(items: object, name: str) -> InputError:
    return InputError(f"`{name}` is {type(items).__name__}: pass a list")
