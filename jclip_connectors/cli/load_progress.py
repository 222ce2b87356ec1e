"""The progress of `jclip load`: a line every few seconds, for people on stderr or as JSON on stdout."""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from jclip_connectors.cli.terminal import say

if TYPE_CHECKING:
    from jclip_connectors.bulk.loading import LoadProgress

_SECONDS_PER_LINE = 5.0
_SPEED_S = 300.0  # the time over which the speed is told


@contextmanager
def load_progress(*, as_json: bool) -> "Iterator[Callable[[LoadProgress], None]]":
    """Show how far a load is, every few seconds and at the end.

    Args:
        as_json: print an object a line, on stdout.
    """
    lines = _Lines(as_json=as_json)
    yield lines.tell
    lines.end()


class _Lines:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._past: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])  # time, records, files
        self._told_s = 0.0
        self._now: LoadProgress | None = None

    def tell(self, now: "LoadProgress") -> None:
        """Tell the progress, unless that was done a moment ago."""
        self._now = now
        passed_s = time.monotonic()
        if passed_s - self._told_s >= _SECONDS_PER_LINE:
            self._tell(now, passed_s)

    def end(self) -> None:
        """Tell where it has ended."""
        if self._now is not None:
            self._tell(self._now, time.monotonic())

    def _tell(self, now: "LoadProgress", at_s: float) -> None:
        self._told_s = at_s
        while len(self._past) > 1 and at_s - self._past[0][0] > _SPEED_S:
            self._past.popleft()
        since_s, records, files = self._past[0]
        self._past.append((at_s, now.written, now.files))
        passed_s = max(at_s - since_s, 1e-9)
        speed = (now.written - records) / passed_s
        done = now.files - files
        left_s = (now.of_files - now.files) * passed_s / done if done else None
        if self._as_json:
            values = {
                "files": now.files,
                "of_files": now.of_files,
                "written": now.written,
                "refused": now.refused,
                "writers": now.writers,
                "records_per_s": round(speed, 1),
                "left_s": None if left_s is None else round(left_s),
            }
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
            return
        refused = f", {now.refused} refused" if now.refused else ""
        left = "" if left_s is None else f", {timedelta(seconds=round(left_s))} left"
        loaded = f"{now.files} of {now.of_files} files"
        say(f"{loaded}, {now.written} records{refused}, {speed:.0f} records/s by {now.writers} writers{left}")
