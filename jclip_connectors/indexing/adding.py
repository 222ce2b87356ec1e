"""Adding files to a collection: read, hash and decode, embed, and write, each while the others go on.

A thread plans ahead (`planning`), the embedder decodes ahead in threads of its own, the model runs in the calling
thread, which an interrupt can stop, and a thread writes (`ledger`). Only some chunks are in memory at a time.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.collection.adding import Draft, vector_fields
from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError
from jclip_connectors.indexing.ahead import ahead
from jclip_connectors.indexing.embedding import embed_images
from jclip_connectors.indexing.files import BadFile, is_still_of
from jclip_connectors.indexing.ledger import Ledger
from jclip_connectors.indexing.notes import FileNotes
from jclip_connectors.indexing.planning import Step, plan
from jclip_connectors.port import Record

Progress = Callable[[int, int], None]
"""A function that is called with (done, total) files."""

_CHUNKS_AHEAD = 2  # that are read and hashed before they are needed
_WRITES_WAITING = 1  # besides the one that is on its way


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
    files: Sequence[str | Path],
    *,
    chunk_size: int = 32,
    verify_content: bool = False,
    progress: Progress | None = None,
    notes: FileNotes | None = None,
) -> IndexReport:
    """Add files to a collection in chunks; finished chunks survive a killed process.

    A file that has the size and the time of modification that its record says is not read. A file whose content the
    collection has under another path gets the vectors of that record. If the file at that path no longer exists, the
    file was renamed or moved, and the old record is removed.

    Args:
        collection: the collection.
        files: absolute paths; `/a//b` and `/a/x/../b` are taken for `/a/b`.
        chunk_size: the number of files that are read, embedded and written at a time.
        verify_content: read every file, for files that have changed but have kept their size and time.
        progress: called with (done, total) before the first file is done, and whenever more files are done: skipped,
            written, or failed.
        notes: gets what the collection's embedder has to say about files, if it was made with `on_note=notes`.

    Raises:
        ConnectorError: the store or the embedder failed; what was written stays.
    """
    paths = list(dict.fromkeys(os.path.normpath(os.fspath(file)) for file in files))
    with _Run(collection, len(paths), chunk_size=chunk_size, progress=progress, notes=notes) as run:
        steps = plan(paths, run.ledger, chunk_size=chunk_size, verify_content=verify_content)
        return run.finish(steps, paths)


class _Run:
    """One run: the files on their way, and how many are done."""

    def __init__(
        self,
        collection: MultimodalCollection,
        total: int,
        *,
        chunk_size: int,
        progress: Progress | None,
        notes: FileNotes | None,
    ) -> None:
        self.ledger = Ledger(collection)
        self._embedder = collection.embedder
        self._total = total
        self._chunk_size = chunk_size
        self._progress = progress
        self._notes = notes
        self._texts: list[Draft] = []  # that wait for the model
        self._records: list[Record] = []  # that wait to be written
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-write")
        self._writes: deque[tuple[int, Future[int]]] = deque()  # the number of records, and of copies
        self._indexed = self._unchanged = self._reused = 0
        self._failed: list[BadFile] = []

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(cancel_futures=True)  # the write on its way is waited for

    def finish(self, steps: Generator[Step, None, None], paths: Sequence[str]) -> IndexReport:
        """Do all that is planned."""
        self._tell()
        with (
            closing(steps),
            closing(ahead(steps, count=_CHUNKS_AHEAD)) as planned,
            closing(embed_images(self._embedder, self._images(planned), at_once=self._chunk_size)) as embedded,
        ):
            for draft, found in embedded:
                if isinstance(found, ConnectorError):
                    self._fail(draft, found)
                else:
                    self._keep(draft, found)
        self._write(wait=True)
        order = {path: at for at, path in enumerate(paths)} if self._failed else {}
        return IndexReport(
            indexed=self._indexed,
            unchanged=self._unchanged,
            failed=tuple(sorted(self._failed, key=lambda bad: order[bad.path])),
            reused=self._reused,
        )

    def _images(self, steps: Iterator[Step]) -> Iterator[Draft]:
        """The new images; new texts have their turn at the model as soon as they fill a chunk."""
        for step in steps:
            self._unchanged += step.unchanged
            self._reused += step.reused
            self._failed += step.failed
            if step.unchanged or step.reused or step.failed:
                self._tell()
            for draft in step.new:
                if draft.fields["modality"] == "image":
                    yield draft
                    continue
                self._texts.append(draft)
                if len(self._texts) == self._chunk_size:
                    self._embed_texts()
        self._embed_texts()

    def _embed_texts(self) -> None:
        texts, self._texts = self._texts, []
        if not texts:
            return
        if self._notes is not None:
            self._notes.expect({draft.source: draft.record_id for draft in texts})
        rows: Any
        try:
            rows = dict(enumerate(self._embedder.embed_texts([draft.source for draft in texts])))
        except PartialFailureError as error:
            rows = error.kept
            for at, reason in error.failed.items():
                self._fail(texts[at], reason)
        for at, row in rows.items():
            self._keep(texts[at], row)

    def _fail(self, draft: Draft, error: Exception) -> None:
        path, copies = draft.record_id, self.ledger.give_up(draft)
        for each in (path, *copies):  # a copy has the error that it would have had by itself
            self._failed.append(BadFile(path=each, error=str(error).replace(repr(path), repr(each))))
        self._tell()

    def _keep(self, draft: Draft, vectors: Any) -> None:  # noqa: ANN401 (a row, or tiles)
        record = Record(**draft.fields, **vector_fields(vectors))
        if record.modality == "image" and not is_still_of(record):  # the hash and the vector may be of two pictures
            self._fail(draft, EmbedInputError("it changed while it was indexed: run the command again"))
            return
        self._records.append(record)
        if len(self._records) >= self._chunk_size:
            self._write()

    def _write(self, *, wait: bool = False) -> None:
        """Pass a chunk to the thread that writes; it is done when that thread says so."""
        if self._records:
            self._writes.append((len(self._records), self._writer.submit(self.ledger.write, self._records)))
            self._records = []
        while self._writes and (wait or len(self._writes) > 1 + _WRITES_WAITING or self._writes[0][1].done()):
            count, copies = self._writes.popleft()
            self._reused += copies.result()
            self._indexed += count
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._indexed + self._unchanged + self._reused + len(self._failed), self._total)
