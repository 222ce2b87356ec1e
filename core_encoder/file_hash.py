"""The SHA-256 of a large file, remembered as long as the file does not change."""

import functools
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

from core_encoder.cache import cache_folder
from core_encoder.errors import ConfigError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEMBERED_BYTES = 64 * 2**20  # a smaller file is read as fast as it is looked up


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content: 64 hex digits.

    The hub's cache names a large file by this hash. The hash of any other large file is kept in `cache_folder()` with
    the file's size, time of change and inode, and computed again when one of them differs.

    Raises:
        OSError: the file cannot be read.
    """
    path = path.resolve()
    if path.parent.name == "blobs" and _SHA256.fullmatch(path.name):
        return path.name
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=16)
def _hash(path: Path, size_bytes: int, mtime_ns: int, inode: int) -> str:
    if size_bytes < _REMEMBERED_BYTES:
        return _compute(path)
    state: list[object] = [str(path), size_bytes, mtime_ns, inode]
    try:
        folder = cache_folder() / "hashes"
    except ConfigError:  # without a home folder, each process computes the hash again
        return _compute(path)
    note = folder / hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()
    found = _recall(note, state)
    if found is None:
        found = _compute(path)
        _remember(note, state, found)
    return found


def _compute(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recall(note: Path, state: list[object]) -> str | None:
    try:
        value = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict) or value.get("file") != state or not isinstance(value.get("sha256"), str):
        return None
    found: str = value["sha256"]
    return found if _SHA256.fullmatch(found) else None


def _remember(note: Path, state: list[object], found: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=note.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"file": state, "sha256": found}, file)
        Path(temporary).replace(note)
    except OSError:  # a full or read-only disk: the next process computes the hash again
        return
