"""What a file is by its first bytes, whatever its name says; for files with a wrong suffix or none."""

import re
import stat
from pathlib import Path

from core_encoder.image_formats import is_known
from core_encoder.optional_formats import find_optional

HEAD_BYTES = 64

# The mark of BMP is two letters, with which a text may begin: its reserved zeros and the size of its second header are
# compared as well.
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)
_OTHERS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    (
        "a pointer of Git LFS in the place of the file: `git lfs pull` fetches the file",
        re.compile(rb"version https://git-lfs\.github\.com/"),
    ),
    (
        "a pointer of git-annex in the place of the file: `git annex get` fetches the file",
        re.compile(rb"/annex/objects/"),
    ),
    ("a video", re.compile(rb".{4}(ftyp|moov|mdat|wide)|\x1a\x45\xdf\xa3|RIFF.{4}AVI ", re.DOTALL)),
    ("a PDF document", re.compile(rb"%PDF-")),
    ("an SVG drawing", re.compile(rb"\s*(<\?xml[^>]*>\s*)?<svg", re.IGNORECASE)),
    ("a web page", re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)),
    ("a ZIP archive", re.compile(rb"PK\x03\x04")),
    ("a Photoshop document", re.compile(rb"8BPS\0\x01")),
)


def read_head(path: Path) -> bytes:
    """The first bytes of a regular file; empty for anything else, and for a file that cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def is_picture(head: bytes) -> bool:
    """Whether these are the first bytes of a picture that can be decoded, perhaps after a package is installed."""
    return is_known(head) and (not head.startswith(b"BM") or _BMP.match(head) is not None)


def is_readable(head: bytes) -> bool:
    """Whether these are the first bytes of a picture that the installed packages can decode."""
    optional = find_optional(head)
    return is_picture(head) and (optional is None or optional.is_installed())


def is_pointer(head: bytes) -> bool:
    """Whether these are the first bytes of a small text that stands for a file that was not fetched."""
    return any(pattern.match(head) for _, pattern in _OTHERS[:2])


def what_it_is(head: bytes) -> str | None:
    """What a file that is no readable picture or text is, to read after "it is"; `None` if it is not known."""
    if head and not head.strip(b"\0"):
        return "a file of zeros, as an interrupted copy leaves it"
    return next((name for name, pattern in _OTHERS if pattern.match(head)), None)
