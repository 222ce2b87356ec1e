"""One file: what kind it is, its text, the metadata of its record, and whether it is as it was when it was indexed."""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_encoder.image_formats import EXTRAS_OF_SUFFIXES, readable_suffixes
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image
from jclip_connectors.port import Record
from jclip_connectors.store_kit.blank_text import is_blank

IMAGE_SUFFIXES = readable_suffixes()
"""The suffixes, in lower case, of files that are indexed as images: those that the installed packages can decode."""
TEXT_SUFFIXES = frozenset({".txt", ".md"})
"""The suffixes, in lower case, of files that are indexed as texts."""
NEEDED_EXTRAS = EXTRAS_OF_SUFFIXES
"""The extra that reads pictures with these suffixes, if it is not installed."""
MAX_TEXT_BYTES = 2**20  # many times the model's limit; a larger file is data rather than a document
"""The size of the largest text file that is indexed."""

# A file that is changed twice within one step of its file system's clock keeps its time: FAT counts steps of 2 s, and a
# file system may be a moment behind this machine's clock.
_SETTLED_NS = 3 * 10**9

_MARKS = (  # the marks of UTF-32 first, because one of them begins with a mark of UTF-16
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_UPPER_HALVES = frozenset(range(0x20)) - frozenset(b"\t\n\r")
_WIDE_PART, _SHORTEST_WIDE, _SAMPLE_BYTES = 0.6, 4, 4096


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file or folder that could not be indexed.

    Attributes:
        path: its path.
        error: the reason.
    """

    path: str
    error: str


def describe_file(path: Path) -> dict[str, Any]:
    """The metadata of a file's record, for filters; the hash of its content is added later.

    `modified_ns` is in it only if no later change can have the same time, so that `is_unchanged` may trust it.

    Raises:
        EmbedInputError: the path is not a regular file, or its name is not Unicode.
        OSError: the file does not exist or cannot be read.
    """
    now_ns = time.time_ns()  # before the file is looked at: a change after that is newer
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise EmbedInputError("it is not a regular file, but a folder, a device or a pipe")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise EmbedInputError("its name is not Unicode: rename it") from error
    metadata = {
        "path": str(path),
        "name": path.name,
        "folder": str(path.parent),
        "suffix": path.suffix.lower(),
        "size_bytes": status.st_size,
        "modified_s": int(status.st_mtime),
    }
    if status.st_mtime_ns < now_ns - _SETTLED_NS:
        metadata["modified_ns"] = status.st_mtime_ns
    return metadata


def is_unchanged(status: os.stat_result, record: Record) -> bool:
    """Whether a file has the size and the time of modification that it had when its record was made.

    Args:
        status: of the file.
        record: the record with the file's path as its id.
    """
    known = record.metadata
    return (
        known.get("modified_ns") == status.st_mtime_ns
        and known.get("size_bytes") == status.st_size
        and is_of_a_file(record)
        and stat.S_ISREG(status.st_mode)
    )


def is_still_of(record: Record) -> bool:
    """Whether a picture's file has the content that was hashed for its new record.

    If this is true after the model has seen the picture, the vector and the hash are of the same content. Where the
    time cannot tell, the file is hashed again.
    """
    try:
        if "modified_ns" in record.metadata:
            return is_unchanged(os.stat(record.record_id), record)  # noqa: PTH116 (for each picture of a run)
        return bool(describe_image(Path(record.record_id))["content_hash"] == record.content_hash)
    except (OSError, EmbedInputError):
        return False


def is_of_a_file(record: Record) -> bool:
    """Whether `index_files` made a record; the records of other programs are never removed."""
    return record.metadata.get("path") == record.record_id


def is_gone(path: str) -> bool:
    """Whether a file certainly does not exist; a file in an unreadable folder may exist."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def how_to_read(suffix: str) -> str:
    """What has to be installed before pictures with a suffix of `NEEDED_EXTRAS` can be read."""
    return f"needs pip install 'jclip-connectors[{NEEDED_EXTRAS[suffix]}]'"


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32 with the mark that tells them.

    Raises:
        EmbedInputError: the file is too large, is not such a text, or is empty.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise EmbedInputError(f"the text is larger than {MAX_TEXT_BYTES} bytes: split it into documents")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and _looks_wide(content):
        raise EmbedInputError("it looks like UTF-16 or UTF-32 without a byte order mark: save it as UTF-8")
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            name = encoding.upper()
            raise EmbedInputError(f"it has the mark of {name}, but is not text in {name}: {error.reason}") from error
        raise EmbedInputError(f"it is not text in UTF-8: byte {error.start} is {content[error.start]:#04x}") from error
    if is_blank(text):
        raise EmbedInputError("the text is empty")
    return text


def _looks_wide(content: bytes) -> bool:
    """Whether every other byte is a control, as the upper halves of letters below U+2000 are in UTF-16 and UTF-32."""
    return len(content) >= _SHORTEST_WIDE and any(
        sum(byte in _UPPER_HALVES for byte in half) > _WIDE_PART * len(half)
        for half in (content[0:_SAMPLE_BYTES:2], content[1:_SAMPLE_BYTES:2])
    )
