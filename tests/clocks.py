"""A clock for tests of waits: it goes on when somebody waits."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from jclip_connectors.store_kit import async_flows, patience


class Clock:
    """Stands for the modules `time` and `asyncio`; `waited` are the waits, in seconds."""

    def __init__(self):
        self.waited: list[float] = []
        self.now_s = 1000.0
        self.later: list[tuple[float, Callable[[], object]]] = []  # what happens, and when
        self._lock = threading.Lock()

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        with self._lock:
            self.waited.append(seconds)
            self.now_s += seconds
            due = [happens for at_s, happens in self.later if at_s <= self.now_s]
            self.later = [(at_s, happens) for at_s, happens in self.later if at_s > self.now_s]
        for happens in due:
            happens()


class _Asyncio:
    def __init__(self, clock):
        self._clock = clock

    async def sleep(self, seconds):
        self._clock.sleep(seconds)
        await asyncio.sleep(0)

    def __getattr__(self, name):
        return getattr(asyncio, name)


@pytest.fixture
def clock(monkeypatch):
    """Nobody waits between tries, and the clock goes on all the same."""
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(patience, "_pause", lambda _, seconds: clock.sleep(seconds))
    monkeypatch.setattr(async_flows, "asyncio", _Asyncio(clock))
    return clock
