"""The walk over folders: which files are indexed, and which are left out and why."""

import logging
import mimetypes
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from pathlib import Path

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.indexing.files import IMAGE_SUFFIXES, NEEDED_EXTRAS, TEXT_SUFFIXES, BadFile, how_to_read
from jclip_connectors.indexing.first_bytes import is_picture, is_readable, read_head, what_it_is

_LOG = logging.getLogger("jclip_connectors.indexing")
LITTER = (
    "@eaDir", "@__thumb", ".@__thumb", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@SynoEAStream",
    "@SynoResource", ".thumbnails", "Thumbs", "*.lrdata", "__MACOSX", ".DS_Store", "._*", ".Trash*", ".trash*",
    "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information", "Thumbs.db", "ehthumbs.db", "desktop.ini",
    "lost+found",
)  # fmt: skip
"""Names of files and folders, as patterns, that network drives, systems and photo programs make beside pictures."""
_LITTER = re.compile("|".join(map(translate, LITTER)))  # one comparison for a name instead of 20
_KNOWN_SUFFIXES = frozenset(mimetypes.MimeTypes().types_map[True])  # without the lists that a system may have
_LONGEST_SUFFIX = 12  # characters; a longer one is part of a name with a dot


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file or folder that a walk has left out.

    Attributes:
        path: its path.
        kind: why it was left out, equal for all files of the kind: the suffix, "hidden", "litter of other programs",
            "links to folders", or the pattern that excludes it.
    """

    path: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of `find_files`.

    Attributes:
        roots: the folders and files that were passed, as absolute paths.
        files: the path of every file to index, once, in a stable order.
        failed: folders that cannot be read, and passed files of another kind.
        gone: those of `roots` that do not exist.
        left_out: files that are not indexed, and folders that were not searched.
    """

    roots: tuple[Path, ...]
    files: tuple[str, ...]
    failed: tuple[BadFile, ...]
    gone: tuple[Path, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def find_files(roots: Sequence[str | Path], *, allow_gone: bool = False, exclude: Sequence[str] = ()) -> Found:
    """Find the pictures and texts in folders and their subfolders.

    Hidden files and folders, links to folders, and the files and folders of `LITTER` are left out, unless they are
    passed in `roots`. A file with two names is found twice. A picture is known by its suffix or, if its suffix is not
    known, by its first bytes.

    Args:
        roots: folders and files; a root that is repeated or inside another one counts once.
        allow_gone: accept a root that does not exist, whose records `find_missing` shall find.
        exclude: patterns like "*.gif", "raw" or "2019/raw/*" of files and folders to leave out. A pattern without a
            slash is compared with the name, one with a slash with the path below the root, and one that begins with a
            slash with the whole path; `*` stands for any characters, slashes too.

    Raises:
        EmbedInputError: a file or folder cannot be read, or does not exist and `allow_gone` is false; or a pattern is
            empty.
    """
    if any(not pattern.strip("/") for pattern in exclude):
        raise EmbedInputError("`exclude` contains an empty pattern: write a name or a pattern like '*.gif'")
    walk = _Walk(exclude)
    gone: list[Path] = []
    absolute = [_absolute(Path(root), gone if allow_gone else None) for root in roots]
    for root in absolute:
        if root not in gone:
            walk.visit(root)
    left_out = (LeftOut(path=path, kind=kind) for path, kind in walk.left_out.items() if path not in walk.files)
    return Found(
        roots=tuple(absolute),
        files=tuple(walk.files),
        failed=tuple(walk.failed),
        gone=tuple(gone),
        left_out=tuple(left_out),
    )


def unused_patterns(exclude: Sequence[str], left_out: Sequence[LeftOut]) -> list[str]:
    """Find the patterns that have excluded nothing, as a pattern with a typing error does.

    Args:
        exclude: the patterns that were passed to `find_files`.
        left_out: the files and folders that it left out.
    """
    kinds = {item.kind for item in left_out}
    return [pattern for pattern in exclude if _excluded_by(pattern) not in kinds]


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


def _excluded_by(pattern: str) -> str:
    return f"excluded by {pattern!r}"


class _Walk:
    """The files that are found, each once and in a stable order, and what is left out."""

    def __init__(self, exclude: Sequence[str]) -> None:
        self._exclude = exclude
        self.files: dict[str, None] = {}  # an ordered set
        self.left_out: dict[str, str] = {}  # the kind by path
        self.failed: list[BadFile] = []

    def visit(self, root: Path) -> None:
        """Add a file, or all files in a folder and its subfolders."""
        if root.is_dir():
            self.files.update(dict.fromkeys(self._in_folder(root)))
        elif (pattern := self._excluded(str(root), str(root.parent))) is not None:
            self._leave_out(str(root), pattern)
        elif _is_wanted(str(root)):
            self.files[str(root)] = None
        else:
            self.failed.append(BadFile(path=str(root), error=_why_not(root)))

    def _in_folder(self, root: Path) -> Iterator[str]:
        def report(error: OSError) -> None:
            self.failed.append(BadFile(path=str(error.filename), error=f"the folder cannot be read: {error.strerror}"))

        for folder, subfolders, names in os.walk(root, onerror=report):
            kept = []
            for name in sorted(subfolders):
                path = os.path.join(folder, name)  # noqa: PTH118 (a Path for each of a million files costs seconds)
                kind = self._unwanted(path, name, str(root))
                if kind is None and os.path.islink(path):  # noqa: PTH114 (as above)
                    kind = "links to folders"
                if kind is None:
                    kept.append(name)
                else:
                    self._leave_out(path, kind)
            subfolders[:] = kept
            for name in sorted(names):
                path = os.path.join(folder, name)  # noqa: PTH118 (as above)
                kind = self._unwanted(path, name, str(root))
                if kind is None and _is_wanted(path):
                    yield path
                else:
                    self._leave_out(path, kind if kind is not None else _kind(path))

    def _unwanted(self, path: str, name: str, root: str) -> str | None:
        """Why a file or folder is left out whatever its content is."""
        if (kind := self._excluded(path, root)) is not None:
            return kind
        if _LITTER.match(name):
            return "litter of other programs"
        return "hidden" if name.startswith(".") else None

    def _excluded(self, path: str, root: str) -> str | None:
        for pattern in self._exclude:
            glob = os.path.expanduser(pattern).removeprefix("./").rstrip("/")  # noqa: PTH111 (a pattern is no path)
            if glob.startswith("/"):
                compared = path
            else:
                compared = os.path.relpath(path, root) if "/" in glob else os.path.basename(path)  # noqa: PTH119
            if fnmatchcase(compared, glob):
                return _excluded_by(pattern)
        return None

    def _leave_out(self, path: str, kind: str) -> None:
        self.left_out[path] = kind
        _LOG.debug("left out (%s): %r", kind, path)


def _is_wanted(path: str) -> bool:
    """Whether a file is a picture or a text by its suffix, or a picture by its first bytes."""
    suffix = _suffix(path)
    if suffix in IMAGE_SUFFIXES or suffix in TEXT_SUFFIXES:
        return True
    if suffix in NEEDED_EXTRAS:
        # Raw files of cameras begin like a TIFF, but only their own decoder finds the picture.
        return NEEDED_EXTRAS[suffix] != "raw" and is_readable(read_head(Path(path)))
    return suffix not in _KNOWN_SUFFIXES and is_picture(read_head(Path(path)))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 (a Path for each of a million files costs seconds)


def _kind(path: str) -> str:
    """The kind of a file that is neither a picture nor a text."""
    suffix = _suffix(path)
    if suffix in NEEDED_EXTRAS:
        return f"{suffix} ({how_to_read(suffix)})"
    return suffix if 1 < len(suffix) <= _LONGEST_SUFFIX else "without a known suffix"


def _why_not(path: Path) -> str:
    """Why a file that was passed cannot be indexed."""
    suffix = path.suffix.lower()
    if suffix in NEEDED_EXTRAS:
        return how_to_read(suffix)
    found = what_it_is(read_head(path))
    allowed = ", ".join(sorted(IMAGE_SUFFIXES) + sorted(TEXT_SUFFIXES))
    return f"the type is not one of {allowed}" + ("" if found is None else f"; it is {found}")
