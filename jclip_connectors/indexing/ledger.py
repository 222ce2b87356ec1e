"""The records of a run: which files need a vector, and which take the vectors of a record with the same content."""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.collection.adding import Draft
from jclip_connectors.indexing.files import is_gone, is_of_a_file
from jclip_connectors.port import Record, VectorStore

_LARGEST_WRITE = 256  # records in one call of the store: a file may have any number of copies


class Ledger:
    """Reads and writes the records of a run, in one thread at a time.

    A file whose content is being embedded for another file waits for that file's record.
    """

    def __init__(self, collection: MultimodalCollection) -> None:
        """Nothing is read yet."""
        self._collection = collection
        self._lock = threading.Lock()
        self._copies: dict[tuple[str, str], list[dict[str, Any]]] = {}  # the fields of the files that wait, by content

    def find(self, paths: Sequence[str]) -> dict[str, Record]:
        """The records of files, without their vectors, by path."""
        with self._lock:
            return {record.record_id: record for record in self._collection.store.get(paths, vectors=False)}

    def sort_out(self, drafts: Sequence[Draft], stored: Mapping[str, Record]) -> tuple[list[Draft], int, int]:
        """Write the files whose content the collection has: at their own path, at another one, or soon.

        Args:
            drafts: files that were read.
            stored: the result of `find` for them.

        Returns:
            The files that have to be embedded, how many have kept their vectors, and how many were given those of a
            record of another file.
        """
        changed = [draft for draft in drafts if not _has(stored.get(draft.record_id), draft)]
        touched = [draft for draft in changed if draft.same_content(stored.get(draft.record_id))]
        with self._lock:
            kept = self._rewrite(touched)
            unseen = [draft for draft in changed if draft.record_id not in kept]
            taken = _take_vectors(self._collection.store, unseen)
            new = [draft for draft in unseen if draft.record_id not in taken and self._is_first(draft)]
        return new, len(drafts) - len(unseen), len(taken)

    def write(self, records: Sequence[Record]) -> int:
        """Write new records, and those of the files that wait for them; returns the number of the latter."""
        with self._lock:
            copies = [
                dataclasses.replace(record, **fields)
                for record in records
                for fields in self._copies.pop((record.modality, str(record.content_hash)), ())
            ]
            every = [*records, *copies]
            for start in range(0, len(every), _LARGEST_WRITE):
                self._collection.upsert(every[start : start + _LARGEST_WRITE])
        return len(copies)

    def give_up(self, draft: Draft) -> list[str]:
        """Forget a file that cannot be embedded; returns the paths of the files that wait for it."""
        with self._lock:
            return [str(fields["record_id"]) for fields in self._copies.pop(_content(draft), ())]

    def _is_first(self, draft: Draft) -> bool:
        """Whether no file with this content is being embedded now; else the file waits for that one."""
        waiting = self._copies.get(_content(draft))
        if waiting is None:
            self._copies[_content(draft)] = []
            return True
        waiting.append({name: value for name, value in draft.fields.items() if name != "content"})  # it may be long
        return False

    def _rewrite(self, touched: Sequence[Draft]) -> set[str]:
        """Write the new metadata of files whose content has not changed; the ids of these files are returned."""
        if not touched:
            return set()
        fields = {draft.record_id: draft.fields for draft in touched}
        whole = self._collection.store.get(list(fields))
        self._collection.upsert([dataclasses.replace(record, **fields[record.record_id]) for record in whole])
        return {record.record_id for record in whole}


def _has(record: Record | None, draft: Draft) -> bool:
    return record is not None and draft.same_fields(record)


def _content(draft: Draft) -> tuple[str, str]:
    return draft.fields["modality"], draft.fields["content_hash"]


def _take_vectors(store: VectorStore, drafts: Sequence[Draft]) -> set[str]:
    """Write the files whose content the store has under another id; the ids of these files are returned."""
    hashes = sorted({draft.fields["content_hash"] for draft in drafts})
    if not hashes:
        return set()
    equal: dict[str, list[Record]] = {}  # by content hash; the records of files that are gone come last
    for record in store.scroll(where={"content_hash": {"in": hashes}}, vectors=False):
        equal.setdefault(str(record.content_hash), []).append(record)
    gone = {
        record.record_id
        for records in equal.values()
        for record in records
        if is_of_a_file(record) and is_gone(record.record_id)
    }
    for records in equal.values():
        records.sort(key=lambda record: (record.record_id in gone, record.record_id))
    sources: dict[str, str] = {}  # the id of the record with the vectors, by the id of the file
    for draft in drafts:
        records = [record for record in equal.get(draft.fields["content_hash"], ()) if draft.same_content(record)]
        if not records:
            continue
        source = records[-1]
        sources[draft.record_id] = source.record_id
        if source.record_id in gone and len(records) > 1:  # else further files with this content are copies of this one
            equal[str(source.content_hash)].remove(source)
    whole = {record.record_id: record for record in store.get(sorted(set(sources.values())))}
    written = [
        dataclasses.replace(whole[sources[draft.record_id]], **draft.fields)
        for draft in drafts
        if sources.get(draft.record_id) in whole
    ]
    if written:
        store.upsert(written)
    ids = {record.record_id for record in written}
    if moved := sorted({sources[record_id] for record_id in ids} & gone):
        store.delete(moved)  # after the new records are written, so that a killed process loses nothing
    return ids
