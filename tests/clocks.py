"""A clock for tests of waits: it goes on when somebody waits."""

import asyncio
import threading

import pytest

from jclip_connectors.store_kit import async_flows, patience


class Clock:
    """Stands for the modules `time` and `asyncio`; `waited` are the waits, in seconds."""

    def __init__(self):
        self.waited: list[float] = []
        self.now_s = 1000.0
        self._lock = threading.Lock()

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        with self._lock:
            self.waited.append(seconds)
            self.now_s += seconds


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
    monkeypatch.setattr(async_flows, "asyncio", _Asyncio(clock))
    return clock
