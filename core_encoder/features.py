"""Run the towers on batches of tokens or pictures, and turn their raw features into vectors."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from core_encoder.batching import length_batches, picture_batches
from core_encoder.device import PRECISIONS
from core_encoder.errors import CheckpointError, ImageDecodeError
from core_encoder.matryoshka import normalize as to_unit_length
from core_encoder.matryoshka import truncate
from core_encoder.model import JinaClip
from core_encoder.tokenization import TokenizedText, pack

Progress = Callable[[int, int], None]  # (done, total) after every batch

_TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}


def text_features(model: JinaClip, texts: Sequence[TokenizedText]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Run the text tower, a batch at a time.

    Args:
        model: both towers, on their device.
        texts: tokenized texts, in any order of length.

    Yields:
        The positions in `texts` of one batch, and the (B, E) raw features of these texts; every position once.
    """
    device = model.place()
    for batch in length_batches([len(text.ids) for text in texts], max_tokens=_tokens_per_batch(model)):
        packed = pack([texts[i].ids for i in batch], pad_token_id=model.config.text.pad_token_id)
        with torch.inference_mode():
            features = model.text(packed.input_ids.to(device), packed.lengths, packed.positions)
            rows = np.asarray(features.cpu().numpy())
        yield batch, rows


def image_features(
    model: JinaClip,
    count: int,
    pixels: Callable[[int], NDArray[np.float32]],
    *,
    failed: dict[int, ImageDecodeError] | None,
    progress: Progress | None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Run the image tower, a batch at a time; the pictures of several images share batches.

    Args:
        model: both towers, on their device.
        count: how many images there are.
        pixels: reads the image at a position: (T, 3, S, S), one picture or an overview and tiles.
        failed: gets the errors of images that cannot be read; `None` raises the first one.
        progress: called with (done, total) images after every batch.

    Yields:
        The position of an image and the (T, E) raw features of its pictures, for each image that can be read.

    Raises:
        ImageDecodeError: an image cannot be read. Not with `failed`.
    """
    model.place()  # before an image is read
    tokens = 1 + model.config.vision.grid**2
    size = max(1, _tokens_per_batch(model) // tokens)
    for done, batch in picture_batches(count, pixels, size=size, failed=failed):
        if batch:
            features = _picture_features(model, np.concatenate(list(batch.values())), size)
            parts = np.split(features, np.cumsum([len(rows) for rows in batch.values()])[:-1])
            yield from zip(batch, parts, strict=True)
        if progress is not None:
            progress(done, count)


def to_vectors(
    features: NDArray[np.float32], truncate_dim: int | None, *, normalize: bool, dtype: torch.dtype
) -> NDArray[np.float32]:
    """Turn raw features into vectors: truncation first, then unit length.

    Args:
        features: (B, E) float32 raw features from the towers.
        truncate_dim: how many values of each row are kept; all of them if `None`.
        normalize: whether every row is scaled to unit length.
        dtype: the towers' dtype, for the error message.

    Returns:
        (B, E) float32, or (B, truncate_dim).

    Raises:
        CheckpointError: a row has NaN or infinite values.
    """
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise CheckpointError(
            f"item {int(finite.argmin())}: the model gave NaN or infinite values; its weights are damaged, or too "
            f"large for {PRECISIONS[dtype]}"
        )
    if truncate_dim is not None:
        features = truncate(features, truncate_dim)
    return to_unit_length(features) if normalize else features


def _tokens_per_batch(model: JinaClip) -> int:
    return _TOKENS_PER_BATCH.get(model.logit_scale.device.type, _TOKENS_PER_BATCH["cpu"])


def _picture_features(model: JinaClip, pixels: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """(B, 3, S, S) -> (B, E) raw features, `batch` pictures at a time."""
    place = model.logit_scale
    with torch.inference_mode():
        parts = [
            model.vision(torch.from_numpy(pixels[start : start + batch]).to(place.device, place.dtype)).cpu()
            for start in range(0, len(pixels), batch)
        ]
        return np.asarray(torch.cat(parts).numpy())
