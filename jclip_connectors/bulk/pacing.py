"""How fast threads write: how many at a time, and how many records a second."""

import threading
from collections.abc import Callable
from types import TracebackType

_MINUTE_S = 60.0
_ONE_REFUSAL_S = 1.0  # several refusals within it are one: the writers were refused together


class Turns:
    """Lets some threads write at a time: half as many after a store says that it is busy, and one more each minute."""

    def __init__(self, most: int, *, clock: Callable[[], float]) -> None:
        """Let `most` threads write; `clock` gives seconds."""
        self._most = most
        self._clock = clock
        self._fewest = most  # how many it were right after it was halved
        self._halved_s = clock()
        self._writing = 0
        self._free = threading.Condition()

    def allowed(self) -> int:
        """How many threads may write now."""
        return min(self._most, self._fewest + int((self._clock() - self._halved_s) / _MINUTE_S))

    def halve(self) -> None:
        """The store has said that it is busy."""
        with self._free:
            if self._fewest < self._most and self._clock() - self._halved_s < _ONE_REFUSAL_S:
                return
            self._fewest, self._halved_s = max(1, self.allowed() // 2), self._clock()

    def __enter__(self) -> None:
        """Wait for a turn."""
        with self._free:
            while self._writing >= self.allowed():
                self._free.wait(_ONE_REFUSAL_S)  # there may be more turns after a minute
            self._writing += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the turn to another thread."""
        with self._free:
            self._writing -= 1
            self._free.notify()


class Rate:
    """Holds threads back so that they write at most so many records a second, together."""

    def __init__(self, per_s: float, *, clock: Callable[[], float], wait: Callable[[float], None]) -> None:
        """Allow `per_s` records a second."""
        self._per_s = per_s
        self._clock = clock
        self._wait = wait
        self._next_s = clock()
        self._lock = threading.Lock()

    def wait_for(self, records: int) -> None:
        """Wait until so many records may be written."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next_s)
            self._next_s = start + records / self._per_s
        if start > now:
            self._wait(start - now)
