"""One file: what kind it is, its text, and the metadata of its record."""

import stat
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jclip_connectors.errors import EmbedInputError

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp", ".dib",
    }
)  # fmt: skip
"""The suffixes, in lower case, of files that are indexed as images."""
TEXT_SUFFIXES = frozenset({".txt", ".md"})
"""The suffixes, in lower case, of files that are indexed as texts."""
NEEDED_EXTRAS = MappingProxyType(
    {
        **dict.fromkeys((".heic", ".heif", ".hif"), "heif"),
        **dict.fromkeys(
            (
                ".jxl", ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos",
                ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
            ),
            "raw",
        ),
    }
)  # fmt: skip
"""The extra that reads pictures with these suffixes."""
MAX_TEXT_BYTES = 2**20  # many times the model's limit; a larger file is data rather than a document
"""The size of the largest text file that is indexed."""


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

    Raises:
        EmbedInputError: the path is not a regular file, or its name is not Unicode.
        OSError: the file does not exist or cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise EmbedInputError("it is not a regular file, but a folder, a device or a pipe")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise EmbedInputError("its name is not Unicode: rename it") from error
    return {
        "path": str(path),
        "name": path.name,
        "folder": str(path.parent),
        "suffix": path.suffix.lower(),
        "size_bytes": status.st_size,
        "modified_s": int(status.st_mtime),
    }


def how_to_read(suffix: str) -> str:
    """What has to be installed before pictures with a suffix of `NEEDED_EXTRAS` can be read."""
    return f"needs pip install 'jclip-connectors[{NEEDED_EXTRAS[suffix]}]'"


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        EmbedInputError: the file is too large, is not text in UTF-8, or is empty.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise EmbedInputError(f"the text is larger than {MAX_TEXT_BYTES} bytes: split it into documents")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmbedInputError(f"it is not text in UTF-8: byte {error.start} is {content[error.start]:#04x}") from error
    if not text.strip():
        raise EmbedInputError("the text is empty")
    return text
