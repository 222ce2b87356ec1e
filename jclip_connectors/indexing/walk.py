"""The walk over folders: which files are indexed."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.indexing.files import IMAGE_SUFFIXES, TEXT_SUFFIXES, BadFile

_LOG = logging.getLogger("jclip_connectors.indexing")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of `find_files`.

    Attributes:
        roots: the folders and files that were passed, as absolute paths.
        files: every file to index, once, in a stable order.
        failed: folders that cannot be read, and passed files of another kind.
        gone: those of `roots` that do not exist.
    """

    roots: tuple[Path, ...]
    files: tuple[Path, ...]
    failed: tuple[BadFile, ...]
    gone: tuple[Path, ...] = ()


def find_files(roots: Sequence[str | Path], *, allow_gone: bool = False) -> Found:
    """Find the pictures and texts in folders and their subfolders.

    Hidden files and folders, and links to folders, are left out, unless they are passed in `roots`. A file with two
    names is found twice.

    Args:
        roots: folders and files; a root that is repeated or inside another one counts once.
        allow_gone: accept a root that does not exist, whose records `find_missing` shall find.

    Raises:
        EmbedInputError: a file or folder cannot be read, or does not exist and `allow_gone` is false.
    """
    files: dict[Path, None] = {}  # an ordered set
    failed: list[BadFile] = []
    gone: list[Path] = []
    absolute = [_absolute(Path(root), gone if allow_gone else None) for root in roots]
    for root in absolute:
        if root in gone:
            continue
        if root.is_dir():
            files.update(dict.fromkeys(_walk(root, failed)))
        elif root.suffix.lower() in IMAGE_SUFFIXES | TEXT_SUFFIXES:
            files[root] = None
        else:
            failed.append(BadFile(path=str(root), error=f"the type is not one of {_allowed()}"))
    return Found(roots=tuple(absolute), files=tuple(files), failed=tuple(failed), gone=tuple(gone))


def _absolute(root: Path, gone: list[Path] | None) -> Path:
    """The absolute path of a root; a root that does not exist is put into `gone`, or refused if `gone` is None."""
    try:
        # A link to a folder is resolved; a link to a file keeps its own name.
        return root.resolve(strict=True) if root.is_dir() else root.parent.resolve(strict=True) / _existing(root).name
    except (FileNotFoundError, NotADirectoryError) as error:
        if gone is None:
            raise _unusable(root, error) from error
        gone.append(root.resolve())
        return gone[-1]
    except (OSError, RuntimeError, ValueError) as error:
        raise _unusable(root, error) from error


def _unusable(root: Path, error: Exception) -> EmbedInputError:
    return EmbedInputError(f"the file or folder {str(root)!r} does not exist or cannot be read: {error}")


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


def _allowed() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES) + sorted(TEXT_SUFFIXES))
