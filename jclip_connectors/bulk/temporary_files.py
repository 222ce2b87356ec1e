"""Files that are being written under another name, and what is left of them when their writer dies.

A writer holds a lock on its file, which the operating system releases when the process ends: a file without a lock is
of nobody. Where files cannot be locked, they are left.
"""

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":  # without these locks: nothing is removed

    def _lock(descriptor: int) -> bool:  # noqa: ARG001
        """Nobody can tell."""
        return False

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        """Lock an open file; false if another process has done so, or it cannot be locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        _lock(descriptor)
        if path.exists():
            break
        os.close(descriptor)  # `remove_leftovers` of another process came between these two steps
    try:
        yield path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, kept: str) -> None:
    """Remove what writers that died have left in a folder.

    Args:
        folder: for files that are not complete; it need not exist.
        kept: the suffix of files that are not removed.
    """
    for path in folder.glob("*"):
        if path.suffix == kept:
            continue
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:  # it is complete by now, or another user's
            continue
        try:
            if _lock(descriptor):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
