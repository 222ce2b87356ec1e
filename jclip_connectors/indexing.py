"""Indexing folders of pictures and texts: find the files, add them in chunks, and find records of deleted files.

A file's id is its absolute path, so every file is one record, even if a run is interrupted and repeated. The collection
compares the hash of a file's content to find changes.
"""

import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_connectors.collection import AddReport, MultimodalCollection
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import VectorStore

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_TEXT_BYTES",
    "TEXT_SUFFIXES",
    "BadFile",
    "Found",
    "IndexReport",
    "find_files",
    "find_missing",
    "index_files",
]

_LOG = logging.getLogger(__name__)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp"})
"""The suffixes, in lower case, of files that are indexed as images."""
TEXT_SUFFIXES = frozenset({".txt", ".md"})
"""The suffixes, in lower case, of files that are indexed as texts."""
MAX_TEXT_BYTES = 2**20  # many times the model's limit; a larger file is data rather than a document
"""The size of the largest text file that is indexed."""

Progress = Callable[[int, int], None]  # (done, total) files, after every chunk


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file or folder that could not be indexed.

    Attributes:
        path: its path.
        error: the reason.
    """

    path: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of `find_files`.

    Attributes:
        roots: the folders and files that were passed, as absolute paths.
        files: every file to index, once, in a stable order.
        failed: folders that cannot be read, and passed files of another kind.
    """

    roots: tuple[Path, ...]
    files: tuple[Path, ...]
    failed: tuple[BadFile, ...]


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """The result of one run.

    Attributes:
        indexed: the number of files that were embedded and written.
        unchanged: the number of files that the collection already had with the same content.
        failed: files that could not be read; the record of an earlier version is kept.
    """

    indexed: int
    unchanged: int
    failed: tuple[BadFile, ...]


def find_files(roots: Sequence[str | Path]) -> Found:
    """Find the pictures and texts in folders and their subfolders.

    Hidden files and folders, and links to folders, are left out, unless they are passed in `roots`. A file with two
    names is found twice.

    Args:
        roots: folders and files; a root that is repeated or inside another one counts once.

    Raises:
        EmbedInputError: a file or folder does not exist.
    """
    files: dict[Path, None] = {}  # an ordered set
    failed: list[BadFile] = []
    absolute = [_absolute(Path(root)) for root in roots]
    for root in absolute:
        if root.is_dir():
            files.update(dict.fromkeys(_walk(root, failed)))
        elif root.suffix.lower() in IMAGE_SUFFIXES | TEXT_SUFFIXES:
            files[root] = None
        else:
            failed.append(BadFile(path=str(root), error=f"the type is not one of {_allowed()}"))
    return Found(roots=tuple(absolute), files=tuple(files), failed=tuple(failed))


def index_files(
    collection: MultimodalCollection, files: Sequence[Path], *, chunk_size: int = 32, progress: Progress | None = None
) -> IndexReport:
    """Add files to a collection in chunks; finished chunks survive a killed process.

    Args:
        collection: the collection.
        files: absolute paths.
        chunk_size: the number of files that are processed and in memory at a time.
        progress: called with (done, total) before the first and after every chunk.
    """
    indexed = unchanged = 0
    failed: list[BadFile] = []
    if progress is not None:
        progress(0, len(files))
    for start in range(0, len(files), chunk_size):
        chunk = files[start : start + chunk_size]
        for report in _add_chunk(collection, chunk, failed):
            indexed += report.embedded
            unchanged += len(report.ids) - report.embedded
        if progress is not None:
            progress(start + len(chunk), len(files))
    return IndexReport(indexed=indexed, unchanged=unchanged, failed=tuple(failed))


def find_missing(store: VectorStore, found: Found, report: IndexReport) -> list[str]:
    """The ids of records from these roots whose file no longer exists.

    It reads every record, unless the number of records shows that all are from this run.

    Args:
        store: the store of the records.
        found: the result of `find_files`.
        report: the result of `index_files` for these files.
    """
    if store.count() == report.indexed + report.unchanged:
        return []
    present = {str(path) for path in found.files}
    return [
        record.record_id
        for record in store.scroll()
        if record.record_id not in present
        and record.metadata.get("path") == record.record_id  # otherwise another program made this record
        and any(Path(record.record_id).is_relative_to(root) for root in found.roots)
        and _is_gone(record.record_id)
    ]


def _absolute(root: Path) -> Path:
    try:
        # A link to a folder is resolved; a link to a file keeps its own name.
        return root.resolve(strict=True) if root.is_dir() else root.parent.resolve(strict=True) / _existing(root).name
    except (OSError, RuntimeError, ValueError) as error:
        raise EmbedInputError(f"the file or folder {str(root)!r} does not exist or cannot be read: {error}") from error


def _existing(path: Path) -> Path:
    path.stat()
    return path


def _walk(root: Path, failed: list[BadFile]) -> Iterator[Path]:
    def report(error: OSError) -> None:
        failed.append(BadFile(path=str(error.filename), error=f"the folder cannot be read: {error.strerror}"))

    for folder, subfolders, names in os.walk(root, onerror=report):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES | TEXT_SUFFIXES:
                yield path
            else:
                _LOG.debug("left out, because it is hidden or neither a picture nor a text: %r", str(path))


def _add_chunk(collection: MultimodalCollection, chunk: Sequence[Path], failed: list[BadFile]) -> Iterator[AddReport]:
    images: dict[Path, dict[str, Any]] = {}  # the metadata of each image
    texts: dict[Path, dict[str, Any]] = {}
    contents: list[str] = []
    for path in chunk:
        try:
            metadata = _describe(path)
            if path.suffix.lower() in TEXT_SUFFIXES:
                contents.append(_read_text(path))
                texts[path] = metadata
            else:
                images[path] = metadata
        except EmbedInputError as error:
            failed.append(BadFile(path=str(path), error=str(error)))
        except OSError as error:
            failed.append(BadFile(path=str(path), error=f"it cannot be read: {error.strerror}"))
    if images:
        report = collection.add_images(list(images), list(images.values()), list(map(str, images)))
        paths = list(images)
        failed += [BadFile(path=str(paths[at]), error=str(error)) for at, error in report.failed.items()]
        yield report
    if texts:
        yield collection.add_texts(contents, list(texts.values()), list(map(str, texts)))


def _describe(path: Path) -> dict[str, Any]:
    """The metadata of a file's record, for filters."""
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


def _read_text(path: Path) -> str:
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


def _is_gone(path: str) -> bool:
    """Whether a file certainly does not exist; a file in an unreadable folder may exist."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _allowed() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES) + sorted(TEXT_SUFFIXES))
