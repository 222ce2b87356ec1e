"""Run the towers on batches of tokens or pictures, and turn their raw features into vectors."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from core_encoder.batching import length_batches, picture_batches
from core_encoder.errors import CheckpointError, ImageDecodeError
from core_encoder.matryoshka import normalize as to_unit_length
from core_encoder.matryoshka import truncate
from core_encoder.runtime import Runtime
from core_encoder.tokenization import TokenizedText, pack

Progress = Callable[[int, int], None]  # (done, total) after every batch


def text_features(runtime: Runtime, texts: Sequence[TokenizedText]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Run the text tower, a batch at a time.

    Args:
        runtime: the towers.
        texts: tokenized texts, in any order of length.

    Yields:
        The positions in `texts` of one batch, and the (B, E) raw features of these texts; every position once.
    """
    runtime.check_process()
    for batch in length_batches([len(text.ids) for text in texts], max_tokens=runtime.tokens_per_batch):
        yield (
            batch,
            runtime.text_features(pack([texts[i].ids for i in batch], pad_token_id=runtime.config.text.pad_token_id)),
        )


def image_features(
    runtime: Runtime,
    positions: Iterable[int],
    squares: Callable[[int], NDArray[np.uint8]],
    *,
    failed: dict[int, ImageDecodeError] | None,
    at_once: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Generator[tuple[int, NDArray[np.float32]], None, None]:
    """Run the image tower, a batch at a time; the pictures of several images share batches.

    Args:
        runtime: the towers.
        positions: 0, 1, 2, ...: of the images; each is asked for when its reading begins.
        squares: reads the image at a position: (T, S, S, 3), one picture or an overview and tiles.
        failed: gets the errors of images that cannot be read; `None` raises the first one.
        at_once: the most images in a batch; any number if `None`.
        progress: called with the number of images that are done after every batch.

    Yields:
        The position of an image and the (T, E) raw features of its pictures, for each image that can be read.

    Raises:
        ImageDecodeError: an image cannot be read. Not with `failed`.
    """
    runtime.check_process()  # before an image is read
    tokens = 1 + runtime.config.vision.grid**2
    size, side = max(1, runtime.tokens_per_batch // tokens), runtime.config.vision.image_size
    batches = picture_batches(positions, squares, side=side, size=size, at_once=at_once, failed=failed)
    with closing(batches):
        for done, batch in batches:
            if batch:
                pictures = np.concatenate(list(batch.values()))  # (P, S, S, 3)
                rows = [
                    runtime.image_features(pictures[start : start + size]) for start in range(0, len(pictures), size)
                ]
                parts = np.split(np.concatenate(rows), np.cumsum([len(own) for own in batch.values()])[:-1])
                yield from zip(batch, parts, strict=True)
            if progress is not None:
                progress(done)


def to_vectors(
    features: NDArray[np.float32], truncate_dim: int | None, *, normalize: bool, precision: str
) -> NDArray[np.float32]:
    """Turn raw features into vectors: truncation first, then unit length.

    Args:
        features: (B, E) float32 raw features from the towers.
        truncate_dim: how many values of each row are kept; all of them if `None`.
        normalize: whether every row is scaled to unit length.
        precision: the number format of the towers, for the error message.

    Returns:
        (B, E) float32, or (B, truncate_dim).

    Raises:
        CheckpointError: a row has NaN or infinite values.
    """
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise CheckpointError(
            f"item {int(finite.argmin())}: the model gave NaN or infinite values; its weights are damaged, or too "
            f"large for {precision}"
        )
    if truncate_dim is not None:
        features = truncate(features, truncate_dim)
    return to_unit_length(features) if normalize else features
