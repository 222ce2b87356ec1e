"""Where the tokens of packed texts stand in a rectangle with a row for each text."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from core_encoder.tokenization import PackedTexts

LONG_TOKENS = 1024  # a longer text is a batch by itself, and attention never holds all its scores at once
# With ALiBi, queries of a long text whose scores are computed together: `text_inputs` makes whole blocks.
LONG_BLOCK = 256


def text_inputs(batch: PackedTexts, *, whole_blocks: bool) -> dict[str, NDArray[np.int64] | NDArray[np.int32]]:
    """The inputs of the graph of the text tower.

    Args:
        batch: texts that may share a batch.
        whole_blocks: make the row of a long text a multiple of `LONG_BLOCK` long, as ALiBi needs.

    Returns:
        The arrays that `text_graph.build_text_tower` describes.
    """
    lengths = np.array(batch.lengths, np.int64)  # (B,)
    longest = int(lengths.max())
    if whole_blocks and longest > LONG_TOKENS:
        longest += -longest % LONG_BLOCK
    columns = np.arange(longest)
    used = columns < lengths[:, None]  # (B, L)
    starts = lengths.cumsum() - lengths
    return {
        "input_ids": batch.input_ids,
        "positions": batch.positions,
        "rectangle": np.where(used, starts[:, None] + columns, 0),
        "mask": used.astype(np.int32),
        "places": np.flatnonzero(used),
    }


def split_long(batch: PackedTexts) -> Iterator[tuple[list[int], PackedTexts]]:
    """Split texts into batches that the graph takes: a long text alone, and the others together.

    Yields:
        The positions of the texts in the batch, and the texts.
    """
    short = [i for i, length in enumerate(batch.lengths) if length <= LONG_TOKENS]
    if len(short) == len(batch.lengths):
        yield short, batch
        return
    for group in (*([short] if short else []), *([i] for i in range(len(batch.lengths)) if i not in set(short))):
        yield group, _select(batch, group)


def _select(batch: PackedTexts, texts: Sequence[int]) -> PackedTexts:
    ends = np.cumsum([0, *batch.lengths])
    tokens = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in texts])
    return PackedTexts(batch.input_ids[tokens], batch.positions[tokens], tuple(batch.lengths[i] for i in texts))
