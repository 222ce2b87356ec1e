"""Locks and threads in a forked process.

A forked process has a copy of the memory of its parent, but only the thread that called `fork`. A lock that another
thread held stays locked for ever, and a pool waits for threads that do not exist: OpenMP's pool in torch, and the pool
of the tokenizers.
"""

import os
import sys
import threading
from types import TracebackType
from typing import Protocol
from weakref import WeakSet

from core_encoder.errors import ConfigError

_model_was_loaded = False  # in this process, or in one that it was forked from
_is_forked = False  # from a process that had loaded a model


class ForkSafeLock:
    """A `threading.Lock` for `with`, which is open in a forked process even if a thread of the parent held it."""

    def __init__(self) -> None:
        """Make an open lock."""
        self._lock = self._held = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        """Wait for the lock and take it."""
        lock = self._lock
        lock.acquire()
        self._held = lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Open the lock."""
        self._held.release()

    def renew(self) -> None:
        """Open the lock without waiting; only for a process that has one thread."""
        self._lock = threading.Lock()


class Abandoning(Protocol):
    """What holds something that a forked process can neither use nor free."""

    def abandon(self) -> None:
        """Forget it without freeing it; called in a forked process, before anything else."""
        ...


_locks: WeakSet[ForkSafeLock] = WeakSet()
_abandoning: WeakSet[Abandoning] = WeakSet()


def abandon_after_fork(owner: Abandoning) -> None:
    """Have `owner.abandon()` called in each process that is forked while it exists."""
    _abandoning.add(owner)


def model_was_loaded() -> None:
    """Say that this process has a model: a process that is forked from now on computes in one thread."""
    global _model_was_loaded
    _model_was_loaded = True


def is_forked() -> bool:
    """Whether this process was forked from one that had loaded a model."""
    return _is_forked


def check_process(loaded_in: int, device: str) -> None:
    """Refuse a model on a GPU that another process has put there.

    Args:
        loaded_in: the id of the process that loaded the model.
        device: the type of the device that holds the weights.

    Raises:
        ConfigError: the model is on a GPU, and was loaded before this process was forked.
    """
    if device != "cpu" and loaded_in != os.getpid():
        raise ConfigError(
            f"the model is on {device!r} and was loaded before this process was forked: a GPU cannot be used by a "
            "forked process. Load the model in each process, and start processes with the method 'spawn'"
        )


def _after_fork() -> None:
    """Make the forked process able to compute."""
    global _is_forked
    for lock in list(_locks):
        lock.renew()
    for owner in list(_abandoning):
        owner.abandon()
    if _model_was_loaded:
        _is_forked = True
        # OpenMP's threads do not exist here, and a computation that waits for them never ends. The workers of torch's
        # own DataLoader do the same (torch/utils/data/_utils/worker.py). A process without torch needs no such care.
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
