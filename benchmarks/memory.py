"""Run a program and watch its memory: the peak of all resident pages, and of those that no file backs."""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.005


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a program printed, and its memory.

    Attributes:
        output: what it printed.
        peak_bytes: the most resident memory; pages of mapped files count, which the system may take back.
        anonymous_bytes: the most that no file backs, seen every 5 ms.
    """

    output: str
    peak_bytes: int
    anonymous_bytes: int


def watch(*arguments: str, environment: Mapping[str, str] | None = None) -> Watched:
    """Run `python ARGUMENTS` to its end (Linux).

    Args:
        *arguments: of the interpreter.
        environment: its environment variables; those of this process if `None`.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, *arguments]
    peak = anonymous = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603 - our own
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = _sizes(status.read_text(encoding="ascii"))
            peak = max(peak, found.get("VmHWM", 0))
            anonymous = max(anonymous, found.get("RssAnon", 0))
            time.sleep(_EVERY_S)
        output = process.stdout.read() if process.stdout is not None else ""
    if process.returncode != 0:
        raise SystemExit(f"`{' '.join(arguments)}` ended with {process.returncode}")
    return Watched(output=output, peak_bytes=peak, anonymous_bytes=anonymous)


def _sizes(status: str) -> dict[str, int]:
    """The lines of /proc/PID/status that are in kB, in bytes."""
    pairs = (line.partition(":") for line in status.splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, _, value in pairs}
