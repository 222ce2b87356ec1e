"""Records of one collection written to another one, with their vectors: nothing is embedded again."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from jclip_connectors.bulk.carried import carried_config, shortened
from jclip_connectors.bulk.equality import Comparison, Sample, tolerance_of
from jclip_connectors.bulk.refusals import Refusals, write_records
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import CopyError, EmbedInputError
from jclip_connectors.filters import parse_filter
from jclip_connectors.port import Filter, Modality, NativeFilter, Record
from jclip_connectors.store_kit.validation import check_count, check_fingerprint

Progress: TypeAlias = Callable[[int, int], None]  # records done, records in all
BATCH_RECORDS = 256
_MOST_FAILED = 1000  # records that the target refuses; with more, something is wrong with all of them


class RecordSource(Protocol):
    """What records are read from: any `VectorStore`, or a folder of files of vectors."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that made the vectors."""

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """See `VectorStore.count`."""

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """See `VectorStore.scroll`."""


class RecordTarget(Protocol):
    """What records are written to: any `VectorStore`, or a folder of files of vectors."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that made the vectors."""

    def upsert(self, records: Sequence[Record]) -> None:
        """See `VectorStore.upsert`."""

    def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """See `VectorStore.get`."""

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """See `VectorStore.count`."""


@runtime_checkable
class KnowsRecords(Protocol):
    """A target that knows which records it lacks without a search for each."""

    def changed(self, records: Sequence[Record]) -> list[Record]:
        """The records that the target does not have, or has otherwise."""


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """What `copy_collection` has done.

    Attributes:
        read: how many records were read.
        written: how many of them were written.
        unchanged: how many the target had already, with equal vectors and fields.
        failed: why the target refused a record, by id.
        counted: how many records that match `where` the target has now; all of its records for a filter in a
            database's own language.
        compared: how many records were read back from the target and compared with what was written.
        largest_difference: the largest difference of a value of their vectors, at unit length.
    """

    read: int
    written: int
    unchanged: int
    failed: dict[str, str]
    counted: int
    compared: int
    largest_difference: float


@dataclass(kw_only=True)
class _Tally:
    read: int = 0
    written: int = 0
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)


def copy_collection(
    source: RecordSource,
    target: RecordTarget,
    *,
    dimensions: int | None = None,
    where: Filter | None = None,
    batch_size: int = BATCH_RECORDS,
    progress: Progress | None = None,
) -> CopyReport:
    """Write the records of `source` to `target`, and compare a sample of what the target then has.

    Ids, metadata, contents, addresses, hashes, tiles and boxes are carried as they are. Nothing is deleted from the
    target; a record of the same id is replaced. What the target has already is read and not written, so the same call
    completes a copy that was interrupted. A thread reads the next batch while one is written.

    Args:
        source: a store, or a folder of files of vectors.
        target: a store, or a folder of files of vectors, opened with the configuration of `carried_config`.
        dimensions: how many values of each vector to keep; the vectors of records and tiles are then scaled to unit
            length. `None` keeps all of them.
        where: copy only records that match this filter.
        batch_size: the number of records that are read and written at a time; two batches are in memory.
        progress: called with the number of records that are done and the number of all, after each batch.

    Raises:
        ConfigError: the model was not trained for shorter vectors, or the vectors have fewer than `dimensions` values.
        CollectionMismatchError: the target is for vectors of another configuration.
        CopyError: the target lacks records after the copy or has others, or refuses more than 1000 records.
        EmbedInputError: a bad filter or option, or source and target are the same.
        StoreUnavailableError: a store cannot be reached; the same call goes on from there.
        StoreRequestError: a store refuses a request.
    """
    ends: tuple[object, object] = (source, target)
    if ends[0] is ends[1]:
        raise EmbedInputError("`source` and `target` are the same collection: copy into another one")
    check_count(batch_size, name="batch_size")
    parse_filter({} if isinstance(where, NativeFilter) else where)
    counted = source.count(where=where)
    tally, sample = _Tally(), Sample()
    comparison = Comparison(tolerance=tolerance_of(target))
    found_before = target.count() > 0
    for batch in _batches(source, where, batch_size):
        if not tally.read:
            length = batch[0].embedding.shape[-1]
            _check_target(source, target, length=length, dimensions=dimensions)
        records = batch if dimensions is None else [shortened(record, dimensions) for record in batch]
        _write(target, _changed(target, records, comparison, tally) if found_before else records, tally)
        sample.add(records)
        tally.read += len(batch)
        if progress is not None:
            progress(tally.read, max(counted, tally.read))
    if not tally.read:
        _check_target(source, target, length=None, dimensions=dimensions)
    return _verify(target, where, tally, sample, expected=counted)


def _check_target(source: RecordSource, target: RecordTarget, *, length: int | None, dimensions: int | None) -> None:
    carried = carried_config(source.fingerprint, length=length, dimensions=dimensions).carried
    check_fingerprint(target.fingerprint, carried, collection="the target")


def _batches(source: RecordSource, where: Filter | None, size: int) -> Iterator[list[Record]]:
    """The records in batches; a thread reads the next batch meanwhile."""
    records = source.scroll(where=where)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-copy") as pool:
        upcoming = pool.submit(_next, records, size)
        while batch := upcoming.result():
            upcoming = pool.submit(_next, records, size)
            yield batch


def _next(records: Iterator[Record], size: int) -> list[Record]:
    return list(itertools.islice(records, size))


def _changed(target: RecordTarget, records: Sequence[Record], comparison: Comparison, tally: _Tally) -> list[Record]:
    """The records that the target does not have, or has otherwise."""
    if isinstance(target, KnowsRecords):
        changed = target.changed(records)
    else:
        stored = {record.record_id: record for record in target.get([record.record_id for record in records])}
        changed = [
            record for record in records if comparison.difference(record, stored.get(record.record_id)) is not None
        ]
    tally.unchanged += len(records) - len(changed)
    return changed


def _write(target: RecordTarget, records: Sequence[Record], tally: _Tally) -> None:
    """Write records; those that the target refuses are in `tally.failed`.

    Raises:
        CopyError: too many are refused.
    """
    failed = write_records(target.upsert, records, tally.refusals)
    tally.failed |= failed
    tally.written += len(records) - len(failed)
    if len(tally.failed) > _MOST_FAILED:
        first = next(iter(tally.failed.values()))
        raise CopyError(f"the target refuses more than {_MOST_FAILED} records, the first one with: {first}")


def _verify(target: RecordTarget, where: Filter | None, tally: _Tally, sample: Sample, *, expected: int) -> CopyReport:
    """Count the records of the target, and compare the sample.

    Raises:
        CopyError: the target lacks records, or has others.
    """
    comparison = Comparison(tolerance=tolerance_of(target))
    counted = target.count(where=None if isinstance(where, NativeFilter) else where)
    wanted = [record for record in sample.records if record.record_id not in tally.failed]
    stored = {record.record_id: record for record in target.get([record.record_id for record in wanted])}
    differences = {
        record.record_id: found
        for record in wanted
        if (found := comparison.difference(record, stored.get(record.record_id))) is not None
    }
    if differences:
        first, reason = next(iter(differences.items()))
        raise CopyError(
            f"{len(differences)} of {len(wanted)} records that were compared are not in the target as they were "
            f"written, the first is {first!r}: {reason}",
            differing=differences,
        )
    least = min(expected, tally.read) - len(tally.failed)
    if counted < least:
        raise CopyError(
            f"the target has {counted} of {least} records that it has confirmed: run the copy again, which writes "
            "those that are missing"
        )
    return CopyReport(
        read=tally.read,
        written=tally.written,
        unchanged=tally.unchanged,
        failed=tally.failed,
        counted=counted,
        compared=len(wanted),
        largest_difference=comparison.largest,
    )
