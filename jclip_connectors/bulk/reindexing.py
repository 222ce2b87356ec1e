"""The records of a collection embedded again from what they were made from, into another collection."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from jclip_connectors.bulk.copying import RecordSource
from jclip_connectors.bulk.equality import json_text
from jclip_connectors.bulk.found_sources import FoundSource, SourceFinder
from jclip_connectors.bulk.refusals import Refusals, write_records
from jclip_connectors.collection.adding import vector_fields
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.port import MODALITIES, Embedder, Modality, Record, VectorStore
from jclip_connectors.store_kit.validation import check_count

Progress: TypeAlias = Callable[[int, int], None]  # records done, records in all
_MOST_PASSES = 3
_BATCH_BYTES = 64 * 2**20  # of pictures that are read before they are embedded
_Read: TypeAlias = tuple[Record, FoundSource | EmbedInputError]
_Reading: TypeAlias = tuple[list[_Read], Sequence[Record]]


@dataclass(frozen=True, kw_only=True)
class ReindexReport:
    """What `reindex_collection` has done.

    Attributes:
        total: how many records the old collection has.
        embedded: how many were embedded and written.
        unchanged: how many the new collection had already.
        moved: how many of the embedded pictures were found at another place.
        missing: why a record is not in the new collection, by id.
        extra: how many records the new collection has that the old one does not have.
        settled: whether the old collection had no new records when all was done; `False` if somebody is writing to it.
    """

    total: int
    embedded: int
    unchanged: int
    moved: int
    missing: dict[str, str]
    extra: int
    settled: bool


@dataclass(kw_only=True)
class _Pass:
    total: int = 0
    embedded: int = 0
    unchanged: int = 0
    updated: int = 0  # with the vectors that they have
    moved: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)

    @property
    def present(self) -> int:
        return self.unchanged + self.updated + self.embedded


def reindex_collection(
    source: RecordSource,
    target: VectorStore,
    embedder: Embedder,
    *,
    look_in: Sequence[Path] = (),
    batch_size: int = 32,
    progress: Progress | None = None,
) -> ReindexReport:
    """Embed the records of `source` again, from their texts and from the files of their pictures, into `target`.

    Ids, metadata, captions, addresses and hashes are carried; a picture that was moved gets its new address.
    Nothing is deleted from either collection. What the target has already is not embedded, so the same call goes on
    after an interrupt. When all is done the source is read again, until it has nothing new.

    Args:
        source: the old collection; it is read without its vectors.
        target: the new collection, for the configuration of `embedder`.
        embedder: makes the new vectors.
        look_in: folders in which pictures are searched, by their content, that are not at their address.
        batch_size: records that are looked up, read, embedded and written at a time.
        progress: called with the number of records that are done and the number of all, after each batch.

    Raises:
        EmbedInputError: a folder of `look_in` does not exist, a bad option, or source and target are the same.
        StoreUnavailableError: a store cannot be reached; the same call goes on from there.
        StoreRequestError: a store refuses a request.
    """
    ends: tuple[object, object] = (source, target)
    if ends[0] is ends[1]:
        raise EmbedInputError("`source` and `target` are the same collection: reindex into another one")
    check_count(batch_size, name="batch_size")
    finder = SourceFinder(look_in, most_bytes=embedder.config.image_limits.max_bytes)
    embedded = moved = unchanged = 0
    done = _Pass()
    for number in range(_MOST_PASSES):
        done = _one_pass(source, target, embedder, finder, batch_size, progress if number == 0 else None)
        if number == 0:
            unchanged = done.unchanged + done.updated
        embedded += done.embedded
        moved += done.moved
        if not done.embedded and not done.updated:
            break
    return ReindexReport(
        total=done.total,
        embedded=embedded,
        unchanged=unchanged,
        moved=moved,
        missing=done.missing,
        extra=max(target.count() - done.present, 0),
        settled=done.present == done.unchanged,
    )


def _one_pass(
    source: RecordSource,
    target: VectorStore,
    embedder: Embedder,
    finder: SourceFinder,
    batch_size: int,
    progress: Progress | None,
) -> _Pass:
    done = _Pass()
    total = source.count()
    records = source.scroll(vectors=False)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-find") as pool:
        reading = pool.submit(_read, finder, [])
        while batch := list(itertools.islice(records, batch_size)):
            following = pool.submit(_read, finder, _todo(target, batch, done))
            _finish(reading, pool, finder, target, embedder, done)
            reading = following
            done.total += len(batch)
            if progress is not None:
                progress(done.total, max(total, done.total))
        _finish(reading, pool, finder, target, embedder, done)
    return done


def _todo(target: VectorStore, batch: Sequence[Record], done: _Pass) -> list[Record]:
    """The records that have to be embedded; those of which only a field has changed are written with their vectors."""
    stored = {record.record_id: record for record in target.get([record.record_id for record in batch], vectors=False)}
    changed: list[Record] = []
    todo: list[Record] = []
    for record in batch:
        found = stored.get(record.record_id)
        if found is None or not _same_content(record, found):
            todo.append(record)
        elif _same_fields(record, found):
            done.unchanged += 1
        else:
            changed.append(record)
    if changed:
        kept = {record.record_id: record for record in target.get([record.record_id for record in changed])}
        rows = [
            dataclasses.replace(kept[record.record_id], metadata=record.metadata, content=record.content)
            for record in changed
            if record.record_id in kept
        ]
        done.updated += _write(target, rows, done)
    return todo


def _read(finder: SourceFinder, records: Sequence[Record]) -> _Reading:
    """What is found for the first records, and the records that are left as these are enough for the memory."""
    found: list[_Read] = []
    size = 0
    for at, record in enumerate(records):
        if size >= _BATCH_BYTES:
            return found, records[at:]
        try:
            source = finder.find(record)
        except EmbedInputError as error:
            found.append((record, error))
        else:
            found.append((record, source))
            size += len(source.content)
    return found, []


def _finish(
    reading: Future[_Reading],
    pool: ThreadPoolExecutor,
    finder: SourceFinder,
    target: VectorStore,
    embedder: Embedder,
    done: _Pass,
) -> None:
    """Embed and write what is read."""
    found, rest = reading.result()
    while found:
        _add(found, target, embedder, done)
        found, rest = pool.submit(_read, finder, rest).result() if rest else ([], [])


def _add(found: Sequence[_Read], target: VectorStore, embedder: Embedder, done: _Pass) -> None:
    ready: list[tuple[Record, FoundSource]] = []
    for record, source in found:
        if isinstance(source, EmbedInputError):
            done.missing[record.record_id] = str(source)
        else:
            ready.append((record, source))
    rows: list[Record] = []
    for modality in MODALITIES:
        drafts = [each for each in ready if each[0].modality == modality]
        embedded = _embed(embedder, modality, [source.content for _, source in drafts])
        for (record, source), vectors in zip(drafts, embedded, strict=True):
            if isinstance(vectors, Exception):
                done.missing[record.record_id] = str(vectors)
                continue
            done.moved += source.moved
            fields = {"tile_embeddings": None, "tile_boxes": None, **vector_fields(vectors)}
            uri = source.uri if source.moved else record.uri
            rows.append(dataclasses.replace(record, uri=uri, **fields))
    done.embedded += _write(target, rows, done)


def _embed(embedder: Embedder, modality: Modality, contents: Sequence[Any]) -> Iterator[Any]:
    """The vectors of each item, or why it has none."""
    if not contents:
        return iter(())
    try:
        if modality == "text":
            found: Any = embedder.embed_texts(contents)
        elif embedder.config.tiling is None:
            found = embedder.embed_images(contents)
        else:
            found = embedder.embed_image_tiles(contents)
    except PartialFailureError as error:
        results = {**error.kept, **error.failed}
        return (results[at] for at in range(len(contents)))
    return iter(found)


def _write(target: VectorStore, rows: Sequence[Record], done: _Pass) -> int:
    """Write records; the number of those that are not refused."""
    refused = write_records(target.upsert, rows, done.refusals)
    done.missing |= refused
    return len(rows) - len(refused)


def _same_content(record: Record, found: Record) -> bool:
    if record.modality == "text" and record.content != found.content:
        return False
    return record.modality == found.modality and record.content_hash == found.content_hash


def _same_fields(record: Record, found: Record) -> bool:
    """The address is left out: that of a moved picture is another one."""
    return record.content == found.content and json_text(record.metadata) == json_text(found.metadata)
