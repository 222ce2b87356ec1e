"""What shares a batch: texts of like length, and the pictures of images that follow each other."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import ImageDecodeError
from core_encoder.read_ahead import read_ahead


def length_batches(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Split a window of texts into batches, longest texts first.

    Args:
        lengths: true tokens of each text.
        max_tokens: tokens that a batch may hold; one longer text makes a batch of its own.

    Yields:
        Positions in `lengths`; every position exactly once. The longest come first, so that memory runs out, if at all,
        at the start.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and tokens + lengths[index] > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def picture_batches(
    count: int,
    pixels: Callable[[int], NDArray[np.float32]],
    *,
    size: int,
    failed: dict[int, ImageDecodeError] | None,
) -> Iterator[tuple[int, dict[int, NDArray[np.float32]]]]:
    """Read images in threads, ahead of the model, and put their pictures together.

    What waits for the model has the model's size: no more images are in memory as a whole than there are threads.

    Args:
        count: how many images there are.
        pixels: reads one of them, by position: (T, 3, S, S), one picture or an overview and tiles.
        size: how many pictures make a batch; an image's are not parted, so that there may be more.
        failed: gets the errors of images that cannot be read; `None` raises the first one.

    Yields:
        How many images are done with the batch, and the pictures of each by position: those that could be read.
    """

    def read(index: int) -> NDArray[np.float32] | ImageDecodeError:
        try:
            return pixels(index)
        except ImageDecodeError as error:
            return error

    batch: dict[int, NDArray[np.float32]] = {}
    for index, pictures in enumerate(read_ahead(count, read, ahead=size)):
        if not isinstance(pictures, ImageDecodeError):
            batch[index] = pictures
        elif failed is None:
            raise pictures
        else:
            failed[index] = pictures
        if sum(map(len, batch.values())) >= size or index == count - 1:
            yield index + 1, batch
            batch = {}
