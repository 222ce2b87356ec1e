"""Which rows of a folder of files of vectors are records: of the rows with one id, the last one.

The order is that in which the files were begun, and of the rows in a file. 8 bytes for each row are in memory, and the
ids that several rows have.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.port import Record

_Hashes = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _File:
    """What is known of a file: its version that was read, when it was begun, and the hashes of its ids."""

    version: str
    begun_ns: int
    hashes: _Hashes


class LastRows:
    """The rows of a folder that count."""

    def __init__(self, folder: VectorFolder) -> None:
        """Use a folder; nothing is read."""
        self._folder = folder
        self._read: dict[str, _File] = {}
        self._last: dict[str, tuple[str, int]] = {}  # of each id that several rows have: its file and row
        self._dropped: dict[str, int] = {}  # rows that do not count, by file

    def read(self, versions: dict[str, str]) -> None:
        """Read the ids of the files that were not read yet, or have changed.

        Args:
            versions: the version of each file of the folder.

        Raises:
            StoreRequestError: a file is damaged.
        """
        for name in self._read.keys() - versions.keys():
            del self._read[name]
        for name, version in versions.items():
            if name not in self._read or self._read[name].version != version:
                hashes = [id_hash(record_id) for ids in self._ids(name) for record_id in ids]
                begun_ns = self._folder.begun_ns(name)
                self._read[name] = _File(version=version, begun_ns=begun_ns, hashes=np.array(hashes, np.uint64))
        self._find_last()

    def counts(self, name: str, ids: Sequence[str], *, start: int) -> list[bool]:
        """Whether each of some rows is the last one of its id.

        Args:
            name: of their file.
            ids: of the rows, which follow each other.
            start: how many records of the file are before them.
        """
        if not self._dropped.get(name):
            return [True] * len(ids)
        return [self._last.get(record_id, (name, row)) == (name, row) for row, record_id in enumerate(ids, start)]

    @property
    def rows(self) -> int:
        """The number of rows with a record, of all files."""
        return sum(len(file.hashes) for file in self._read.values())

    @property
    def files(self) -> list[str]:
        """The files that were read, from the oldest to the newest."""
        return sorted(self._read, key=lambda name: (self._read[name].begun_ns, name))

    def dropped(self, name: str) -> int:
        """How many rows of a file do not count."""
        return self._dropped.get(name, 0)

    def _find_last(self) -> None:
        self._last, self._dropped = {}, {}
        several = _repeated([file.hashes for file in self._read.values()])
        if not len(several):
            return
        held = [name for name in self.files if np.isin(self._read[name].hashes, several).any()]
        rows = dict.fromkeys(held, 0)
        kept = dict.fromkeys(held, 0)
        for name in held:  # a hash may be of two ids, so the ids themselves decide
            marked = np.isin(self._read[name].hashes, several)
            for ids in self._ids(name):
                for record_id in ids:
                    if marked[rows[name]]:
                        self._last[record_id] = (name, rows[name])
                    rows[name] += 1
            rows[name] = int(marked.sum())
        for name, _ in self._last.values():
            kept[name] += 1
        self._dropped = {name: rows[name] - kept[name] for name in held}

    def _ids(self, name: str) -> Iterator[list[str]]:
        for batch in self._folder.batches(name, columns=["record_id", "error"]):
            good = batch.filter(batch.column("error").is_null())
            yield good.column("record_id").to_pylist()


def last_records(folder: VectorFolder, *, rows: int) -> Iterator[list[Record]]:
    """The records of a folder that count, some at a time, from the oldest file to the newest."""
    last = LastRows(folder)
    last.read(folder.versions())
    for name in last.files:
        start = 0
        for records in folder.records(name, rows=rows):
            counts = last.counts(name, [record.record_id for record in records], start=start)
            start += len(records)
            if wanted := [record for record, counted in zip(records, counts, strict=True) if counted]:
                yield wanted


def id_hash(record_id: str) -> int:
    """A hash of an id, of 64 bits."""
    return int.from_bytes(hashlib.blake2b(record_id.encode(), digest_size=8).digest(), "little")


def _repeated(parts: Sequence[_Hashes]) -> _Hashes:
    """The values that come several times."""
    if not parts:
        return np.empty(0, np.uint64)
    values = np.sort(np.concatenate(parts))
    return np.unique(values[1:][values[1:] == values[:-1]])
