"""A private copy of the engine's files, for a reader: the engine can load only files that it may change.

The copy is as a killed process would leave the files: what the log has and the other files lack is done again when the
copy is loaded, in the copy. Files that the engine only reads are linked, not copied. The files are sparse: a
collection of 7 MB has files of 180 MB, and only what is in them is copied.
"""

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jclip_connectors.edge.locks import shard_lock
from jclip_connectors.errors import StoreRequestError, StoreUnavailableError

# Vectors and graphs of a collection with an index: the engine opens these files for reading alone (seen with 0.9).
_READ_ONLY_FILES = frozenset({"matrix.dat", "links_compressed.bin"})
_PIECE_BYTES = 2**20


@contextmanager
def copied_shard(folder: Path) -> Iterator[Path]:
    """A copy of the shard of a collection, in a temporary folder that is deleted at the end.

    The collection is locked against changes until the files are copied; call `copied_shard` inside `engine_errors`.

    Raises:
        StoreRequestError: there is no collection in `folder`.
        StoreUnavailableError: the disk of temporary files has no room, or an older version of this package has the
            collection open.
    """
    shard = folder / "shard"
    if not shard.is_dir():
        raise StoreRequestError(f"there is no collection in {str(folder)!r}: nothing to read")
    with tempfile.TemporaryDirectory(prefix="jclip-", ignore_cleanup_errors=True) as temporary:
        copy = Path(temporary) / "shard"
        with shard_lock(folder, shared=True):
            _check_room(shard, Path(temporary))
            _copy(shard, copy)
        yield copy


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    # The log first: what is in it and also in the files, which are copied later, does no harm.
    for entry in sorted(source.iterdir(), key=lambda entry: (entry.name != "wal", entry.name)):
        if entry.is_dir():
            _copy(entry, target / entry.name)
        elif entry.name in _READ_ONLY_FILES:
            (target / entry.name).symlink_to(entry.resolve())
        else:
            _copy_sparse(entry, target / entry.name)


def _copy_sparse(source: Path, target: Path) -> None:
    if sys.platform == "win32":
        shutil.copyfile(source, target)
        return
    with source.open("rb") as read, target.open("xb") as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        end = 0
        while end < size:
            try:
                start = os.lseek(read.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no more data
                    return
                raise
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            read.seek(start)
            written.seek(start)
            while start < end:
                start += written.write(read.read(min(_PIECE_BYTES, end - start)))


def _check_room(shard: Path, place: Path) -> None:
    needed = sum(
        _used_bytes(path.stat()) for path in shard.rglob("*") if path.is_file() and path.name not in _READ_ONLY_FILES
    )
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StoreUnavailableError(
            f"reading {str(shard.parent)!r} needs a copy of {needed} bytes, and the disk of {str(place.parent)!r} "
            f"has {free}: make room, or set TMPDIR to a folder on another disk"
        )


def _used_bytes(stat: os.stat_result) -> int:
    return stat.st_size if sys.platform == "win32" else stat.st_blocks * 512
