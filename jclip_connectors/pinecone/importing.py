"""Records as files for Pinecone's import from cloud storage, which it advises from 10 million records on.

The files of a namespace are in `URI/NAMESPACE/`: lines of JSON for an index with a schema, Parquet with the columns
`id`, `values` and `metadata` for an older index. Source: Pinecone's guide to imports, 2026-07, and `start_import` of
its SDK.
"""

import json
from collections.abc import Iterable, Sequence
from io import BytesIO

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, MissingDependencyError
from jclip_connectors.pinecone.dialects import Dialect, Documents
from jclip_connectors.pinecone.items import Item, fingerprint_item, to_entry
from jclip_connectors.port import Record
from jclip_connectors.store_kit.validation import check_records

SCHEMES = ("s3://", "gs://", "https://")  # the last one is Azure's
_FILE_BYTES = 64 * 2**20  # about, of the vectors of a file: they are in memory until it is written
_BYTES_A_VALUE = 4


def check_uri(uri: str) -> str:
    """Check where the files go; returns the address without a slash at its end.

    Raises:
        EmbedInputError: Pinecone cannot read from there.
    """
    if not uri.startswith(SCHEMES) or "@" in uri or "?" in uri:
        raise EmbedInputError(
            f"Pinecone imports from a folder at {', '.join(SCHEMES)}: name one of these, without credentials"
        )
    return uri.rstrip("/")


def write_files(
    dialect: Dialect,
    batches: Iterable[Sequence[Record]],
    uri: str,
    *,
    fingerprint: Fingerprint,
    dimensions: int,
    tiled: bool,
) -> int:
    """Write records, their tiles and the fingerprint into the folder of the namespace.

    Returns:
        The number of records.

    Raises:
        EmbedInputError: a record is bad, has more metadata than Pinecone accepts, or the folder has files already.
        MissingDependencyError: fsspec or pyarrow is not installed.
    """
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="bulk") from error
    fs, root = fsspec.url_to_fs(f"{uri}/{dialect.namespace}")
    if fs.exists(root):
        raise EmbedInputError("the folder for the import has files of this namespace already: name another folder")
    count = 0
    waiting = [fingerprint_item(fingerprint, dimensions=dimensions)]
    number = 0

    def flush() -> None:
        nonlocal number, waiting
        suffix, content = _encoded(dialect, waiting)
        fs.pipe_file(f"{root}/part-{number:06}.{suffix}", content)
        number, waiting = number + 1, []

    for batch in batches:
        for record in check_records(batch, dimensions=dimensions, tiled=tiled):
            entry = to_entry(record)
            waiting += [*entry.tiles, entry.record]
            count += 1
        if len(waiting) * dimensions * _BYTES_A_VALUE >= _FILE_BYTES:
            flush()
    if waiting:
        flush()
    return count


def _encoded(dialect: Dialect, items: Sequence[Item]) -> tuple[str, bytes]:
    """The suffix and the content of a file of items."""
    if isinstance(dialect, Documents):
        lines = (json.dumps({"_id": item.item_id, dialect.field: item.vector, **item.fields}) for item in items)
        return "jsonl", ("\n".join(lines) + "\n").encode()
    return "parquet", _parquet(items)


def _parquet(items: Sequence[Item]) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="bulk") from error
    table = pa.table(
        {
            "id": pa.array([item.item_id for item in items], pa.string()),
            "values": pa.array([item.vector for item in items], pa.list_(pa.float32())),
            "metadata": pa.array([json.dumps(dict(item.fields)) for item in items], pa.string()),
        }
    )
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
