"""The pictures and texts of a shard, read one by one."""

import dataclasses
import gzip
import json
import math
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from core_encoder.image_formats import readable_suffixes
from jclip_connectors.bulk.columns import Columns, check_schema
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.source_names import printable_name
from jclip_connectors.bulk.vector_files import file_system
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Modality

_READ_BYTES = 2**25  # of a Parquet file at a time
_READ_ROWS = 1024
_LOOKED_AT = 100  # samples of a tar file
KEY = "__key__"  # of a sample of a tar file: its name without a suffix
_BUFFER_BYTES = 2**20  # without it, a column of a row group is in memory as a whole
_DAMAGED = (tarfile.TarError, pa.ArrowInvalid, EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture or text of a source.

    Attributes:
        key: its name in the source.
        modality: what it is, if that is known.
        source: the path or the bytes of a picture, or a text; `None` where the source has nothing.
        uri: where a picture is.
        record_id: the id of its record, or `None` to take it from the content.
        metadata: of its record.
        error: what is wrong with it, if that is known already.
    """

    key: str
    modality: Modality | None
    source: Any = None
    uri: str | None = None
    record_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def read_items(shard: Shard, columns: Columns, *, most_bytes: int) -> Iterator[Item]:
    """Read the items of a shard in their order; few are in memory at a time.

    A shard that is damaged ends with an item that has an error.

    Args:
        shard: of `find_shards`.
        columns: that are used.
        most_bytes: of a picture; a larger one is not read.

    Raises:
        EmbedInputError: it is not clear which columns are meant; the message lists them.
        OSError: the shard cannot be read at the moment.
    """
    read = {"tar": _tar_rows, "parquet": _parquet_rows, "files": _file_rows}[shard.kind]
    try:
        for items in islice(read(shard, columns, most_bytes), shard.limit):
            for item in items:
                yield _with_text_names(item)
    except _DAMAGED as error:
        problem = f"the file is damaged, and nothing behind this place is read: {error}"
        yield Item(key=printable_name(shard.url), modality=None, error=problem)


def _file_rows(shard: Shard, _columns: Columns, most_bytes: int) -> Iterator[list[Item]]:
    for url in shard.paths:
        fs, path = file_system(url)
        item = Item(key=url, modality="image", uri=url)
        if isinstance(fs, LocalFileSystem):
            yield [dataclasses.replace(item, source=Path(path))]
            continue
        try:
            size = fs.size(path)
            if size is not None and size > most_bytes:
                yield [dataclasses.replace(item, error=_too_large(size, most_bytes))]
            else:
                yield [dataclasses.replace(item, source=fs.cat_file(path))]
        except (FileNotFoundError, PermissionError) as error:  # of this picture alone
            yield [dataclasses.replace(item, error=f"the image cannot be read: {error}")]


def _tar_rows(shard: Shard, columns: Columns, most_bytes: int) -> Iterator[list[Item]]:
    fs, path = file_system(shard.url)
    with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        stem = None
        for stem, parts in _samples(archive, columns, most_bytes):
            yield _sample_items(shard, columns, stem, parts)
    if stem is None:
        error = "the tar file has nothing to embed: no files with a suffix"
        yield [Item(key=shard.url, modality=None, error=error)]


def _samples(
    archive: tarfile.TarFile, columns: Columns, most_bytes: int
) -> Iterator[tuple[str, dict[str, bytes | int]]]:
    """The parts with one stem that follow each other, by suffix: a sample of webdataset.

    A part that is too large is only its size, and one that is not needed has no bytes.
    """
    wanted = {columns.images, columns.texts, columns.key, *columns.metadata}
    suffixes = readable_suffixes()
    stem = ""
    parts: dict[str, bytes | int] = {}
    for member in archive:
        folder, name = posixpath.split(member.name)
        first, dot, suffix = name.partition(".")
        if not member.isreg() or not first or not dot:
            continue
        this, suffix = posixpath.join(folder, first), suffix.lower()
        if parts and (this != stem or suffix in parts):
            yield stem, parts
            parts = {}
        stem = this
        needed = suffix in wanted or (columns.images is None and f".{suffix}" in suffixes)
        if needed and member.size > most_bytes:
            parts[suffix] = member.size
            continue
        opened = archive.extractfile(member) if needed else None
        parts[suffix] = b"" if opened is None else opened.read()
    if parts:
        yield stem, parts


def _sample_items(shard: Shard, columns: Columns, stem: str, parts: Mapping[str, bytes | int]) -> list[Item]:
    metadata: dict[str, Any] = {}
    for name in columns.metadata:
        value = _read_part(name, parts.get(name))
        metadata |= value if isinstance(value, dict) else {name: value}
    record_id = None
    if columns.key is not None:
        record_id = stem if columns.key == KEY else _as_id(_read_part(columns.key, parts.get(columns.key)))
    items = []
    if columns.images is not None or columns.texts is None:
        suffixes = readable_suffixes()
        found = [name for name in parts if f".{name}" in suffixes] if columns.images is None else [columns.images]
        item = Item(key=stem, modality="image", record_id=record_id, metadata=metadata)
        if len(found) == 1:
            uri = f"{shard.url}#{stem}.{found[0]}"
            source = parts.get(found[0])
            error = None if not isinstance(source, int) else f"the image has {source} bytes: it is too large"
            items.append(dataclasses.replace(item, source=source, uri=uri, error=error))
        else:
            error = f"it has {len(found)} pictures: name one with `images` (--images); its parts are {', '.join(parts)}"
            items.append(dataclasses.replace(item, error=error))
    if columns.texts is not None:
        text = parts.get(columns.texts)
        content = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else None
        items.append(Item(key=stem, modality="text", source=content, record_id=record_id, metadata=metadata))
    return _with_ids(items, columns)


def _read_part(name: str, content: bytes | int | None) -> Any:  # noqa: ANN401 (JSON)
    if not isinstance(content, bytes):
        return None
    text = content.decode("utf-8", errors="replace")
    try:
        return json.loads(text) if name.endswith("json") else text.strip()
    except ValueError:
        return text


def _parquet_rows(shard: Shard, columns: Columns, most_bytes: int) -> Iterator[list[Item]]:
    del most_bytes  # pictures are read in batches
    fs, path = file_system(shard.url)
    with fs.open(path, "rb") as file, pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as parquet:
        columns = check_schema(parquet.schema_arrow, columns, where=shard.url)
        wanted = [columns.images, columns.texts, columns.key, *columns.metadata]
        names = list(dict.fromkeys(name for name in wanted if name is not None))
        at = shard.first_row
        for group in range(*shard.groups):
            rows = _rows_at_a_time(parquet.metadata.row_group(group))
            for batch in parquet.iter_batches(rows, row_groups=[group], columns=names):
                for values in batch.to_pylist():
                    yield row_items(values, columns, key=str(at), where=shard.url)
                    at += 1


def _rows_at_a_time(group: Any) -> int:  # noqa: ANN401 (pyarrow has no types)
    rows, size = int(group.num_rows), int(group.total_byte_size)
    return max(1, min(_READ_ROWS, _READ_BYTES * rows // max(1, size)))


def row_items(values: Mapping[str, Any], columns: Columns, *, key: str, where: str | None) -> list[Item]:
    """The picture and the text of a row, for columns that `check_schema` has given.

    Args:
        values: of the row, by column.
        columns: of `check_schema`.
        key: of the row, unless a column has it.
        where: the URL of the table, if it has one.
    """
    record_id = None if columns.key is None else _as_id(values[columns.key])
    key = record_id if record_id else key
    metadata = {name: _without_nan(values[name]) for name in columns.metadata}
    items = []
    if columns.images is not None:
        found = values[columns.images]
        picture, error = found, None
        if isinstance(found, dict):  # the struct of Hugging Face's datasets
            picture = found.get("bytes")
            if picture is None and found.get("path") is not None:
                error = f"the column has no bytes of the picture, only the path {found['path']!r}"
        uri = None if where is None else f"{where}#{key}"
        item = Item(key=key, modality="image", source=picture, uri=uri, record_id=record_id, metadata=metadata)
        items.append(dataclasses.replace(item, error=error))
    if columns.texts is not None:
        text = values[columns.texts]
        items.append(Item(key=key, modality="text", source=text, record_id=record_id, metadata=metadata))
    return _with_ids(items, columns)


def _as_id(value: object) -> str:
    """The id that a value is; "", which no record can have, where there is none."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def _with_ids(items: list[Item], columns: Columns) -> list[Item]:
    """The items of a row; of a picture and a text with one id, each gets an id of its own."""
    if len(items) == 1 or columns.key is None:
        return items
    return [
        dataclasses.replace(item, record_id=f"{item.modality}-{item.record_id}") if item.record_id else item
        for item in items
    ]


def _without_nan(value: object) -> object:
    """The value with null in the place of numbers that JSON does not have."""
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_text_names(item: Item) -> Item:
    """The item; an error if its name cannot be stored, as it has bytes that are not text."""
    key, uri = printable_name(item.key), None if item.uri is None else printable_name(item.uri)
    if (key, uri) == (item.key, item.uri):
        return item
    return dataclasses.replace(item, key=key, uri=uri, error="its name is not Unicode text: give it another name")


def _too_large(size: int, most: int) -> str:
    return f"the image has {size} bytes, and {most} are allowed: it is too large"


def count_rows(shard: Shard, *, most: int) -> int:
    """How many rows a shard has, or `most` if there are more; of a damaged tar file, those before the damage."""
    if shard.rows is not None:
        return min(shard.rows, most)
    return sum(1 for _ in islice(_first_samples(shard), most))


def check_parts(shard: Shard, columns: Columns) -> None:
    """Look for the columns in the first samples of a tar file.

    Raises:
        EmbedInputError: none of them has a column, or it is not clear which parts are the pictures.
    """
    samples = list(islice(_first_samples(shard), _LOOKED_AT))
    if not samples:
        return  # its one row says so
    seen = sorted({suffix for parts in samples for suffix in parts})
    has = f"its first samples have the parts {', '.join(seen)}"
    for name in (columns.images, columns.texts, columns.key, *columns.metadata):
        if name is not None and name != KEY and name not in seen:
            raise EmbedInputError(f"{shard.url} has no parts {name!r}; {has}")
    suffixes = readable_suffixes()
    if columns.images is None and columns.texts is None:
        pictures = [[name for name in parts if f".{name}" in suffixes] for parts in samples]
        if all(len(found) != 1 for found in pictures):
            raise EmbedInputError(
                f"{shard.url} has {len(pictures[0])} pictures in a sample: name them with `images` or the texts with "
                f"`texts` (--images, --texts); {has}"
            )


def _first_samples(shard: Shard) -> Iterator[list[str]]:
    """The suffixes of the parts of each sample, as far as the file can be read."""
    fs, path = file_system(shard.url)
    nothing = Columns(images=KEY)  # no part has this suffix, so no bytes are kept
    try:
        with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for _, parts in _samples(archive, nothing, 0):
                yield list(parts)
    except _DAMAGED:
        return
