"""Texts of like length share a batch; the caller's order is kept."""

from collections.abc import Iterator, Sequence


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
