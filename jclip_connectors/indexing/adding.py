"""Adding files to a collection in chunks: a file is embedded only if no record has its content.

A chunk costs one request for the records of its files and, if some are new, one for records with equal content.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_connectors.collection import AddReport, MultimodalCollection
from jclip_connectors.collection.adding import Draft
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.indexing.files import TEXT_SUFFIXES, BadFile, describe_file, read_text
from jclip_connectors.indexing.first_bytes import is_picture, is_pointer, read_head, what_it_is
from jclip_connectors.indexing.notes import FileNotes
from jclip_connectors.port import Record, VectorStore

Progress = Callable[[int, int], None]
"""A function that is called with (done, total) files."""


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """The result of one run.

    Attributes:
        indexed: the number of files that were embedded and written.
        unchanged: the number of files that the collection already had with the same content.
        failed: files that could not be read; the record of an earlier version is kept.
        reused: the number of renamed, moved or copied files: each got the vectors of a record with the same content.
    """

    indexed: int
    unchanged: int
    failed: tuple[BadFile, ...]
    reused: int = 0


def index_files(
    collection: MultimodalCollection,
    files: Sequence[Path],
    *,
    chunk_size: int = 32,
    progress: Progress | None = None,
    notes: FileNotes | None = None,
) -> IndexReport:
    """Add files to a collection in chunks; finished chunks survive a killed process.

    A file whose content the collection has under another path gets the vectors of that record. If the file at that path
    no longer exists, the file was renamed or moved, and the old record is removed.

    Args:
        collection: the collection.
        files: absolute paths.
        chunk_size: the number of files that are processed and in memory at a time.
        progress: called with (done, total) before the first and after every chunk.
        notes: gets what the collection's embedder has to say about files, if it was made with `on_note=notes`.
    """
    indexed = unchanged = reused = 0
    failed: list[BadFile] = []
    if progress is not None:
        progress(0, len(files))
    for start in range(0, len(files), chunk_size):
        drafts = list(_describe(files[start : start + chunk_size], failed))
        found = collection.store.get([draft.record_id for draft in drafts], vectors=False)
        stored = {record.record_id: record for record in found}
        changed = [draft for draft in drafts if not _is_stored(draft, stored)]
        unchanged += len(drafts) - len(changed)
        unseen = [draft for draft in changed if not draft.same_content(stored.get(draft.record_id))]
        taken = _take_vectors(collection.store, unseen)
        reused += len(taken)
        rest = [draft for draft in changed if draft.record_id not in taken]
        if notes is not None:
            notes.expect(_paths_of_texts(rest))
        for report in _add(collection, rest, failed):
            indexed += report.embedded
            unchanged += len(report.ids) - report.embedded
        if progress is not None:
            progress(min(start + chunk_size, len(files)), len(files))
    return IndexReport(indexed=indexed, unchanged=unchanged, failed=tuple(failed), reused=reused)


def is_gone(path: str) -> bool:
    """Whether a file certainly does not exist; a file in an unreadable folder may exist."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_of_a_file(record: Record) -> bool:
    """Whether `index_files` made a record; the records of other programs are never removed."""
    return record.metadata.get("path") == record.record_id


def _describe(paths: Sequence[Path], failed: list[BadFile]) -> Iterator[Draft]:
    """Read and hash files; files that cannot be read are put into `failed`."""
    for path in paths:
        try:
            draft = _draft(path)
        except EmbedInputError as error:
            failed.append(BadFile(path=str(path), error=str(error)))
        except OSError as error:
            failed.append(BadFile(path=str(path), error=f"it cannot be read: {error.strerror}"))
        else:
            yield draft


def _draft(path: Path) -> Draft:
    metadata = describe_file(path)
    head = read_head(path)
    if is_pointer(head):
        raise EmbedInputError(f"it is {what_it_is(head)}")
    if path.suffix.lower() in TEXT_SUFFIXES and not is_picture(head):
        text = read_text(path)
        return _with_metadata(text, describe_text(text), metadata)
    return _with_metadata(path, describe_image(path), metadata)


def _with_metadata(source: str | Path, fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> Draft:
    described = {**metadata, "content_hash": fields["content_hash"]}
    return Draft(source=source, fields={**fields, "record_id": metadata["path"], "metadata": described})


def _is_stored(draft: Draft, stored: Mapping[str, Record]) -> bool:
    return draft.record_id in stored and draft.same_fields(stored[draft.record_id])


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


def _add(collection: MultimodalCollection, drafts: Sequence[Draft], failed: list[BadFile]) -> Iterator[AddReport]:
    for modality, add in (("image", collection.add_images), ("text", collection.add_texts)):
        chosen = [draft for draft in drafts if draft.fields["modality"] == modality]
        if not chosen:
            continue
        ids = [draft.record_id for draft in chosen]
        report = add([draft.source for draft in chosen], [draft.fields["metadata"] for draft in chosen], ids)
        failed += [BadFile(path=ids[at], error=str(error)) for at, error in report.failed.items()]
        yield report


def _paths_of_texts(drafts: Sequence[Draft]) -> dict[str, list[str]]:
    paths: dict[str, list[str]] = {}
    for draft in drafts:
        if isinstance(draft.source, str):
            paths.setdefault(draft.source, []).append(draft.record_id)
    return paths
