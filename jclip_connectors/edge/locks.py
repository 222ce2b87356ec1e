"""Locks on the folders of a collection; the operating system releases them when a process ends.

    photos.jclip/    locked by the process that may write, from opening to closing
    photos.jclip/shard/    locked during each change of the files; readers that copy the files share this lock

The engine has a lock of its own, on `shard/wal`. It takes this lock only after it has opened and repaired the other
files: a second process that loads a collection changes the files of the first one, and is refused afterwards. So the
collection's folder is locked first, and nothing is loaded while another process holds either lock.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jclip_connectors.errors import StoreUnavailableError

_BUSY = "it is open elsewhere, in this process or another: close it there first, or open it with `read_only=True`"

if sys.platform == "win32":  # without these locks: folders cannot be locked

    @contextmanager
    def folder_lock(folder: Path) -> Iterator[None]:  # noqa: ARG001
        """Do nothing."""
        yield

    @contextmanager
    def shard_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:  # noqa: ARG001
        """Do nothing."""
        yield

else:
    import fcntl

    @contextmanager
    def folder_lock(folder: Path) -> Iterator[None]:
        """Lock a collection for the only process that may write to it.

        Raises:
            StoreUnavailableError: the collection is open elsewhere.
        """
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB, whose=folder):
            # Another version of this package, or another program, locks nothing but the log.
            with suppress(FileNotFoundError), _locked(folder / "shard" / "wal", fcntl.LOCK_EX | fcntl.LOCK_NB, folder):
                pass
            yield

    @contextmanager
    def shard_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
        """Lock the files of the engine for a change; `shared` is for reading: wait until no change is going on."""
        if not (folder / "shard").is_dir():
            yield  # nothing to protect yet, and whoever makes it has locked the folder
            return
        with _locked(folder / "shard", fcntl.LOCK_SH if shared else fcntl.LOCK_EX, whose=folder):
            yield

    @contextmanager
    def _locked(path: Path, kind: int, whose: Path) -> Iterator[None]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, kind)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                    raise
                raise StoreUnavailableError(f"{str(whose)!r}: {_BUSY}") from error
            yield
        finally:
            os.close(descriptor)
