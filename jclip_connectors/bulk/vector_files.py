"""Files of vectors: Parquet files in a folder, on this machine or in any place that fsspec knows.

A folder has a sidecar, `_jclip.json`, with the fingerprint of its vectors. Each file appears in one step: on a disk
under another name first, which is then renamed; elsewhere as an object that is put when it is complete.
"""

import contextlib
import hashlib
import json
import os
import posixpath
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from jclip_connectors.bulk.remote_errors import remote_errors
from jclip_connectors.bulk.temporary_files import count_writers, remove_leftovers, temporary_file
from jclip_connectors.bulk.vector_rows import VECTOR_COLUMNS, VectorRow, VectorType, to_batch, to_records, vector_schema
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import Record
from jclip_connectors.store_kit.validation import check_fingerprint

SIDECAR_NAME = "_jclip.json"
SUFFIX = ".parquet"
TEMPORARY = ".tmp"  # a folder inside, for files that are not complete
MARKER = ".at"  # the suffix of the files there that are kept when their process dies
READ_ROWS = 1024  # that are in memory at a time
_FORMAT = 1
_BEGUN = b"jclip.begun_ns"  # of the metadata of a file: when it was begun, since 1970
_READERS = 8  # threads that read the ends of files
# What file systems list of a file that changes when it is written: of S3, GCS, Azure, Hugging Face, a disk, memory.
WRITTEN = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified", "created")
_GROUP_BYTES = 16 * 2**20  # of vectors in a row group: what a reader must have in memory at once
_GROUP_ROWS = 16_384


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What is equal for all files of a folder.

    Attributes:
        fingerprint: the fingerprint of the configuration that made the vectors.
        dimensions: E, the length of the vectors.
        vector_type: the type of their values.
        device: where the model has run, "cpu" or "cuda", if that is known.
    """

    fingerprint: Fingerprint
    dimensions: int
    vector_type: VectorType = "float32"
    device: str | None = None


class VectorFolder:
    """A folder of files of vectors."""

    def __init__(self, url: str | Path) -> None:
        """Name the folder; nothing is read or made.

        Args:
            url: a path, or a URL of a file system that fsspec knows, such as s3://bucket/folder.

        Raises:
            EmbedInputError: fsspec has no such file system, its package is not installed, or the URL has a password.
        """
        self.fs, self.path = file_system(url)
        self.name = repr(str(url))

    def read_sidecar(self) -> Sidecar | None:
        """Read the sidecar; `None` if there is none.

        Raises:
            StoreRequestError: the sidecar is damaged, or another version wrote it.
        """
        path = self._inside(SIDECAR_NAME)
        try:
            with remote_errors(self.fs, self.name):
                values: Any = json.loads(self.fs.cat_file(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreRequestError(f"{SIDECAR_NAME} in {self.name} is damaged: {error}; restore it") from error
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise StoreRequestError(
                f"{SIDECAR_NAME} in {self.name} is not of format {_FORMAT}: another version made it; use that version"
            )
        fingerprint, dimensions = values.get("fingerprint"), values.get("dimensions")
        kind: Any = values.get("vector_type")
        if not isinstance(fingerprint, dict) or not isinstance(dimensions, int) or kind not in get_args(VectorType):
            raise StoreRequestError(f"{SIDECAR_NAME} in {self.name} is damaged: a field is missing; restore it")
        return Sidecar(fingerprint=fingerprint, dimensions=dimensions, vector_type=kind, device=values.get("device"))

    def require_sidecar(self) -> Sidecar:
        """Read the sidecar, which must exist.

        Raises:
            EmbedInputError: there is no folder of vectors.
            StoreRequestError: the sidecar is damaged, or another version wrote it.
        """
        sidecar = self.read_sidecar()
        if sidecar is None:
            raise EmbedInputError(f"{self.name} is no folder of vectors: it has no {SIDECAR_NAME}")
        return sidecar

    def prepare(self, wanted: Sidecar) -> None:
        """Make the folder with its sidecar, or check that an existing folder is for the same vectors.

        Raises:
            CollectionMismatchError: the folder has vectors of another configuration.
            EmbedInputError: its vectors have another length or type, or were made on another kind of device with a
                precision that differs there, or it has Parquet files and no sidecar.
            StoreRequestError: the sidecar is damaged, or another version wrote it.
        """
        found = self.read_sidecar()
        if found is None:
            if self.files():
                raise EmbedInputError(f"{self.name} has Parquet files and no {SIDECAR_NAME}: name another folder")
            values = {
                "format": _FORMAT,
                "version": version("jclip-connectors"),
                "fingerprint": dict(wanted.fingerprint),
                "dimensions": wanted.dimensions,
                "vector_type": wanted.vector_type,
                "device": wanted.device,
            }
            self.put(SIDECAR_NAME, json.dumps(values, indent=2).encode())
            return
        check_fingerprint(found.fingerprint, wanted.fingerprint, collection=f"the folder {self.name}")
        for field in ("dimensions", "vector_type"):
            made, now = getattr(found, field), getattr(wanted, field)
            if made != now:
                raise EmbedInputError(
                    f"{self.name} has vectors of `{field}` {made!r}, not {now!r}: name another folder"
                )
        other_device = found.device != wanted.device and None not in (found.device, wanted.device)
        if other_device and wanted.fingerprint.get("precision") == "auto":
            raise EmbedInputError(
                f"{self.name} has vectors that were made on {found.device!r}, and the model runs on {wanted.device!r} "
                "here: with the precision 'auto' their values differ. Use one kind of device, or name another folder"
            )

    def files(self) -> list[str]:
        """The names of the complete files of vectors, in their order."""
        return [name for name in self.names() if name.endswith(SUFFIX)]

    def in_order(self) -> list[str]:
        """The names of the complete files of vectors from the oldest to the newest, as each says when it was begun.

        Of several rows of one id, the one of the newest file counts. Of each file the end is read.

        Raises:
            StoreRequestError: a file is damaged, or is no file of vectors.
        """
        names = self.files()
        with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="jclip-order") as pool:
            return [name for _, name in sorted(zip(pool.map(self.begun_ns, names), names, strict=True))]

    def begun_ns(self, name: str) -> int:
        """When a file was begun, in ns since 1970; 0 for a file that does not say it.

        Raises:
            StoreRequestError: the file is damaged, or is no file of vectors.
        """
        found = (self._metadata(name).metadata or {}).get(_BEGUN, b"0")
        return int(found) if found.isdigit() else 0

    def names(self, folder: str = "") -> list[str]:
        """The names of what is in the folder, or in a folder inside it, in order; none where that does not exist."""
        self.fs.invalidate_cache()
        try:
            with remote_errors(self.fs, self.name):
                found = self.fs.ls(self._inside(folder) if folder else self.path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for path in found if (name := posixpath.basename(path.rstrip("/"))))

    def versions(self) -> dict[str, str]:
        """The complete files of vectors in their order, each with what tells whether it was written again."""
        self.fs.invalidate_cache()
        try:
            with remote_errors(self.fs, self.name):
                found = self.fs.ls(self.path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        entries = {posixpath.basename(entry["name"]): entry for entry in found}
        return {name: _version(entries[name]) for name in sorted(entries) if name.endswith(SUFFIX)}

    def put(self, name: str, content: bytes, *, durable: bool = True) -> None:
        """Write a small file in one step.

        Args:
            name: of the file.
            content: of the file.
            durable: whether the file must be there after a power failure as well, which takes longer.
        """
        with self._replaced(name, durable=durable) as path:
            path.write_bytes(content)

    def read(self, name: str) -> bytes:
        """Read a small file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with remote_errors(self.fs, self.name):
            content: bytes = self.fs.cat_file(self._inside(name))
        return content

    def remove(self, name: str) -> None:
        """Remove a file; one that does not exist is removed already."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._inside(name))

    def remove_leftovers(self) -> None:
        """Remove the files that processes which died had not completed."""
        if isinstance(self.fs, LocalFileSystem):
            remove_leftovers(Path(self.path, TEMPORARY), kept=MARKER)

    def count_writers(self, name: str) -> int:
        """How many processes are writing a file; 0 where this cannot be known, as in an object store."""
        return count_writers(Path(self.path, TEMPORARY), name) if isinstance(self.fs, LocalFileSystem) else 0

    def size(self, name: str) -> int:
        """The size of a file in bytes."""
        return int(self.fs.size(self._inside(name)))

    def write(self, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
        """Write a file of vectors, which appears when it is complete; an older file of the name is replaced.

        Args:
            name: with the suffix .parquet.
            batches: some are in memory at a time.
            schema: of `vector_schema`.

        Returns:
            The number of rows.
        """
        with self._replaced(name) as path:
            return _write(path, batches, schema)

    def write_records(self, name: str, batches: Iterable[Sequence[Record]], sidecar: Sidecar, *, source: str) -> int:
        """Write records as a file of vectors; the key of each is its id.

        Args:
            name: with the suffix .parquet.
            batches: some records at a time.
            sidecar: of the folder.
            source: what the file says it was made from.

        Returns:
            The number of rows.
        """
        schema = file_schema(sidecar, source=source)
        return self.write(name, (to_batch(list(map(VectorRow.of, records)), schema) for records in batches), schema)

    def batches(
        self, name: str, *, rows: int = READ_ROWS, columns: Sequence[str] | None = None, start: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Read a file of vectors, some rows at a time.

        Args:
            name: of the file.
            rows: the most rows of a batch.
            columns: those that are read; `None` reads all.
            start: the first row that is read.

        Raises:
            StoreRequestError: the file is damaged, or is no file of vectors.
        """
        try:
            # Small reads ahead: with its default, fsspec keeps megabytes for each column that is read.
            with self.fs.open(self._inside(name), "rb") as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
                wanted = set(vector_schema(1).names)
                if not wanted <= set(parquet.schema_arrow.names):
                    raise StoreRequestError(f"{name} in {self.name} is no file of vectors: it lacks columns")
                for group in range(parquet.num_row_groups):
                    length = parquet.metadata.row_group(group).num_rows
                    if start >= length:
                        start -= length
                        continue
                    for batch in parquet.iter_batches(rows, row_groups=[group], columns=columns):
                        skipped, start = min(start, len(batch)), max(start - len(batch), 0)
                        if skipped < len(batch):
                            yield batch.slice(skipped)
        except pa.ArrowInvalid as error:
            raise StoreRequestError(f"{name} in {self.name} is damaged: {error}") from error

    def count(self, name: str) -> tuple[int, int]:
        """The number of rows of a file of vectors, and of those that failed; only the end of the file is read.

        Raises:
            StoreRequestError: the file is damaged, or is no file of vectors.
        """
        metadata = self._metadata(name)
        names = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
        if "error" not in names:
            raise StoreRequestError(f"{name} in {self.name} is no file of vectors: it lacks columns")
        groups = [metadata.row_group(at).column(names.index("error")) for at in range(metadata.num_row_groups)]
        filled = [group for group in groups if group.num_values]
        return metadata.num_rows, sum(group.num_values - group.statistics.null_count for group in filled)

    def _metadata(self, name: str) -> pq.FileMetaData:
        """What the end of a file says about it."""
        try:
            with self.fs.open(self._inside(name), "rb") as file:
                return pq.read_metadata(file)
        except pa.ArrowInvalid as error:
            raise StoreRequestError(f"{name} in {self.name} is damaged: {error}") from error

    def counts(self, names: Iterable[str]) -> Iterator[tuple[int, int]]:
        """The counts of several files, which are read at the same time."""
        with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="jclip-count") as pool:
            yield from pool.map(self.count, names)

    def records(self, name: str, *, rows: int = READ_ROWS, vectors: bool = True) -> Iterator[list[Record]]:
        """Read the records of a file, some at a time, without the items that failed."""
        columns = None if vectors else [name for name in vector_schema(1).names if name not in VECTOR_COLUMNS]
        for batch in self.batches(name, rows=rows, columns=columns):
            if records := to_records(batch):
                yield records

    @contextlib.contextmanager
    def _replaced(self, name: str, *, durable: bool = True) -> Iterator[Path]:
        """Give a path to write to; what is written there becomes the file `name` if there is no error."""
        target = self._inside(name)
        if isinstance(self.fs, LocalFileSystem):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with temporary_file(Path(self.path, TEMPORARY), posixpath.basename(name)) as written:
                yield written
                if durable:
                    with written.open("rb+") as file:
                        os.fsync(file.fileno())
                written.replace(target)
            return
        with tempfile.TemporaryDirectory(prefix="jclip-") as folder_name:
            written = Path(folder_name, posixpath.basename(name))
            yield written
            with remote_errors(self.fs, self.name):
                self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
                self.fs.put_file(str(written), target)

    def _inside(self, name: str) -> str:
        return posixpath.join(self.path, name)


def read_vector_files(out: str | Path, *, rows: int = READ_ROWS, vectors: bool = True) -> Iterator[list[Record]]:
    """Read all records of a folder of vectors, some at a time, without the items that failed.

    Args:
        out: the folder, or its URL.
        rows: the most records that are given at once.
        vectors: whether to read the vectors.

    Raises:
        EmbedInputError: there is no folder of vectors.
        StoreRequestError: a file is damaged.
    """
    folder = VectorFolder(out)
    folder.require_sidecar()
    for name in folder.in_order():
        yield from folder.records(name, rows=rows, vectors=vectors)


def file_schema(sidecar: Sidecar, *, source: str, device: str | None = None) -> pa.Schema:
    """The schema of a file, with what the file says about itself.

    Args:
        sidecar: of the folder.
        source: what the file was made from.
        device: where the model ran, if it ran for this file.
    """
    metadata = {
        "jclip.fingerprint": json.dumps(dict(sidecar.fingerprint)),
        "jclip.version": version("jclip-connectors"),
        "jclip.source": source,
        _BEGUN.decode(): str(time.time_ns()),
    }
    if device is not None:
        metadata["jclip.device"] = device
    return vector_schema(sidecar.dimensions, vector_type=sidecar.vector_type, metadata=metadata)


def file_system(url: str | Path) -> tuple[Any, str]:
    """The file system of a path or a URL, and the path in it.

    Raises:
        EmbedInputError: fsspec has no such file system, its package is not installed, or the URL has a password
            or a query.
    """
    scheme, _, rest = str(url).partition("://")
    if "@" in rest.partition("/")[0]:
        raise EmbedInputError(f"the URL {scheme}://... has a name or a password: keys come from the environment")
    if scheme in ("http", "https") and "?" in rest:
        raise EmbedInputError(
            f"the URL {scheme}://... is signed, or has another query, which the files would keep: fetch it first, "
            "or name it with s3://, gs:// or az://"
        )
    try:
        fs, path = fsspec.url_to_fs(os.path.expanduser(url))  # noqa: PTH111 (it may be a URL)
    except (ImportError, ValueError) as error:
        raise EmbedInputError(f"{scheme}:// cannot be read: {error}") from error
    return fs, path.rstrip("/") or "/"


def _version(entry: Mapping[str, Any]) -> str:
    """What tells a file from another one of its name; `entry` is what a file system lists of it."""
    written = next((entry[name] for name in WRITTEN if name in entry), None)
    return hashlib.sha256(f"{entry['size']} {written}".encode()).hexdigest()[:12]


def _write(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    names = [name for name in schema.names if name not in VECTOR_COLUMNS]
    leaves = ["boxes.list.element.list.element" if name == "boxes" else name for name in names]
    count = 0
    # Values of vectors hardly compress, and all differ.
    with pq.ParquetWriter(
        path, schema, compression=dict.fromkeys(leaves, "zstd"), use_dictionary=leaves, write_statistics=leaves
    ) as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            count += len(batch)
            if sum(map(len, waiting)) >= _GROUP_ROWS or sum(each.nbytes for each in waiting) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting or not count:
            writer.write_table(pa.Table.from_batches(waiting, schema))
    return count
