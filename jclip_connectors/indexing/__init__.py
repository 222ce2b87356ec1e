"""Indexing folders of pictures and texts: find the files, add them in chunks, and find records of deleted files.

A file's id is its absolute path, so every file is one record, even if a run is interrupted and repeated. The hash of a
file's content shows whether it has changed, and whether it is a file that was renamed or moved.
"""

from jclip_connectors.indexing.adding import IndexReport, Progress, index_files
from jclip_connectors.indexing.files import IMAGE_SUFFIXES, MAX_TEXT_BYTES, TEXT_SUFFIXES, BadFile
from jclip_connectors.indexing.notes import FileNote, FileNotes
from jclip_connectors.indexing.pruning import find_missing, reasons_to_keep
from jclip_connectors.indexing.walk import LITTER, Found, LeftOut, find_files, unused_patterns

__all__ = [
    "IMAGE_SUFFIXES",
    "LITTER",
    "MAX_TEXT_BYTES",
    "TEXT_SUFFIXES",
    "BadFile",
    "FileNote",
    "FileNotes",
    "Found",
    "IndexReport",
    "LeftOut",
    "Progress",
    "find_files",
    "find_missing",
    "index_files",
    "reasons_to_keep",
    "unused_patterns",
]
