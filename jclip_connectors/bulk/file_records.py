"""The records in a folder of files of vectors, for a copy: read like a store's, and added to.

A folder may have several rows of one id: the last one is the record, in the order in which the files were begun, and of
their rows. What a copy adds goes into new files. Some 30 bytes for each row are in memory while the ids are compared,
and the vectors of one file while it is written.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jclip_connectors.bulk.equality import owned
from jclip_connectors.bulk.last_rows import id_hash
from jclip_connectors.bulk.vector_files import SUFFIX, Sidecar, VectorFolder
from jclip_connectors.bulk.vector_rows import VectorType
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import matches, parse_filter
from jclip_connectors.port import Filter, Modality, NativeFilter, Record
from jclip_connectors.store_kit.validation import check_ids, check_modality, check_records

_PREFIX = "part-"
_FILE_BYTES = 64 * 2**20  # of the vectors of a file: they are in memory until it is written
_FILE_ROWS = 65_536
_READ_ROWS = 256
_Hashes = NDArray[np.uint64]


class FileRecords:
    """The records of a folder of files of vectors; `open` or `make` one."""

    def __init__(self, folder: VectorFolder, sidecar: Sidecar) -> None:
        """Use a folder that has this sidecar."""
        self._folder = folder
        self._sidecar = sidecar
        self._tiled = sidecar.fingerprint.get("tiling") is not None
        self._waiting: list[Record] = []
        self._waiting_bytes = 0
        self._known: tuple[_Hashes, _Hashes] | None = None  # of the ids and of the records when it was opened

    @classmethod
    def open(cls, folder: VectorFolder) -> Self:
        """Open an existing folder.

        Raises:
            EmbedInputError: it is no folder of files of vectors.
            StoreRequestError: its sidecar is damaged, or another version wrote it.
        """
        return cls(folder, folder.require_sidecar())

    @classmethod
    def make(cls, folder: VectorFolder, config: EmbeddingConfig, *, length: int) -> Self:
        """Open a folder for vectors of a configuration and a length, or make it.

        Raises:
            CollectionMismatchError: it has vectors of another configuration.
            EmbedInputError: it has vectors of another length, or Parquet files of something else.
            StoreRequestError: its sidecar is damaged, or another version wrote it.
        """
        found = folder.read_sidecar()
        kind: VectorType = "float32" if found is None else found.vector_type
        sidecar = Sidecar(fingerprint=config.fingerprint(), dimensions=length, vector_type=kind)
        folder.prepare(sidecar)
        folder.remove_leftovers()  # of a copy that was killed
        return cls(folder, sidecar if found is None else found)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that made the vectors."""
        return self._sidecar.fingerprint

    @property
    def length(self) -> int:
        """E, the length of the vectors."""
        return self._sidecar.dimensions

    @property
    def vector_tolerance(self) -> float:
        """The most that a value of a vector of unit length differs from what was written: more for float16."""
        return 1e-6 if self._sidecar.vector_type == "float32" else 2.0**-10

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records; rows of one id are one record."""
        return sum(1 for _ in self.scroll(where=where, modality=modality, vectors=False))

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """Iterate over the matching records in the order of their files, with 256 in memory at a time."""
        if isinstance(where, NativeFilter):
            raise EmbedInputError("`where` is a filter of a database, and files have none: write it as a dict")
        condition = parse_filter(where)
        check_modality(modality)
        self._flush()
        return (
            record
            for record in self._last(vectors=vectors)
            if modality in (None, record.modality) and matches(condition, record.metadata)
        )

    def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Find records by their ids, in the order of `ids`, in one pass over all files."""
        wanted = check_ids(ids)
        self._flush()
        found: dict[str, Record] = {}
        asked = set(wanted)
        for name in self._folder.in_order() if wanted else ():
            for records in self._folder.records(name, rows=_READ_ROWS, vectors=vectors):
                found |= {record.record_id: owned(record) for record in records if record.record_id in asked}
        return [found[record_id] for record_id in wanted if record_id in found]

    def changed(self, records: Sequence[Record]) -> list[Record]:
        """The records that the folder did not have when this was called first, or had otherwise."""
        if self._known is None:
            self._known = self._read_known()
        ids, contents = self._known
        # As they would be written: a vector that is brought to unit length may move by a bit.
        checked = check_records(records, dimensions=self._sidecar.dimensions, tiled=self._tiled)
        same = set()
        for record in checked:
            wanted = id_hash(record.record_id)
            at = int(np.searchsorted(ids, np.uint64(wanted)))
            if at < len(ids) and ids[at] == wanted and contents[at] == self._content_hash(record):
                same.add(record.record_id)
        return [record for record in records if record.record_id not in same]

    def upsert(self, records: Sequence[Record]) -> None:
        """Add records to the next file, which is written when it is large enough, or by `close`."""
        for record in check_records(records, dimensions=self._sidecar.dimensions, tiled=self._tiled):
            self._waiting.append(record)
            self._waiting_bytes += record.embedding.nbytes
            self._waiting_bytes += 0 if record.tile_embeddings is None else record.tile_embeddings.nbytes
            if self._waiting_bytes >= _FILE_BYTES or len(self._waiting) >= _FILE_ROWS:
                self._flush()

    def close(self) -> None:
        """Write the records that wait for a file."""
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        number = sum(name.startswith(_PREFIX) for name in self._folder.files())
        # Two copies into one folder, which find the same number, have files of their own.
        name = f"{_PREFIX}{number:08}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        batches = (self._waiting[start : start + _READ_ROWS] for start in range(0, len(self._waiting), _READ_ROWS))
        self._folder.write_records(name, batches, self._sidecar, source="jclip copy")
        self._waiting, self._waiting_bytes = [], 0

    def _last(self, *, vectors: bool) -> Iterator[Record]:
        """The records without those that a later row replaces."""
        files = self._folder.in_order()
        current = _last_of_each(_gathered(self._ids(files)))
        row = 0
        for name in files:
            for records in self._folder.records(name, rows=_READ_ROWS, vectors=vectors):
                for record in records:
                    if current is None or current[row]:
                        yield record
                    row += 1

    def _ids(self, files: Sequence[str]) -> Iterator[list[int]]:
        for name in files:
            for batch in self._folder.batches(name, columns=["record_id", "error"]):
                good = batch.filter(batch.column("error").is_null())
                yield [id_hash(record_id) for record_id in good.column("record_id").to_pylist()]

    def _read_known(self) -> tuple[_Hashes, _Hashes]:
        """The hashes of the ids, sorted, and those of their records."""
        self._flush()
        ids: list[_Hashes] = []
        contents: list[_Hashes] = []
        for name in self._folder.in_order():
            for records in self._folder.records(name, rows=_READ_ROWS):
                ids.append(np.array([id_hash(record.record_id) for record in records], np.uint64))
                contents.append(np.array([self._content_hash(record) for record in records], np.uint64))
        if not ids:
            return np.empty(0, np.uint64), np.empty(0, np.uint64)
        # Of equal ids the last one: `unique` finds the first in the reversed order.
        sorted_ids, places = np.unique(np.concatenate(ids)[::-1], return_index=True)
        return sorted_ids, np.concatenate(contents)[::-1][places]

    def _content_hash(self, record: Record) -> int:
        """A hash of what a row has: of a vector, the values as this folder keeps them."""
        dtype = np.dtype(self._sidecar.vector_type)
        fields = [record.modality, record.content, record.uri, record.content_hash]
        digest = hashlib.blake2b(json.dumps([fields, record.metadata], sort_keys=True).encode(), digest_size=8)
        digest.update(np.ascontiguousarray(record.embedding, dtype).tobytes())
        if record.tile_embeddings is not None:
            digest.update(np.ascontiguousarray(record.tile_embeddings, dtype).tobytes())
            digest.update(np.ascontiguousarray(record.tile_boxes, np.int64).tobytes())
        return int.from_bytes(digest.digest(), "little")


def _gathered(parts: Iterable[list[int]]) -> _Hashes:
    arrays = [np.array(part, np.uint64) for part in parts]
    return np.concatenate(arrays) if arrays else np.empty(0, np.uint64)


def _last_of_each(ids: _Hashes) -> NDArray[np.bool_] | None:
    """Whether each row is the last one of its id; `None` if all are."""
    unique, places = np.unique(ids[::-1], return_index=True)
    if len(unique) == len(ids):
        return None
    last = np.zeros(len(ids), np.bool_)
    last[len(ids) - 1 - places] = True
    return last
