"""What is in a folder of files of vectors: how much of its sources, and which rows have failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jclip_connectors.bulk.columns import Columns
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.vector_files import MARKER, TEMPORARY, VectorFolder


@dataclass(frozen=True, kw_only=True)
class FolderStatus:
    """What is in a folder of files of vectors.

    Attributes:
        files: the number of files.
        rows: of all files.
        failed: how many of these failed.
        size_bytes: of all files.
        begun: the number of shards that are being embedded, or whose process has died.
        shards: the number of shards of the sources, if there are sources.
        done: how many of these are there.
    """

    files: int
    rows: int
    failed: int
    size_bytes: int
    begun: int
    shards: int | None = None
    done: int | None = None


@dataclass(frozen=True, kw_only=True)
class FailedRow:
    """An item that could not be embedded.

    Attributes:
        shard: the URL of its source.
        key: its name there.
        error: why.
    """

    shard: str
    key: str
    error: str


def read_status(out: str, shards: Sequence[Shard] | None = None, *, columns: Columns) -> FolderStatus:
    """Count what is in a folder of files of vectors, without a model.

    Args:
        out: the folder, or its URL.
        shards: of the sources; `None` if they are not asked for.
        columns: of these.

    Raises:
        EmbedInputError: there is no folder of vectors.
        StoreRequestError: a file is damaged.
    """
    folder = VectorFolder(out)
    fingerprint = folder.require_sidecar().fingerprint
    files = folder.files()
    counts = list(folder.counts(files))
    names = None if shards is None else {shard.name(fingerprint, columns) for shard in shards}
    return FolderStatus(
        files=len(files),
        rows=sum(rows for rows, _ in counts),
        failed=sum(failed for _, failed in counts),
        size_bytes=sum(map(folder.size, files)),
        begun=sum(name.endswith(MARKER) for name in folder.names(TEMPORARY)),
        shards=None if names is None else len(names),
        done=None if names is None else len(names & set(files)),
    )


def failed_rows(out: str, names: Sequence[str]) -> Iterator[FailedRow]:
    """Read the rows that have failed.

    Args:
        out: the folder, or its URL.
        names: of its files; only two columns of those with such rows are read.

    Raises:
        StoreRequestError: a file is damaged.
    """
    folder = VectorFolder(out)
    for name, (_, failed) in zip(names, folder.counts(names), strict=True):
        if not failed:
            continue
        for batch in folder.batches(name, columns=["key", "error"]):
            source = (batch.schema.metadata or {}).get(b"jclip.source", b"").decode()
            some = batch.filter(batch.column("error").is_valid())
            for key, error in zip(some.column("key").to_pylist(), some.column("error").to_pylist(), strict=True):
                yield FailedRow(shard=source, key=key, error=error)
