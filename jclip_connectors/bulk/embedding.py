"""A job: which shards are done already, an engine for the others, and when there are too many failures."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import pyarrow.compute as pc

from jclip_connectors.bulk.embed_shard import EmbedJob, EmbedShard, ShardDone
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Embedder
from jclip_connectors.store_kit.validation import check_fingerprint

_FIRST = 20  # shards, before a run is judged by its failures
_NAMED = 5  # messages


class Engine(Protocol):
    """Embeds shards with as many workers as it likes."""

    def __call__(self, todo: Sequence[Shard], job: EmbedJob) -> Generator[ShardDone, None, None]:
        """Embed the shards, each with an `EmbedShard(job)`; gives each result as soon as it is there, in any order.

        Closing the generator ends the workers.
        """


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
    todo: Sequence[Shard], job: EmbedJob, *, embedder: Embedder | None = None
) -> Generator[ShardDone, None, None]:
    """Embed shards one after another in this process.

    Args:
        todo: the shards.
        job: what they share.
        embedder: an open embedder of the same configuration, to use instead of opening one.
    """
    yield from map(EmbedShard(job, embedder=embedder), todo)


def embed_shards(
    shards: Sequence[Shard],
    job: EmbedJob,
    *,
    run: Engine = run_locally,
    max_failed: float = 0.05,
    redo_failed: bool = False,
    progress: Callable[[ShardDone], None] | None = None,
) -> EmbedReport:
    """Embed shards into a folder of files of vectors; what is there is not embedded again.

    Args:
        shards: those of `find_shards`.
        job: what they share.
        run: the engine; it is not started if all is done.
        max_failed: the part of the rows that may fail, once 20 shards are done, or all.
        redo_failed: embed shards again in which rows have failed.
        progress: called after each shard.

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
    there = set(folder.files())
    names = {shard: shard.name(fingerprint, job.columns) for shard in shards}
    counts = {shard: count_rows(folder, name) for shard, name in names.items() if name in there}
    done = {shard for shard, (_, failed) in counts.items() if not (redo_failed and failed)}
    todo = [shard for shard in names if shard not in done]
    rows = sum(counts[shard][0] for shard in done)
    failed = sum(counts[shard][1] for shard in done)
    if todo:
        tally = _Tally(max_failed)
        with closing(run(todo, job)) as results:
            for result in results:
                tally.add(result)
                if progress is not None:
                    progress(result)
        tally.check()
        rows, failed = rows + tally.rows, failed + tally.failed
    return EmbedReport(shards=len(names), unchanged=len(done), rows=rows, failed=failed)


class _Tally:
    """Counts what the shards of a run have come to."""

    def __init__(self, max_failed: float) -> None:
        self._max_failed = max_failed
        self._shards = 0
        self._errors: Counter[str] = Counter()
        self.rows = 0
        self.failed = 0

    def add(self, result: ShardDone) -> None:
        self._shards += 1
        self.rows += result.rows
        self.failed += result.failed
        self._errors.update(result.errors)
        if self._shards >= _FIRST:
            self.check()

    def check(self) -> None:
        if self.failed > self._max_failed * self.rows:
            frequent = "; ".join(f"{count} times: {error}" for error, count in self._errors.most_common(_NAMED))
            raise EmbedInputError(
                f"{self.failed} of {self.rows} rows failed, more than {self._max_failed:g} of them (--max-failed): "
                f"{frequent}"
            )


def count_rows(folder: VectorFolder, name: str) -> tuple[int, int]:
    """The number of rows of a file, and of those that failed."""
    rows = failed = 0
    for batch in folder.batches(name, columns=["error"]):
        rows += len(batch)
        failed += pc.sum(batch.column("error").is_valid()).as_py() or 0
    return rows, failed
