"""Records of files that no longer exist, and reasons to think that the files are only out of reach."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jclip_connectors.indexing.adding import IndexReport
from jclip_connectors.indexing.files import is_gone, is_of_a_file
from jclip_connectors.indexing.walk import Found
from jclip_connectors.port import VectorStore

_LARGEST_PART = 0.1  # of a collection that is removed without a second word
_FOLDERS_OF_DRIVES = ("/media", "/mnt", "/run/media", "/Volumes")  # a drive that is taken out leaves no folder there
_BATCH = 1000  # records that are read at a time


def find_missing(store: VectorStore, found: Found, report: IndexReport) -> list[str]:
    """The ids of records from these roots whose file no longer exists; ask `reasons_to_keep` before removing them.

    It reads the id of every record, unless the number of records shows that all are from this run.

    Args:
        store: the store of the records.
        found: the result of `find_files`.
        report: the result of `index_files` for these files.
    """
    if store.count() == report.indexed + report.unchanged + report.reused:
        return []
    present = set(found.files)
    missing = [
        record_id
        for record_id in store.ids()
        if record_id not in present
        and any(Path(record_id).is_relative_to(root) for root in found.roots)
        and is_gone(record_id)
    ]
    return sorted(
        record.record_id
        for start in range(0, len(missing), _BATCH)
        for record in store.get(missing[start : start + _BATCH], vectors=False)
        if is_of_a_file(record)
    )


def reasons_to_keep(missing: Sequence[str], found: Found, *, count: int) -> list[str]:
    """Reasons to think that missing files still exist, for example on a drive that is not mounted now.

    A person has to decide: a drive that is not mounted looks like an empty or a deleted folder.

    Args:
        missing: the result of `find_missing`.
        found: the result of `find_files`.
        count: the number of records of the collection.

    Returns:
        Sentences for people; empty if the records can be removed.
    """
    reasons = [*_silent_roots(missing, found), *_empty_folders(missing, found)]
    if len(missing) > _LARGEST_PART * count:
        reasons.append(f"{len(missing)} of the {count} records are more than a tenth of the collection")
    return reasons


def _silent_roots(missing: Sequence[str], found: Found) -> Iterator[str]:
    for root in dict.fromkeys(found.roots):
        affected = sum(Path(path).is_relative_to(root) for path in missing)
        if not affected:
            continue
        if root in found.gone:
            yield f"{str(root)!r} does not exist: {affected} records are from there"
        elif not any(Path(path).is_relative_to(root) for path in found.files):
            yield f"{str(root)!r} contains no picture and no text now: {affected} records are from there"


def _empty_folders(missing: Sequence[str], found: Found) -> Iterator[str]:
    """Folders that look as if a drive were mounted there, or below, at other times."""
    affected: dict[Path, int] = {}
    nearest: dict[Path, Path] = {}  # by the folder of a file
    for path in map(Path, missing):
        if path.parent not in nearest:
            nearest[path.parent] = _nearest_folder(path)
        affected[nearest[path.parent]] = affected.get(nearest[path.parent], 0) + 1
    for folder, count in sorted(affected.items()):
        if _is_empty(folder) and folder not in found.roots:
            yield f"{str(folder)!r} is empty now: {count} records are from there"
        elif _is_folder_of_drives(folder):
            yield f"{str(folder)!r} is where drives are mounted: {count} records are from a drive that is not there"


def _nearest_folder(path: Path) -> Path:
    """The nearest folder above a path that exists; the root of a drive even if it does not exist."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _is_empty(folder: Path) -> bool:
    """Whether a folder contains nothing but hidden files, as an unused mount point does."""
    try:
        with os.scandir(folder) as entries:
            return all(entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


def _is_folder_of_drives(folder: Path) -> bool:
    return any(str(place) in _FOLDERS_OF_DRIVES for place in (folder, folder.parent)) and not os.path.ismount(folder)
