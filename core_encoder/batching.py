"""Build batches: texts of similar length together, and the pictures of consecutive images together."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import ImageDecodeError
from core_encoder.read_ahead import read_ahead

_MOST_BYTES = 256 * 2**20  # of resized pictures that wait for the model: 341 tiles of 512 px


def length_batches(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Split a window of texts into batches, longest texts first.

    Args:
        lengths: tokens of each text, without padding.
        max_tokens: the most tokens in a batch; a longer text is a batch by itself.

    Yields:
        Positions in `lengths`; every position exactly once. The longest come first, so that an out-of-memory error
        comes at the start.
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
    positions: Iterable[int],
    pixels: Callable[[int], NDArray[np.uint8]],
    *,
    side: int,
    size: int,
    at_once: int | None = None,
    failed: dict[int, ImageDecodeError] | None,
) -> Generator[tuple[int, dict[int, NDArray[np.uint8]]], None, None]:
    """Read images in threads, ahead of the model, and group their pictures into batches.

    Pictures that wait for the model are already resized: at most one image per thread is in memory at full size. As
    many pictures wait as the next batch takes, at most 256 MiB of them, whether an image has one or many tiles.

    Args:
        positions: 0, 1, 2, ...: of the images; each is asked for when its reading begins.
        pixels: reads the image at a position: (T, S, S, 3), one picture or an overview and tiles.
        side: S, in pixels.
        size: pictures in a batch; there may be more, because the pictures of one image stay together.
        at_once: images in a batch; any number if `None`.
        failed: gets the errors of images that cannot be read; `None` raises the first one.

    Yields:
        How many images are done after the batch, and the pictures of each readable image, by position.
    """

    def read(index: int) -> NDArray[np.uint8] | ImageDecodeError:
        try:
            return pixels(index)
        except ImageDecodeError as error:
            return error

    batch: dict[int, NDArray[np.uint8]] = {}
    done = told = 0
    most = max(1, min(size, _MOST_BYTES // (3 * side * side)))
    with closing(read_ahead(positions, read, weigh=_count, most=most)) as waiting:
        for index, pictures in enumerate(waiting):
            done = index + 1
            if not isinstance(pictures, ImageDecodeError):
                batch[index] = pictures
            elif failed is None:
                raise pictures
            else:
                failed[index] = pictures
            if sum(map(len, batch.values())) >= size or len(batch) == at_once:
                yield done, batch
                batch, told = {}, done
    if told < done:
        yield done, batch


def _count(pictures: NDArray[np.uint8] | ImageDecodeError) -> int:
    return 1 if isinstance(pictures, ImageDecodeError) else len(pictures)
