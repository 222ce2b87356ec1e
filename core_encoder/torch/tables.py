"""Tables of rotary positions, made once for a device."""

from collections.abc import Callable

import torch
from torch import Tensor


class PositionTable:
    """A table with a row for each position, on the device that last asked for it.

    It is made when it is first needed, not with the model: a model is built without memory and filled later. A table
    among its buffers would be lost then, or be saved and moved with the weights.
    """

    def __init__(self, make: Callable[[int], Tensor]) -> None:
        """Make no table yet.

        Args:
            make: gives a table of at least so many rows, on the CPU.
        """
        self._make = make
        self._kept: Tensor | None = None

    def on(self, device: torch.device, rows: int) -> Tensor:
        """The table, with at least `rows` rows."""
        kept = self._kept  # read once: another thread may replace it
        if kept is None or kept.device != device or len(kept) < rows:
            with torch.inference_mode(mode=False), torch.device("cpu"):  # a host may compute gradients later
                kept = self._make(rows).to(device)
            self._kept = kept
        return kept
