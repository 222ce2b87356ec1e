"""The progress of a long command: a bar on a terminal, else occasional lines on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from jclip_connectors.cli.terminal import is_terminal, say
from jclip_connectors.errors import ConnectorError
from jclip_connectors.indexing import Progress

_LINES = 10  # of progress, if there is no terminal for a bar
_SECONDS_PER_LINE = 5.0  # a long run prints more than `_LINES`, one every 5 s


@contextmanager
def progress(*, unit: str = "files") -> Iterator[Progress]:
    """Show the progress, speed and remaining time of a run: a bar on a terminal, else occasional lines.

    Args:
        unit: the plural of what is counted.
    """
    console = Console(stderr=True)
    start = time.monotonic()
    if is_terminal(sys.stderr):
        with Bar(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total: bar.update(
                task, completed=done, total=total, description=_pace(done, total, time.monotonic() - start, unit)
            )
        return
    last_s, last_done = start - _SECONDS_PER_LINE, 0  # the first line comes at once

    def line(done: int, total: int) -> None:
        nonlocal last_s, last_done
        now = time.monotonic()
        if now - last_s >= _SECONDS_PER_LINE or done - last_done >= total / _LINES or done == total:
            last_s, last_done = now, done
            say(f"{done} of {total} {unit}, {_pace(done, total, now - start, unit)}")

    yield line


@contextmanager
def resumable_progress(*, unit: str) -> Iterator[Progress]:
    """Show the progress of a run that a second one continues; after an error of ours, say how far it came."""
    reached, total = 0, 0
    try:
        with progress(unit=unit) as show:

            def tell(done: int, of: int) -> None:
                nonlocal reached, total
                reached, total = done, of
                show(done, of)

            yield tell
    except ConnectorError:
        if reached:
            say(f"stopped after {reached} of {total} {unit}, which are kept: the same command continues from there")
        raise


def _pace(done: int, total: int, passed_s: float, unit: str) -> str:
    if done == 0 or passed_s <= 0:
        return "-"
    left = timedelta(seconds=round(passed_s * (total - done) / done))
    return f"{done / passed_s:.1f} {unit}/s, {left} left"
