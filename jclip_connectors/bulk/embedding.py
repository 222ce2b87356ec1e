"""A job: which shards are done already, an engine for the others, and when there are too many failures."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from jclip_connectors.bulk.columns import Columns
from jclip_connectors.bulk.embed_shard import EmbedJob, EmbedShard, ShardDone
from jclip_connectors.bulk.items import check_parts, count_rows
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Embedder
from jclip_connectors.store_kit.validation import check_count, check_fingerprint

_FIRST = 20  # shards, before a run is judged by its failures
_NAMED = 5  # messages


class Engine(Protocol):
    """Embeds shards with as many workers as it likes."""

    def __call__(self, todo: Sequence[Shard], job: EmbedJob, /) -> Generator[ShardDone, None, None]:
        """Embed the shards, each with an `EmbedShard(job)`; gives each result as soon as it is there, in any order.

        Closing the generator ends the workers.
        """


@dataclass(frozen=True, kw_only=True)
class EmbedProgress:
    """How far a job is.

    Attributes:
        shards: how many are done, with those that were done before.
        of_shards: the number of all shards.
        rows: the number of rows of the shards that are done.
        of_rows: the number of all rows; an estimate where tar files are among the sources; `None` if nothing is known.
        failed: how many of `rows` failed.
        last: the shard that was done last; `None` before the first one.
    """

    shards: int
    of_shards: int
    rows: int
    of_rows: int | None
    failed: int
    last: ShardDone | None


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """The result of a job.

    Attributes:
        shards: the number of all shards.
        unchanged: how many of them were done before.
        rows: the number of rows of all shards.
        failed: how many of these failed.
    """

    shards: int
    unchanged: int
    rows: int
    failed: int


def run_locally(
    todo: Sequence[Shard],
    job: EmbedJob,
    *,
    embedder: Embedder | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> Generator[ShardDone, None, None]:
    """Embed shards one after another in this process.

    Args:
        todo: the shards.
        job: what they share.
        embedder: an open embedder of the same configuration, to use instead of opening one.
        on_rows: called with (rows, failed) after each batch.
    """
    with closing(EmbedShard(job, embedder=embedder, on_rows=on_rows)) as embed:
        yield from map(embed, todo)


def first_rows(shards: Sequence[Shard], limit: int) -> list[Shard]:
    """The first rows of shards: as many shards as that takes, and the last of them cut.

    Args:
        shards: those of `find_shards`.
        limit: the number of rows.

    Raises:
        EmbedInputError: `limit` is below 1.
    """
    check_count(limit, name="limit")
    kept: list[Shard] = []
    for shard in shards:
        rows = count_rows(shard, most=limit + 1)
        if rows >= limit:
            cut = shard if rows == limit else dataclasses.replace(shard, limit=limit, rows=limit)
            return [*kept, cut]
        kept.append(shard)
        limit -= rows
    return kept


def embed_shards(
    shards: Sequence[Shard],
    job: EmbedJob,
    *,
    run: Engine = run_locally,
    max_failed: float = 0.05,
    redo_failed: bool = False,
    progress: Callable[[EmbedProgress], None] | None = None,
) -> EmbedReport:
    """Embed shards into a folder of files of vectors; what is there is not embedded again.

    Args:
        shards: those of `find_shards`.
        job: what they share.
        run: the engine; it is not started if all is done.
        max_failed: the part of the rows that may fail, once 20 shards are done, or all.
        redo_failed: embed shards again in which rows have failed.
        progress: called before the first shard and after each.

    Raises:
        CollectionMismatchError: the folder has vectors of another configuration.
        EmbedInputError: the folder is not for these vectors, it is not clear which columns are meant, or too many rows
            have failed.
        StoreUnavailableError: a source cannot be read at the moment; the same call goes on.
    """
    folder = VectorFolder(job.out)
    fingerprint = job.config.fingerprint()
    stored = folder.read_sidecar()
    if stored is not None:
        check_fingerprint(stored.fingerprint, fingerprint, collection=f"the folder {folder.name}")
    counts = done_shards(folder, shards, fingerprint, job.columns)
    if redo_failed:
        counts = {shard: (rows, failed) for shard, (rows, failed) in counts.items() if not failed}
    both = job.columns.images is not None and job.columns.texts is not None
    tally = _Tally(shards, counts, max_failed, of_each=2 if both else 1)
    if todo := [shard for shard in tally.shards if shard not in counts]:
        tar = next((shard for shard in todo if shard.kind == "tar"), None)
        if tar is not None:
            check_parts(tar, job.columns)
        folder.remove_leftovers()
        if progress is not None:
            progress(tally.progress(None))
        with closing(run(todo, job)) as results:
            for result in results:
                tally.add(result)
                if progress is not None:
                    progress(tally.progress(result))
                tally.check_first()
        tally.check()
    return EmbedReport(shards=len(tally.shards), unchanged=len(counts), rows=tally.rows, failed=tally.failed)


def done_shards(
    folder: VectorFolder, shards: Sequence[Shard], fingerprint: Fingerprint, columns: Columns
) -> dict[Shard, tuple[int, int]]:
    """The shards whose files are there, each with the number of its rows and of those that failed."""
    there = set(folder.files())
    names = {shard: shard.name(fingerprint, columns) for shard in shards}
    done = {shard: name for shard, name in names.items() if name in there}
    return dict(zip(done, folder.counts(done.values()), strict=True))


class _Tally:
    """Counts what the shards have come to, before this run and in it."""

    def __init__(
        self, shards: Sequence[Shard], done: Mapping[Shard, tuple[int, int]], max_failed: float, *, of_each: int
    ) -> None:
        self.shards = list(dict.fromkeys(shards))
        known = [shard.rows for shard in self.shards if shard.rows is not None]
        self._all_rows = of_each * sum(known) if len(known) == len(self.shards) else None
        self._done = len(done)
        self._max_failed = max_failed
        self._errors: Counter[str] = Counter()
        self._run_shards = self._run_rows = self._run_failed = 0
        self.rows = sum(rows for rows, _ in done.values())
        self.failed = sum(failed for _, failed in done.values())

    def add(self, result: ShardDone) -> None:
        self._run_shards += 1
        self._run_rows += result.rows
        self._run_failed += result.failed
        self.rows += result.rows
        self.failed += result.failed
        self._errors.update(result.errors)

    def progress(self, last: ShardDone | None) -> EmbedProgress:
        done, of_shards = self._done + self._run_shards, len(self.shards)
        estimate = round(self.rows / done * of_shards) if done else None
        return EmbedProgress(
            shards=done,
            of_shards=of_shards,
            rows=self.rows,
            of_rows=estimate if self._all_rows is None else self._all_rows,
            failed=self.failed,
            last=last,
        )

    def check_first(self) -> None:
        if self._run_shards >= _FIRST:
            self.check()

    def check(self) -> None:
        if self._run_failed > self._max_failed * self._run_rows:
            frequent = "; ".join(f"{count} times: {error}" for error, count in self._errors.most_common(_NAMED))
            raise EmbedInputError(
                f"{self._run_failed} of {self._run_rows} rows failed, more than {self._max_failed:g} of them "
                f"(--max-failed): {frequent}"
            )
