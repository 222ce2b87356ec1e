"""Files that are being written under another name, and what is left of them when their writer dies.

A writer holds a lock on its file, which the operating system releases when the process ends: a file without a lock is
of nobody. Where files cannot be locked, they are left.
"""

import contextlib
import glob
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":  # without these locks: nothing is removed

    def _lock(descriptor: int, *, wait: bool = False) -> bool:  # noqa: ARG001
        """Nobody can tell."""
        return False

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool = False) -> bool:
        """Lock an open file; false if another process has done so and we do not wait, or it cannot be locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def temporary_file(folder: Path, name: str) -> Iterator[Path]:
    """Make an empty file in a folder, which is made as well; it is removed at the end, unless it was renamed.

    Args:
        folder: for files that are not complete.
        name: that the file will have; its own name begins with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        path = folder / f"{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        _lock(descriptor, wait=True)  # others hold it for a moment, to see whether it is locked
        if path.exists():
            break
        os.close(descriptor)  # `remove_leftovers` of another process came between these two steps
    try:
        yield path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def count_writers(folder: Path, name: str) -> int:
    """How many living processes are writing a file of this name, as far as files can be locked there."""
    return sum(not _lock_for_a_moment(path) for path in folder.glob(f"{glob.escape(name)}.*.*"))


def remove_leftovers(folder: Path, *, kept: str) -> None:
    """Remove what writers that died have left in a folder.

    Args:
        folder: for files that are not complete; it need not exist.
        kept: the suffix of files that are not removed.
    """
    for path in folder.glob("*"):
        if path.suffix != kept:
            _lock_for_a_moment(path, remove=True)


def _lock_for_a_moment(path: Path, *, remove: bool = False) -> bool:
    """Lock a file, and remove it meanwhile; false if a living process has locked it, or it cannot be locked."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:  # it is complete by now, or another user's
        return True
    try:
        locked = _lock(descriptor)
        if locked and remove:
            path.unlink(missing_ok=True)
        return locked
    finally:
        os.close(descriptor)
