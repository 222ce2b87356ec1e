"""Sources in shards: tar files, Parquet files and pictures; each shard becomes one file of vectors."""

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from core_encoder.image_formats import readable_suffixes
from jclip_connectors.bulk.columns import Columns, check_schema
from jclip_connectors.bulk.remote_errors import remote_errors
from jclip_connectors.bulk.source_names import expand_braces
from jclip_connectors.bulk.vector_files import SUFFIX, WRITTEN, file_system
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError

ROWS = 10_000  # of a shard of a Parquet file, or of pictures
_TARS = (".tar", ".tar.gz", ".tgz")
_NAME_DIGITS = 20
_READERS = 8  # threads that read the ends of Parquet files
Kind = Literal["tar", "parquet", "files"]


class _Entry(NamedTuple):
    path: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A part of a source that is embedded as a whole, into one file.

    Attributes:
        kind: how it is read.
        url: of the file, or of the source that has the pictures.
        state: what changes when the files change: their sizes, with their etags or the times when they were changed.
        groups: the first row group of a Parquet file that belongs to the shard, and the one behind the last.
        paths: of pictures.
        first_row: the position in its file of the first row of a Parquet file.
        rows: how many there are, if that is known without reading them.
        limit: how many rows are read, if not all are.
    """

    kind: Kind
    url: str
    state: str
    groups: tuple[int, int] = (0, 0)
    paths: tuple[str, ...] = ()
    first_row: int = 0
    rows: int | None = None
    limit: int | None = None

    def name(self, fingerprint: Fingerprint, columns: Columns) -> str:
        """The name of its file of vectors: another one if its files, the configuration or the columns change.

        Args:
            fingerprint: of the configuration of the vectors.
            columns: those that are embedded.
        """
        chosen = [columns.images, columns.texts, columns.key, columns.metadata]
        own = [self.kind, self.url, self.state, self.groups, self.paths, self.limit]
        told = json.dumps([own, sorted(fingerprint.items()), chosen])
        return f"{hashlib.sha256(told.encode()).hexdigest()[:_NAME_DIGITS]}{SUFFIX}"


def find_shards(
    sources: Sequence[str | Path], *, columns: Columns | None = None, out: str | Path | None = None
) -> list[Shard]:
    """Find the shards of sources.

    Args:
        sources: tar files of webdataset, Parquet files, pictures, folders of these, globs, names with ranges such as
            {000..099}, and URLs of these.
        columns: those that will be embedded: every Parquet file is checked for them. `None` checks nothing.
        out: the folder of vectors, which is left out where it lies in a source.

    Raises:
        EmbedInputError: a source does not exist or has nothing to embed, its file system is not known, or a Parquet
            file does not have the columns.
        StoreUnavailableError: a source cannot be read at the moment.
    """
    if isinstance(sources, str | Path):
        raise EmbedInputError(f"`sources` is {str(sources)!r}; write a list, [source]")
    left_out = None if out is None else _absolute(out)
    found: dict[Shard, None] = {}
    seen: set[str] = set()  # pictures
    for source in map(str, sources):
        if not source:
            raise EmbedInputError("a source is an empty name: write . for the current folder")
        fs, path = file_system(source)
        if left_out == _url(fs, path):
            raise EmbedInputError(f"{source!r} is a source and the folder for the vectors: name another folder")
        with remote_errors(fs, source):
            found |= dict.fromkeys(_find(fs, path, source, columns, left_out, seen))
    return list(found)


def _find(
    fs: Any,  # noqa: ANN401 (of fsspec)
    path: str,
    source: str,
    columns: Columns | None,
    left_out: str | None,
    seen: set[str],
) -> Iterator[Shard]:
    pictures: list[_Entry] = []
    found = False
    suffixes = readable_suffixes()
    entries = []
    for entry in _entries(fs, path, source):
        url = _url(fs, entry.path)
        name = posixpath.basename(entry.path).lower()
        if left_out is not None and entry.path != path and url.startswith(f"{left_out}/"):
            continue
        if name.endswith((*_TARS, SUFFIX)):
            entries.append(entry)
        elif posixpath.splitext(name)[1] in suffixes:
            found = True
            if url not in seen:
                seen.add(url)
                pictures.append(_Entry(url, entry.state))
    with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="jclip-find") as pool:
        for shards in pool.map(partial(_shards_of_file, fs, columns=columns), entries):
            found = True
            yield from shards
    if not found:
        raise EmbedInputError(f"{source!r} has nothing to embed: no tar or Parquet files, and no pictures")
    if pictures and columns is not None and columns != Columns():
        raise EmbedInputError(
            f"{source!r} has pictures in files, which have no columns to choose: leave these options out"
        )
    for start in range(0, len(pictures), ROWS):
        some = pictures[start : start + ROWS]
        state = hashlib.sha256("\n".join(entry.state for entry in some).encode()).hexdigest()
        paths = tuple(entry.path for entry in some)
        yield Shard(kind="files", url=_url(fs, path), state=state, paths=paths, rows=len(paths))


def _entries(fs: Any, path: str, source: str) -> Iterator[_Entry]:  # noqa: ANN401 (of fsspec)
    """The files of a source in order, without hidden ones."""
    names = [path] if fs.exists(path) else expand_braces(path)
    for name, info in _infos(fs, names, source):
        if info.get("type") != "directory":
            yield _Entry(name, _state(info))
            continue
        for file, inside in _inside(fs, name):
            yield _Entry(file, _state(inside))


def _inside(fs: Any, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 (of fsspec)
    """The files in a folder and in its folders, in order, without hidden ones."""
    if not isinstance(fs, LocalFileSystem):
        found = fs.find(folder, detail=True)  # of an object store in few requests
        for file in sorted(found):
            if not any(part.startswith(".") for part in file.removeprefix(folder).split("/")):
                yield file, found[file]
        return
    for _, folders, files in fs.walk(folder, detail=True, on_error="raise"):
        kept = sorted((name, info) for name, info in folders.items() if not name.startswith("."))
        folders.clear()
        folders.update(kept)  # those are walked
        yield from ((files[name]["name"], files[name]) for name in sorted(files) if not name.startswith("."))


def _infos(fs: Any, names: Sequence[str], source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401
    """What a file system says about each name, or about what matches it."""
    folders: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name in names:
        if any(mark in name for mark in "*?[") and not fs.exists(name):
            found = fs.glob(name, detail=True)
            yield from sorted(found.items())
            continue
        try:
            if len(names) == 1:
                yield name, fs.info(name)
                continue
            folder = posixpath.dirname(name)
            if folder not in folders:  # one listing instead of thousands of requests
                folders[folder] = {entry["name"].rstrip("/"): entry for entry in fs.ls(folder, detail=True)}
            yield name, folders[folder][name]
        except (FileNotFoundError, KeyError) as error:
            raise EmbedInputError(f"{source!r} does not exist: there is no {name!r}") from error


def _shards_of_file(fs: Any, entry: _Entry, *, columns: Columns | None) -> list[Shard]:  # noqa: ANN401 (of fsspec)
    url = _url(fs, entry.path)
    if entry.path.lower().endswith(SUFFIX):
        return list(_parquet_shards(fs, entry, url, columns))
    return [Shard(kind="tar", url=url, state=entry.state)]


def _parquet_shards(fs: Any, entry: _Entry, url: str, columns: Columns | None) -> Iterator[Shard]:  # noqa: ANN401
    with fs.open(entry.path, "rb") as file:
        try:
            metadata = pq.read_metadata(file)
        except pa.ArrowInvalid:
            yield Shard(kind="parquet", url=url, state=entry.state)  # its one row will say what is wrong
            return
    if columns is not None:
        check_schema(metadata.schema.to_arrow_schema(), columns, where=url)
    first, first_row, rows = 0, 0, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= ROWS or group + 1 == metadata.num_row_groups:
            yield Shard(
                kind="parquet",
                url=url,
                state=entry.state,
                groups=(first, group + 1),
                first_row=first_row,
                rows=rows,
            )
            first, first_row, rows = group + 1, first_row + rows, 0


def _state(info: Mapping[str, Any]) -> str:
    changed = next((str(info[name]) for name in WRITTEN if info.get(name) is not None), "")
    return f"{info.get('size')} {changed}"


def _absolute(url: str | Path) -> str:
    return _url(*file_system(url))


def _url(fs: Any, path: str) -> str:  # noqa: ANN401 (of fsspec)
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))
