"""The progress of `jclip embed`: a line every ten seconds, for people on stderr or as JSON on stdout."""

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from jclip_connectors.cli.terminal import say

if TYPE_CHECKING:
    from jclip_connectors.bulk.embedding import EmbedProgress

_SECONDS_PER_LINE = 10.0
_SPEED_S = 300.0  # the time over which the speed is told
_STALLED = 2  # the exit code


class EmbedLines:
    """Tells how far a job is."""

    def __init__(self, *, as_json: bool) -> None:
        """Begin the time.

        Args:
            as_json: print an object a line, on stdout.
        """
        self._as_json = as_json
        self._past: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])  # time, rows of this run
        self._told_s = time.monotonic()
        self.moved_s = time.monotonic()
        self._now: EmbedProgress | None = None
        self._before = 0  # rows that were there
        self._inside = self._inside_failed = 0  # rows of the shard that is being embedded

    def shard(self, now: "EmbedProgress") -> None:
        """A shard is done, or the first one begins."""
        self.moved_s = time.monotonic()
        if self._now is None:
            self._before = now.rows
        self._now, self._inside, self._inside_failed = now, 0, 0
        self._maybe_tell()

    def rows(self, rows: int, failed: int) -> None:
        """A batch of a shard is done."""
        self.moved_s = time.monotonic()
        self._inside, self._inside_failed = self._inside + rows, self._inside_failed + failed
        self._maybe_tell()

    def end(self) -> None:
        """Tell where it has ended."""
        if self._now is not None:
            self._tell(self._now, time.monotonic())

    def _maybe_tell(self) -> None:
        at_s = time.monotonic()
        if self._now is not None and at_s - self._told_s >= _SECONDS_PER_LINE:
            self._tell(self._now, at_s)

    def _tell(self, now: "EmbedProgress", at_s: float) -> None:
        self._told_s = at_s
        while len(self._past) > 1 and at_s - self._past[0][0] > _SPEED_S:
            self._past.popleft()
        since_s, earlier = self._past[0]
        rows, failed = now.rows + self._inside, now.failed + self._inside_failed
        self._past.append((at_s, rows - self._before))
        speed = (rows - self._before - earlier) / max(at_s - since_s, 1e-9)
        left_s = None if not speed or now.of_rows is None else max(0, round((now.of_rows - rows) / speed))
        if self._as_json:
            values = {
                "shards": now.shards,
                "of_shards": now.of_shards,
                "rows": rows,
                "of_rows": now.of_rows,
                "failed": failed,
                "rows_per_s": round(speed, 1),
                "left_s": left_s,
            }
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
            return
        of_rows = "" if now.of_rows is None else f" of {now.of_rows}"
        bad = f", {failed} failed" if failed else ""
        left = "" if left_s is None else f", {timedelta(seconds=left_s)} left"
        say(f"{now.shards} of {now.of_shards} shards, {rows}{of_rows} rows{bad}, {speed:.1f} rows/s{left}")


@contextmanager
def ended_if_stalled(lines: EmbedLines, *, seconds: float | None) -> Iterator[None]:
    """End this process with exit code 2 if nothing is done for so long: what hangs may not hear an exception.

    Args:
        lines: know when something was done.
        seconds: `None` waits for ever.
    """
    if seconds is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(max(0.0, lines.moved_s + seconds - time.monotonic())):
            if time.monotonic() - lines.moved_s >= seconds:
                say(
                    f"error: nothing was done for {seconds:g} s (--stalled); what is done is "
                    "kept, and the same command goes on",
                    style="red",
                )
                os._exit(_STALLED)

    threading.Thread(target=watch, name="jclip-stalled", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
