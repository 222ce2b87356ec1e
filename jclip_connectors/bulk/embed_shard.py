"""Shards and Arrow tables embedded: classes that know no engine."""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from core_encoder.models import RuntimeChoice
from core_encoder.tiling import TileEmbeddings
from jclip_connectors.bulk.columns import Columns, check_schema
from jclip_connectors.bulk.embedders import open_embedder
from jclip_connectors.bulk.items import Item, read_items, row_items
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.vector_files import TEMPORARY, Sidecar, VectorFolder, file_schema
from jclip_connectors.bulk.vector_rows import VectorRow, VectorType, to_batch
from jclip_connectors.collection.adding import vector_fields
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreUnavailableError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import Embedder, Record
from jclip_connectors.store_kit.blank_text import is_blank
from jclip_connectors.store_kit.json_values import as_metadata
from jclip_connectors.store_kit.validation import check_count, check_id

DIED = "the process died at this batch (killed or out of memory)"
_DEATHS = 2  # of a batch; at the third start it is left out
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

        Raises:
            EmbedInputError: a column does not exist, or has no pictures or texts.
        """
        columns = check_schema(table.schema, self._columns, where="the table")
        rows = enumerate(table.to_pylist())
        items = [item for at, row in rows for item in row_items(row, columns, key=str(at), where=None)]
        return pa.Table.from_batches([to_batch(embed_items(self._embedder, items), self._schema)])


class EmbedShard:
    """Embeds shards into files of the folder of a job."""

    def __init__(self, job: EmbedJob, *, embedder: Embedder | None = None) -> None:
        """Load the model, and make the folder.

        Args:
            job: what all shards share.
            embedder: an open embedder of the same configuration, to use instead of opening one.

        Raises:
            CollectionMismatchError: the folder has vectors of another configuration.
            EmbedInputError: its vectors have another length or type, or it has Parquet files of something else.
        """
        self._job = job
        self._embedder = job.open_embedder() if embedder is None else embedder
        self._folder = VectorFolder(job.out)
        self._sidecar = Sidecar(
            fingerprint=job.config.fingerprint(), dimensions=self._embedder.dimensions, vector_type=job.vector_type
        )
        self._folder.prepare(self._sidecar)
        self._device = getattr(self._embedder, "device", None)

    def __call__(self, shard: Shard) -> ShardDone:
        """Embed one shard; its file appears when all of it is done.

        Raises:
            EmbedInputError: it is not clear which columns are meant.
            StoreUnavailableError: the shard cannot be read, or the file not be written, at the moment.
        """
        start = time.monotonic()
        name = shard.name(self._sidecar.fingerprint, self._job.columns)
        schema = file_schema(self._sidecar, source=shard.url, device=self._device)
        errors: Counter[str] = Counter()
        marker = _Marker(self._folder, f"{TEMPORARY}/{name}.at")
        with closing(self._rows(shard, marker)) as batches:
            counted = (_counted(rows, errors) for rows in batches)
            rows = self._folder.write(name, (to_batch(some, schema) for some in counted), schema)
        return ShardDone(
            shard=shard.url,
            name=name,
            rows=rows,
            failed=sum(errors.values()),
            errors=dict(errors.most_common(_MESSAGES)),
            seconds=time.monotonic() - start,
            size_bytes=self._folder.size(name),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            device=self._device,
        )

    def _rows(self, shard: Shard, marker: "_Marker") -> Generator[list[VectorRow], None, None]:
        start = 0
        try:
            for batch in self._batches(shard):
                end = start + len(batch)
                if marker.begin(start, end):
                    yield embed_items(self._embedder, batch)
                else:
                    yield [_failure(item, DIED) for item in batch]
                start = end
        finally:
            marker.remove()

    def _batches(self, shard: Shard) -> Iterator[list[Item]]:
        batch: list[Item] = []
        size = 0
        items = read_items(shard, self._job.columns, most_bytes=self._job.config.image_limits.max_bytes)
        try:
            for item in items:
                batch.append(item)
                size += len(item.source) if isinstance(item.source, bytes | str) else 0
                if len(batch) >= self._job.batch_size or size >= _BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        except OSError as error:
            raise StoreUnavailableError(f"{shard.url} cannot be read: {error}") from error
        if batch:
            yield batch


class _Marker:
    """A small file that says which batch is being embedded, so that one that kills its process is known."""

    def __init__(self, folder: VectorFolder, name: str) -> None:
        self._folder, self._name = folder, name
        self._deaths: dict[str, int] = {}
        try:
            found: Any = json.loads(folder.read(name))
        except (FileNotFoundError, ValueError):  # a machine that went down may leave an empty file
            return
        self._deaths = found["deaths"]
        self._deaths[found["at"]] = self._deaths.get(found["at"], 0) + 1

    def begin(self, start: int, end: int) -> bool:
        """Say that a batch begins; false if it has killed its process too often."""
        at = f"{start}-{end}"
        if self._deaths.get(at, 0) >= _DEATHS:
            return False
        self._folder.put(self._name, json.dumps({"at": at, "deaths": self._deaths}).encode(), durable=False)
        return True

    def remove(self) -> None:
        """The process is alive: forget the batch."""
        self._folder.remove(self._name)


def _counted(rows: list[VectorRow], errors: Counter[str]) -> list[VectorRow]:
    errors.update(row.error for row in rows if row.error is not None)
    return rows


def embed_items(embedder: Embedder, items: Sequence[Item]) -> list[VectorRow]:
    """Embed items: a row for each, in order; what is wrong with an item is the error of its row."""
    rows: dict[int, VectorRow] = {}
    fields: dict[int, dict[str, Any]] = {}
    for at, item in enumerate(items):
        try:
            fields[at] = _describe(item)
        except EmbedInputError as error:
            rows[at] = _failure(item, str(error))
    for modality in ("image", "text"):
        chosen = [at for at in fields if items[at].modality == modality]
        found = _embed(embedder, modality, [items[at].source for at in chosen])
        for index, at in enumerate(chosen):
            result = found[index]
            if isinstance(result, Exception):
                rows[at] = _failure(items[at], str(result))
            else:
                rows[at] = VectorRow(key=items[at].key, record=Record(**fields[at], **vector_fields(result)))
    return [rows[at] for at in range(len(items))]


def _describe(item: Item) -> dict[str, Any]:
    if item.error is not None:
        raise EmbedInputError(item.error)
    if item.source is None or item.source == b"":
        raise EmbedInputError(f"the {item.modality} is missing")
    if item.modality == "text":
        if is_blank(item.source):
            raise EmbedInputError("the text is empty")
        fields = describe_text(item.source)
    else:
        fields = {**describe_image(item.source), "uri": item.uri}
    fields["metadata"] = as_metadata(item.metadata, name="the metadata")
    if item.record_id is not None:
        check_id(item.record_id, name="the key")
        fields["record_id"] = item.record_id
    return fields


def _embed(embedder: Embedder, modality: str, sources: list[Any]) -> dict[int, Any]:
    """What was made of each source, or its error, by position."""
    if not sources:
        return {}
    try:
        if modality == "text":
            found: Any = embedder.embed_texts(sources)
        elif embedder.config.tiling is None:
            found = embedder.embed_images(sources)
        else:
            found = embedder.embed_image_tiles(sources)
    except PartialFailureError as error:
        return {**{at: _finite(result) for at, result in error.kept.items()}, **error.failed}
    except EmbedInputError as error:
        if len(sources) == 1:
            return {0: error}
        return {at: _embed(embedder, modality, [source])[0] for at, source in enumerate(sources)}
    return {at: _finite(result) for at, result in enumerate(found)}


def _finite(result: Any) -> Any:  # noqa: ANN401 (a row, or tiles)
    rows = result.vectors if isinstance(result, TileEmbeddings) else result
    return result if np.isfinite(rows).all() else EmbedInputError("the model made a NaN or an infinity of it")


def _failure(item: Item, error: str) -> VectorRow:
    return VectorRow(key=item.key, error=error, modality=item.modality, uri=item.uri)
