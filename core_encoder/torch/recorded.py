"""Computations of fixed shape that are recorded once and replayed: CUDA graphs.

A short query is some hundred kernels of a few microseconds, and starting each from Python takes longer than it runs. A
graph starts all of them at once. It reads and writes the same memory each time, so its input has a buffer of its own.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WARM_UPS = 2  # libraries choose kernels and take memory in their first runs, which cannot be recorded

Record = Callable[[Callable[[], Tensor], torch.device], Callable[[], Tensor]]


def record_graph(compute: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Record `compute` on a GPU; the result replays it, and gives the same tensor each time.

    Raises:
        RuntimeError: something in it cannot be recorded.
    """
    with torch.cuda.device(device):
        current = torch.cuda.current_stream()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                compute()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may compute meanwhile
            output = compute()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


class Recorded:
    """One recorded computation, from an array to a float32 array; one thread at a time may call it."""

    def __init__(
        self, compute: Callable[[Tensor], Tensor], values: NDArray[np.generic], device: torch.device, record: Record
    ) -> None:
        """Record `compute`.

        Args:
            compute: from a tensor to float32, both on `device`.
            values: an input; every later one has its shape and dtype.
            device: where it is computed.
            record: `record_graph`.

        Raises:
            RuntimeError: `compute` cannot be recorded.
        """
        self._staging = pinned(values, device)
        self._buffer = self._staging.to(device, copy=True)
        self._compute = compute  # a graph reads the memory of what `compute` refers to
        self._replay = record(partial(compute, self._buffer), device)

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """The result for these values."""
        np.copyto(self._staging.numpy(), values)
        self._buffer.copy_(self._staging, non_blocking=True)
        return np.asarray(self._replay().to("cpu", copy=True).numpy())  # waits, so both may be written to again


def pinned(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array to memory from which a GPU reads by itself, while Python goes on; common memory for a CPU.

    torch keeps such memory for the next array, and gives it out again when a copy that was started has ended.
    """
    dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
    staging = torch.empty(values.shape, dtype=dtype, pin_memory=device.type == "cuda")
    np.copyto(staging.numpy(), values)
    return staging
