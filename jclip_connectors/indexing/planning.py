"""What is to be done for each file: skip it, read it, write its record with known vectors, or embed it.

A file that has the size and the time of modification that its record says is not read. The others are read and hashed
in chunks: a chunk costs one request for records with equal content, and one more where metadata has changed.
"""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_connectors.collection.adding import Draft
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.indexing.files import TEXT_SUFFIXES, BadFile, describe_file, is_unchanged, read_text
from jclip_connectors.indexing.first_bytes import is_picture, is_pointer, read_head, what_it_is
from jclip_connectors.indexing.ledger import Ledger

_WINDOW_FILES = 1000  # whose records are looked up at once
_WINDOW_TEXT_BYTES = 2**24  # of these files, as the record of a text has the text
_TEXT_ENDINGS = tuple(TEXT_SUFFIXES)
_READERS = 4  # threads that read and hash files: a drive or a network answers several requests sooner than one by one


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is known of some files.

    Attributes:
        new: files that have to be embedded; the others are done.
        unchanged: the number of files whose records have their content.
        reused: the number of files whose records have been given the vectors of a record with the same content.
        failed: files that cannot be read.
    """

    new: tuple[Draft, ...] = ()
    unchanged: int = 0
    reused: int = 0
    failed: tuple[BadFile, ...] = ()


def plan(files: Sequence[str], ledger: Ledger, *, chunk_size: int, verify_content: bool) -> Generator[Step, None, None]:
    """Find out what is to be done for each file, in order.

    A file whose content equals that of one on its way is left out of `new`: `ledger` writes its record with that one's.

    Args:
        files: absolute paths.
        ledger: the records.
        chunk_size: the number of files that are read at a time.
        verify_content: read and hash every file, also one that has its record's size and time.
    """
    with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="jclip-hash") as pool:
        for window in _windows(files):
            stored = ledger.find([path for path, status in window.items() if status is not None])
            rest = [
                path
                for path, status in window.items()
                if verify_content or status is None or path not in stored or not is_unchanged(status, stored[path])
            ]
            if len(rest) < len(window):
                yield Step(unchanged=len(window) - len(rest))
            for start in range(0, len(rest), chunk_size):
                read = list(pool.map(_read, rest[start : start + chunk_size]))
                drafts = [found for found in read if isinstance(found, Draft)]
                failed = tuple(found for found in read if isinstance(found, BadFile))
                new, unchanged, reused = ledger.sort_out(drafts, stored)
                yield Step(new=tuple(new), unchanged=unchanged, reused=reused, failed=failed)


def _windows(files: Sequence[str]) -> Iterator[dict[str, os.stat_result | None]]:
    """Look at files without reading them; `None` stands for a file that cannot be looked at."""
    window: dict[str, os.stat_result | None] = {}
    text_bytes = 0
    for path in files:
        try:
            path.encode()  # else no store can have it as an id
            status = os.stat(path)  # noqa: PTH116 (a Path for each of a million files costs seconds)
        except (OSError, UnicodeEncodeError):
            window[path] = None
        else:
            window[path] = status
            text_bytes += status.st_size if path.lower().endswith(_TEXT_ENDINGS) else 0
        if len(window) == _WINDOW_FILES or text_bytes > _WINDOW_TEXT_BYTES:
            yield window
            window, text_bytes = {}, 0
    if window:
        yield window


def _read(path: str) -> Draft | BadFile:
    """Read and hash a file."""
    try:
        return _draft(Path(path))
    except EmbedInputError as error:
        return BadFile(path=path, error=str(error))
    except OSError as error:
        return BadFile(path=path, error=f"it cannot be read: {error.strerror}")


def _draft(path: Path) -> Draft:
    metadata = describe_file(path)
    head = read_head(path)
    if is_pointer(head):
        raise EmbedInputError(f"it is {what_it_is(head)}")
    if path.suffix.lower() in TEXT_SUFFIXES and not is_picture(head):
        text = read_text(path)
        return _with_metadata(text, describe_text(text), metadata)
    return _with_metadata(path, describe_image(path), metadata)


def _with_metadata(source: str | Path, fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> Draft:
    described = {**metadata, "content_hash": fields["content_hash"]}
    return Draft(source=source, fields={**fields, "record_id": metadata["path"], "metadata": described})
