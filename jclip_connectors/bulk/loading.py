"""Files of vectors written to a store, by a few threads, so that a killed run goes on where it was."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from jclip_connectors.bulk.carried import CarriedConfig, carried_config
from jclip_connectors.bulk.deferred_index import deferred_index
from jclip_connectors.bulk.last_rows import LastRows
from jclip_connectors.bulk.load_marks import LoadMarks
from jclip_connectors.bulk.pacing import Rate, Turns
from jclip_connectors.bulk.refusals import Refusals, Upsert, patient_upsert, write_records
from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.bulk.vector_rows import to_records
from jclip_connectors.errors import EmbedInputError, StoreUnavailableError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.patience import Patience
from jclip_connectors.store_kit.validation import check_count

_LOG = logging.getLogger(__package__)
OpenStore: TypeAlias = Callable[[CarriedConfig, int], VectorStore]  # with the length of the vectors
BATCH_RECORDS = 256
WRITERS = 4
PATIENCE_S = 3600.0
_LOOK_AGAIN_S = 5.0
_LOOKED_AT = 16  # files that were loaded before, to see whether the store still has them


@dataclass(frozen=True, kw_only=True)
class LoadProgress:
    """How far a load is.

    Attributes:
        files: how many files are loaded, of `of_files`.
        of_files: how many files were to be loaded when this run began, and those that came since.
        written: how many records this run has written.
        refused: how many records the store has refused.
        writers: how many threads may write at the moment: fewer while the store says that it is busy.
    """

    files: int
    of_files: int
    written: int
    refused: int
    writers: int


Progress: TypeAlias = Callable[[LoadProgress], None]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What `load` has done.

    Attributes:
        files: how many files this run has loaded.
        files_before: how many files were loaded before.
        written: how many records this run has written.
        skipped: how many rows of these files are items that failed when they were embedded.
        folded: how many rows of these files have the id of a later row, which is written in their place.
        refused: what the store has refused, in this run and before: file, id and error of each record.
    """

    files: int
    files_before: int
    written: int
    skipped: int
    folded: int
    refused: tuple[dict[str, str], ...]


@dataclass(kw_only=True)
class _Tally:
    files: int = 0
    of_files: int = 0
    written: int = 0
    skipped: int = 0
    folded: int = 0
    refused: int = 0


def load(
    folder: str | Path,
    open_store: OpenStore,
    *,
    store_name: str,
    writers: int = WRITERS,
    batch_size: int = BATCH_RECORDS,
    limit: int | None = None,
    rate: float | None = None,
    patience_s: float = PATIENCE_S,
    follow_s: float | None = None,
    redo_refused: bool = False,
    defer_index: bool = False,
    progress: Progress | None = None,
) -> LoadReport:
    """Write the records of a folder of files of vectors to a store.

    Each writer is a thread with a store of its own; it takes a file, writes its records in batches, and then puts a
    mark beside the files. A run that was interrupted writes the files again that have no mark: a record that is
    written twice is there once. Of the rows with one id, the one of the newest file is written.

    Args:
        folder: the folder, or its URL.
        open_store: called once for each writer, in the calling thread, with the configuration that the vectors have
            and their length.
        store_name: what tells the store from others, such as its URL: each store has marks of its own.
        writers: the most threads that write at a time.
        batch_size: the number of records that are written at a time.
        limit: end after about so many records; the file that is then not complete is loaded again by the next run.
        rate: the most records a second, of all writers.
        patience_s: how long the store may be busy, or not be reached, without any success. At a 429 the number of
            writers is halved; it rises by one a minute.
        follow_s: look for new files when all are loaded, and end when none has come for so many seconds; `None` does
            not look again.
        redo_refused: load the files again of which the store has refused records.
        defer_index: leave the search index of a Qdrant collection out while records are written, and build it at the
            end, also after a failure; after a kill, the next load does that.
        progress: called in the threads of the writers, after each batch.

    Raises:
        EmbedInputError: there is no folder of vectors, or a bad option.
        CollectionMismatchError: the store is for vectors of another configuration.
        StoreUnavailableError: the store cannot be reached; the same call goes on from there.
        StoreRequestError: the store refuses every record, or a file is damaged.
    """
    for name, value in (("writers", writers), ("batch_size", batch_size), ("limit", limit)):
        if value is not None:
            check_count(value, name=name)
    for name, seconds in (("rate", rate), ("patience_s", patience_s), ("follow_s", follow_s)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise EmbedInputError(f"`{name}` is {seconds!r}; use a number above 0")
    files = VectorFolder(folder)
    sidecar = files.require_sidecar()
    config = carried_config(sidecar.fingerprint, length=sidecar.dimensions)
    loading = _Loading(
        files,
        LoadMarks(files, store_name),
        open_store=lambda: open_store(config, sidecar.dimensions),
        writers=writers,
        batch_size=batch_size,
        limit=limit,
        rate=rate,
        patience_s=patience_s,
        progress=progress,
    )
    return loading.run(follow_s=follow_s, redo_refused=redo_refused, defer_index=defer_index)


class _Loading:
    """One call of `load`."""

    def __init__(
        self,
        files: VectorFolder,
        marks: LoadMarks,
        *,
        open_store: Callable[[], VectorStore],
        writers: int,
        batch_size: int,
        limit: int | None,
        rate: float | None,
        patience_s: float,
        progress: Progress | None,
    ) -> None:
        self._files = files
        self._marks = marks
        self._last = LastRows(files)
        self._open_store = open_store
        self._writers = writers
        self._batch_size = batch_size
        self._left = limit
        self._patience = Patience(patience_s, on_wait=self._on_wait)
        self._turns = Turns(writers, clock=self._patience.now_s)
        self._rate = None if rate is None else Rate(rate, clock=self._patience.now_s, wait=self._patience.wait)
        self._progress = progress
        self._stores: list[Upsert] = []
        self._tally = _Tally()
        self._refusals = Refusals()
        self._lock = threading.Lock()  # of the tally and what is left
        self._stop = threading.Event()

    def run(self, *, follow_s: float | None, redo_refused: bool, defer_index: bool) -> LoadReport:
        """Write every file that has no mark."""
        first = self._open_store()
        self._stores.append(patient_upsert(first, self._patience))
        versions = self._files.versions()
        self._forget_if_gone(first, versions)
        todo = self._marks.todo(versions, again=redo_refused)
        waits = bool(todo) or follow_s is not None
        with deferred_index(first, self._files, self._marks.note, defer=defer_index and waits):
            return self._run(versions, todo, follow_s=follow_s)

    def _run(self, versions: dict[str, str], todo: Sequence[str], *, follow_s: float | None) -> LoadReport:
        before = len(versions) - len(todo)
        came_s = self._patience.now_s()
        while True:
            if todo:
                self._tally.of_files += len(todo)
                self._last.read(versions)
                self._write_all(todo, versions)
                came_s = self._patience.now_s()
            waited_s = self._patience.now_s() - came_s
            if follow_s is None or waited_s >= follow_s or self._left == 0:
                break
            self._patience.wait(min(_LOOK_AGAIN_S, follow_s - waited_s))
            versions = self._files.versions()
            todo = self._marks.todo(versions, again=False)
        tally = self._tally
        return LoadReport(
            files=tally.files,
            files_before=before,
            written=tally.written,
            skipped=tally.skipped,
            folded=tally.folded,
            refused=tuple(self._marks.refused(versions)),
        )

    def _on_wait(self, error: StoreUnavailableError, _: float) -> None:
        if error.busy:
            self._turns.halve()

    def _forget_if_gone(self, store: VectorStore, versions: Mapping[str, str]) -> None:
        """Remove the marks if the store has none of some loaded records: its collection is another one since."""
        ids = [record_id for name in self._marks.loaded(versions)[:_LOOKED_AT] for record_id in self._first(name)]
        if ids and not store.get(ids, vectors=False):
            _LOG.warning("the store has nothing of what an earlier load has written: it is written again")
            self._marks.clear()

    def _first(self, name: str) -> list[str]:
        """The id of the first record of a file."""
        for batch in self._files.batches(name, rows=_LOOKED_AT, columns=["record_id", "error"]):
            good = batch.filter(batch.column("error").is_null()).column("record_id").to_pylist()
            if good:
                return [str(good[0])]
        return []

    def _write_all(self, todo: Sequence[str], versions: Mapping[str, str]) -> None:
        while len(self._stores) < min(self._writers, len(todo)):
            self._stores.append(patient_upsert(self._open_store(), self._patience))
        queue = deque(todo)
        with ThreadPoolExecutor(len(self._stores), thread_name_prefix="jclip-load") as pool:
            running = [pool.submit(self._write_files, queue, versions, upsert) for upsert in self._stores]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
                for writer in done:
                    writer.result()
            except BaseException:  # also an interrupt: the other threads end, too
                self._stop.set()
                self._patience.give_up()
                raise

    def _write_files(self, queue: deque[str], versions: Mapping[str, str], upsert: Upsert) -> None:
        """Write files until there are none; the work of one thread."""
        while not self._stop.is_set():
            try:
                name = queue.popleft()
            except IndexError:
                return
            refused = self._write_file(name, upsert)
            if refused is None:
                return
            self._marks.put(name, versions[name], refused)
            self._count(files=1)

    def _write_file(self, name: str, upsert: Upsert) -> dict[str, str] | None:
        """Write one file; returns what the store has refused, or `None` if the run ends before the file does."""
        refused: dict[str, str] = {}
        row = skipped = folded = 0
        for batch in self._files.batches(name, rows=self._batch_size):
            found = to_records(batch)
            skipped += len(batch) - len(found)
            counts = self._last.counts(name, [record.record_id for record in found], start=row)
            row += len(found)
            wanted = [record for record, last in zip(found, counts, strict=True) if last]
            folded += len(found) - len(wanted)
            records = wanted[: self._take(len(wanted))]
            if self._rate is not None:
                self._rate.wait_for(len(records))
            with self._turns:
                now = write_records(upsert, records, self._refusals)
            refused |= now
            self._count(written=len(records) - len(now), refused=len(now))
            if len(records) < len(wanted) or self._stop.is_set():
                return None
        self._count(skipped=skipped, folded=folded)
        return refused

    def _take(self, wanted: int) -> int:
        """How many of some records to write: fewer at the limit of the run."""
        with self._lock:
            if self._left is None:
                return wanted
            taken = min(wanted, self._left)
            self._left -= taken
            return taken

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, value in more.items():
                setattr(self._tally, name, getattr(self._tally, name) + value)
            tally = self._tally
            if self._progress is not None:
                self._progress(
                    LoadProgress(
                        files=tally.files,
                        of_files=tally.of_files,
                        written=tally.written,
                        refused=tally.refused,
                        writers=self._turns.allowed(),
                    )
                )
