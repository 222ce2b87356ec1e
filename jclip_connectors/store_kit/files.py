"""Atomic replacement of files."""

import errno
import os
import uuid
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: a reader sees the old content or the new content.

    The content is written to a temporary file in the same folder, which is then renamed. If `path` is a symbolic link,
    the target of the link is replaced.

    Raises:
        OSError: the file cannot be written, or is a device or a pipe; the old file is unchanged.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    written = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with written.open("xb") as file:  # not `tempfile`: only the owner may read its files
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
