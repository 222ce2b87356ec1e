"""Files that appear as a whole or not at all."""

import errno
import os
import uuid
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under another name in its folder, then give it its name: a reader finds the old one or the new one.

    A link stays, and the file that it leads to is replaced.

    Raises:
        OSError: it cannot be written, or is a device or a pipe; the old one is as it was.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    written = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with written.open("xb") as file:  # not `tempfile`, whose files only their owner may read
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
