"""What records were made from, found again: the text in the record, the file at its address, or a moved file."""

import os
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image
from jclip_connectors.port import Record

_FILE_URL = "file://"


@dataclass(frozen=True, kw_only=True)
class FoundSource:
    """What a record was made from.

    Attributes:
        content: the text, or the bytes of the picture.
        uri: where the picture is now; `None` for a text.
        moved: whether that is not where the record says.
    """

    content: str | bytes
    uri: str | None = None
    moved: bool = False


def check_folders(look_in: Sequence[Path]) -> None:
    """Refuse a folder that does not exist.

    Raises:
        EmbedInputError: there is no such folder.
    """
    for folder in look_in:
        if not folder.is_dir():
            raise EmbedInputError(f"there is no folder {str(folder)!r} to look for moved pictures in")


class SourceFinder:
    """Finds what records were made from.

    A picture is what its hash says: a file at the record's address with other content is not it. Where a record has no
    hash, its picture is the file at its address.
    """

    def __init__(self, look_in: Sequence[Path], *, most_bytes: int) -> None:
        """Keep the folders; they are read when a picture is missed for the first time.

        Args:
            look_in: folders with pictures that are no longer where their records say.
            most_bytes: of a picture that is read.

        Raises:
            EmbedInputError: a folder does not exist.
        """
        check_folders(look_in)
        self._look_in = look_in
        self._most_bytes = most_bytes
        self._by_size: dict[int, list[Path]] | None = None
        self._by_hash: dict[str, Path] = {}

    def find(self, record: Record) -> FoundSource:
        """Find what a record was made from; call it from one thread at a time.

        Raises:
            EmbedInputError: it is not found; the message says why.
        """
        if record.modality == "text":
            if record.content is None:
                raise EmbedInputError("the record has no text")
            return FoundSource(content=record.content)
        problem = _no_address(record.uri)
        if problem is None:
            path = _path(str(record.uri))
            try:
                content = self._read(path, record.content_hash)
            except EmbedInputError as error:
                problem = str(error)
            else:
                return FoundSource(content=content, uri=record.uri)
        for path in self._elsewhere(record):
            try:
                content = self._read(path, record.content_hash)
            except EmbedInputError:  # it has changed since it was hashed
                continue
            return FoundSource(content=content, uri=str(path), moved=True)
        raise EmbedInputError(str(problem))

    def _read(self, path: Path, content_hash: str | None) -> bytes:
        content = None
        try:
            is_file, size = path.is_file(), path.stat().st_size
            if is_file and size <= self._most_bytes:
                content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise EmbedInputError(f"there is no file {str(path)!r}") from error
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            reason = error.strerror if isinstance(error, OSError) else error
            raise EmbedInputError(f"{str(path)!r} cannot be read: {reason}") from error
        if content is None:
            problem = f"has {size} bytes, and {self._most_bytes} are allowed" if is_file else "is no file"
            raise EmbedInputError(f"{str(path)!r} {problem}")
        if content_hash is not None and describe_image(content)["content_hash"] != content_hash:
            raise EmbedInputError(f"{str(path)!r} has other content than when it was added")
        return content

    def _elsewhere(self, record: Record) -> Iterator[Path]:
        """The files in the folders that have the content of a record."""
        if record.content_hash is None or not self._look_in:
            return
        if self._by_size is None:
            self._by_size = _files_by_size(self._look_in)
        size = record.metadata.get("size_bytes")
        sizes = [size] if isinstance(size, int) and size in self._by_size else list(self._by_size)
        for each in sizes:
            for path in self._by_size.pop(each, []):
                try:
                    self._by_hash.setdefault(str(describe_image(path)["content_hash"]), path)
                except EmbedInputError:
                    continue  # it cannot be read, so it is not what was looked for
        if record.content_hash in self._by_hash:
            yield self._by_hash[record.content_hash]


def _no_address(uri: str | None) -> str | None:
    """Why there is no file to read."""
    if uri is None:
        return "the record has no address: its picture was added as bytes, or as pixels"
    if "://" in uri and not uri.startswith(_FILE_URL):
        return "the picture is at a URL, and URLs are not downloaded"  # without the URL, which may have a password
    return None


def _path(uri: str) -> Path:
    return Path(urllib.parse.unquote(uri.removeprefix(_FILE_URL)) if uri.startswith(_FILE_URL) else uri)


def _files_by_size(folders: Sequence[Path]) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for folder in folders:
        for place, _, names in os.walk(os.path.abspath(folder)):  # noqa: PTH100 (links stay as they are)
            for name in sorted(names):
                path = Path(place, name)
                try:
                    if path.is_file():
                        found.setdefault(path.stat().st_size, []).append(path)
                except OSError:
                    continue  # it is gone, or nobody may look at it
    return found
