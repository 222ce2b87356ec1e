"""Shards and Arrow tables embedded: classes that know no engine."""

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa

from core_encoder.models import RuntimeChoice
from jclip_connectors.bulk.batch_marker import DIED, BatchMarker
from jclip_connectors.bulk.columns import Columns, check_schema
from jclip_connectors.bulk.embed_items import embed_items, failed_row
from jclip_connectors.bulk.embedders import open_embedder
from jclip_connectors.bulk.items import Item, read_items, row_items
from jclip_connectors.bulk.remote_errors import remote_errors
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.source_names import printable_name
from jclip_connectors.bulk.vector_files import Sidecar, VectorFolder, file_schema, file_system
from jclip_connectors.bulk.vector_rows import VectorRow, VectorType, to_batch
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import Embedder
from jclip_connectors.store_kit.validation import check_count

_BATCH_BYTES = 64 * 2**20  # of pictures and texts in memory at a time
_MESSAGES = 20  # of a shard that are counted apart


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """What all shards of a job share; it can be sent to other processes, and holds no key.

    Attributes:
        config: the configuration of the vectors.
        out: the folder of the files of vectors, a path or a URL.
        columns: which columns of the sources are embedded.
        vector_type: the type of the values of the vectors.
        batch_size: the most items that are embedded at a time.
        device: where a worker runs the model; `None` uses CUDA if it is available.
        threads: of a worker; `None` leaves that to the runtime.
        runtime: what runs the model.
        endpoint: the URL of an endpoint that embeds, without `/embeddings`; `None` runs the model in the worker.
    """

    config: EmbeddingConfig
    out: str
    columns: Columns = field(default_factory=Columns)
    vector_type: VectorType = "float32"
    batch_size: int = 256
    device: str | None = None
    threads: int | None = None
    runtime: RuntimeChoice = "auto"
    endpoint: str | None = None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            EmbedInputError: an option has a bad value.
        """
        check_count(self.batch_size, name="batch_size")

    def open_embedder(self) -> Embedder:
        """Open what makes the vectors, in this process."""
        return open_embedder(
            self.config, device=self.device, threads=self.threads, runtime=self.runtime, endpoint=self.endpoint
        )


@dataclass(frozen=True, kw_only=True)
class ShardDone:
    """A shard that was embedded.

    Attributes:
        shard: the URL that it is of.
        name: of its file of vectors.
        rows: the number of its rows.
        failed: how many of these failed.
        errors: how often each message came; the most frequent ones.
        seconds: how long it took.
        size_bytes: of its file.
        worker: the machine and the process.
        device: where the model ran, if that is known.
    """

    shard: str
    name: str
    rows: int
    failed: int
    errors: Mapping[str, int]
    seconds: float
    size_bytes: int
    worker: str
    device: str | None


class EmbedBatch:
    """Embeds the rows of Arrow tables, for engines that map a class over batches."""

    def __init__(
        self,
        config: EmbeddingConfig,
        *,
        images: str | None = None,
        texts: str | None = None,
        key: str | None = None,
        metadata: Sequence[str] = (),
        device: str | None = None,
        threads: int | None = 1,
        runtime: RuntimeChoice = "auto",
        endpoint: str | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """Load the model.

        Args:
            config: the configuration of the vectors.
            images: the column of the pictures: bytes, or the struct of Hugging Face.
            texts: the column of the texts.
            key: the column whose values are the ids of the records.
            metadata: the columns that become the metadata of the records.
            device: where the model runs; `None` uses CUDA if it is available.
            threads: of this process; `None` leaves that to the runtime.
            runtime: what runs the model.
            endpoint: the URL of an endpoint that embeds, without `/embeddings`; `None` runs the model here.
            embedder: an open embedder of the same configuration, to use instead.

        Raises:
            EmbedInputError: not exactly one of `images` and `texts` is given.
        """
        if (images is None) == (texts is None):
            raise EmbedInputError("give one of `images` and `texts`: a row of the table is a row of the result")
        self._columns = Columns(images=images, texts=texts, key=key, metadata=tuple(metadata))
        if embedder is None:
            embedder = open_embedder(config, device=device, threads=threads, runtime=runtime, endpoint=endpoint)
        self._embedder = embedder
        sidecar = Sidecar(fingerprint=config.fingerprint(), dimensions=embedder.dimensions)
        self._schema = file_schema(sidecar, source="a table")

    def __call__(self, table: pa.Table) -> pa.Table:
        """Embed a table: a row for each row, in order; what fails is a row with `error`.

        Args:
            table: with the columns.

        Returns:
            A table with the columns of a file of vectors.

        Raises:
            EmbedInputError: a column does not exist, or has no pictures or texts.
        """
        columns = check_schema(table.schema, self._columns, where="the table")
        rows = enumerate(table.to_pylist())
        items = [item for at, row in rows for item in row_items(row, columns, key=str(at), where=None)]
        return pa.Table.from_batches([to_batch(embed_items(self._embedder, items), self._schema)])


class EmbedShard:
    """Embeds shards into files of the folder of a job."""

    def __init__(
        self,
        job: EmbedJob,
        *,
        embedder: Embedder | None = None,
        on_rows: Callable[[int, int], None] | None = None,
    ) -> None:
        """Load the model, and make the folder.

        Args:
            job: what all shards share.
            embedder: an open embedder of the same configuration, to use instead of opening one.
            on_rows: called with (rows, failed) after each batch.

        Raises:
            CollectionMismatchError: the folder has vectors of another configuration.
            EmbedInputError: its vectors have another length or type, or were made on another kind of device, or it has
                Parquet files of something else.
        """
        self._job = job
        self._embedder = job.open_embedder() if embedder is None else embedder
        self._is_own = embedder is None
        self._on_rows = on_rows
        self._folder = VectorFolder(job.out)
        self._device: str | None = getattr(self._embedder, "device", None)
        self._sidecar = Sidecar(
            fingerprint=job.config.fingerprint(),
            dimensions=self._embedder.dimensions,
            vector_type=job.vector_type,
            device=None if self._device is None else self._device.partition(":")[0],
        )
        self._folder.prepare(self._sidecar)

    def __call__(self, shard: Shard) -> ShardDone:
        """Embed one shard; its file appears when all of it is done.

        Args:
            shard: of `find_shards`.

        Raises:
            EmbedInputError: it is not clear which columns are meant.
            StoreUnavailableError: the shard cannot be read, or its file not be written, at the moment.
        """
        start = time.monotonic()
        name = shard.name(self._sidecar.fingerprint, self._job.columns)
        schema = file_schema(self._sidecar, source=printable_name(shard.url), device=self._device)
        errors: Counter[str] = Counter()
        with remote_errors(file_system(shard.url)[0], shard.url), closing(self._rows(shard, name)) as batches:
            counted = (self._counted(rows, errors) for rows in batches)
            rows = self._folder.write(name, (to_batch(some, schema) for some in counted), schema)
            size_bytes = self._folder.size(name)
        return ShardDone(
            shard=printable_name(shard.url),
            name=name,
            rows=rows,
            failed=sum(errors.values()),
            errors=dict(errors.most_common(_MESSAGES)),
            seconds=time.monotonic() - start,
            size_bytes=size_bytes,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            device=self._device,
        )

    def close(self) -> None:
        """End the connections of the embedder, if it was opened here and has some."""
        if self._is_own and hasattr(self._embedder, "close"):
            self._embedder.close()

    def _rows(self, shard: Shard, name: str) -> Generator[list[VectorRow], None, None]:
        marker = BatchMarker(self._folder, name)
        start = 0
        with closing(_read_ahead(self._batches(shard))) as batches:
            try:
                for batch in batches:
                    end = start + len(batch)
                    if marker.begin(start, end):
                        yield embed_items(self._embedder, batch)
                    else:
                        yield [failed_row(item, DIED) for item in batch]
                    start = end
            finally:
                marker.remove()

    def _batches(self, shard: Shard) -> Iterator[list[Item]]:
        batch: list[Item] = []
        size = 0
        most_bytes = self._job.config.image_limits.max_bytes
        for item in read_items(shard, self._job.columns, most_bytes=most_bytes):
            batch.append(item)
            size += len(item.source) if isinstance(item.source, bytes | str) else 0
            if len(batch) >= self._job.batch_size or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _counted(self, rows: list[VectorRow], errors: Counter[str]) -> list[VectorRow]:
        messages = [row.error for row in rows if row.error is not None]
        errors.update(messages)
        if self._on_rows is not None:
            self._on_rows(len(rows), len(messages))
        return rows


def _read_ahead(batches: Iterator[list[Item]]) -> Generator[list[Item], None, None]:
    """The batches; a thread reads the next one while one is embedded."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-shard") as pool:
        batch = pool.submit(next, batches, None).result()
        while batch is not None:
            following = pool.submit(next, batches, None)
            yield batch
            batch = following.result()
