"""The map of a collection: one Parquet file with small pictures, a place for each record, and its nearest records.

The file is for Embedding Atlas (`uvx embedding-atlas`), which draws the map, and for any other program that reads
Parquet. All vectors are in memory while the map is made: 4 KiB for a record with 1024 values.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core_encoder.errors import ImageDecodeError
from core_encoder.image_input import read_image
from core_encoder.matryoshka import normalize
from core_encoder.rendering import Rendering
from jclip_connectors.bulk.temporary_files import temporary_file
from jclip_connectors.collection.cards import location
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import FloatArray, Record

Projection = Literal["pca", "none"]
NEIGHBORS = 10
_BLOCK_VALUES = 2**24  # of similarities in memory at a time
_GROUP_ROWS = 1000
_QUALITY = 85
_OWN = ("id", "name", "modality", "content", "image", "vector", "x", "y", "neighbors")


def write_atlas(
    source: Iterable[Record],
    path: Path,
    *,
    side: int = 128,
    project: Projection = "pca",
    rendering: Rendering = "as_seen",
) -> int:
    """Write the map of a collection.

    Columns: `id`, `name`, `modality`, `content`, each field of the metadata, `image` (a struct of `bytes`, JPEG, and
    `path`), `vector` (a list of E float32), `x` and `y` (float32, the first two principal components), and `neighbors`
    (a struct of `ids`, the row numbers of the 10 nearest records, and `distances`, 1 - cosine).

    Args:
        source: the records of a collection, with their vectors.
        path: the file; it is replaced in one step.
        side: the longest side of a picture, in pixels.
        project: "pca" makes `x` and `y`; "none" leaves them out.
        rendering: how pictures were read when they were embedded.

    Returns:
        The number of records.

    Raises:
        EmbedInputError: the collection is empty.
        OSError: the file cannot be written.
    """
    records: list[Record] = []
    rows: list[FloatArray] = []
    for record in source:
        rows.append(np.asarray(record.embedding, dtype=np.float32))
        records.append(record)
    if not records:
        raise EmbedInputError("the collection is empty: there is nothing to draw a map of")
    vectors = normalize(np.stack(rows))  # (N, E)
    columns: dict[str, Any] = {
        "id": [record.record_id for record in records],
        "name": [Path(location(record)).name for record in records],
        "modality": [record.modality for record in records],
        "content": [record.content for record in records],
        **_metadata_columns([record.metadata for record in records]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    if project == "pca":
        places = principal_components(vectors)
        columns |= {"x": pa.array(places[:, 0]), "y": pa.array(places[:, 1])}
    ids, distances = nearest_rows(vectors, NEIGHBORS)
    columns["neighbors"] = pa.StructArray.from_arrays([_lists(ids), _lists(distances)], names=["ids", "distances"])
    table = pa.table({name: value for name, value in columns.items() if not _is_empty(value)})
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    schema = table.schema.append(image)
    pictures = (_thumbnail(record, side, rendering) for record in records)

    def groups() -> Iterator[pa.Table]:
        for start in range(0, len(records), _GROUP_ROWS):
            part = table.slice(start, _GROUP_ROWS)
            found = [next(pictures) for _ in range(len(part))]
            yield part.append_column(image, pa.array(found, image.type))

    _write(path, groups(), schema)
    return len(records)


def principal_components(vectors: FloatArray) -> FloatArray:
    """The first two principal components.

    Args:
        vectors: (N, E) float32.

    Returns:
        (N, 2) float32; the sign of a component is such that its largest weight is positive.
    """
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))  # in ascending order
    first = axes[:, ::-1][:, :2]  # (E, 2)
    largest = np.abs(first).argmax(axis=0)
    first = first * np.sign(first[largest, range(first.shape[1])])
    found: FloatArray = (centred @ first).astype(np.float32)
    return found if found.shape[1] == 2 else np.hstack([found, np.zeros_like(found)])


def nearest_rows(vectors: FloatArray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other rows of each row.

    Args:
        vectors: (N, E) float32 of unit length.
        count: how many; fewer if there are not so many rows.

    Returns:
        (N, C) int64 row numbers, nearest first, and (N, C) float32 distances, 1 - cosine.
    """
    rows = len(vectors)
    count = min(count, rows - 1)
    ids = np.zeros((rows, count), dtype=np.int64)
    distances = np.zeros((rows, count), dtype=np.float32)
    step = max(1, _BLOCK_VALUES // rows)
    for start in range(0, rows, step):
        cosines = vectors[start : start + step] @ vectors.T  # (B, N)
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        best = np.argpartition(-cosines, max(count - 1, 0), axis=1)[:, :count]
        scores = np.take_along_axis(cosines, best, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        ids[start : start + step] = np.take_along_axis(best, order, axis=1)
        distances[start : start + step] = 1 - np.take_along_axis(scores, order, axis=1)
    return ids, distances


def _lists(values: np.ndarray) -> pa.ListArray:
    rows, length = values.shape
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * length, values.reshape(-1))


def _metadata_columns(metadatas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A column for each field: numbers and booleans as such if all are, everything else as text or JSON."""
    names = list(dict.fromkeys(name for metadata in metadatas for name in metadata))
    columns: dict[str, Any] = {}
    for name in names:
        values = [metadata.get(name) for metadata in metadatas]
        given = [value for value in values if value is not None]
        column = f"metadata_{name}" if name in _OWN else name
        if all(isinstance(value, bool) for value in given) or all(isinstance(value, str) for value in given):
            columns[column] = values
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
            columns[column] = [None if value is None else float(value) for value in values]
        else:
            columns[column] = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return columns


def _is_empty(column: Any) -> bool:  # noqa: ANN401 (a list or an array)
    """Whether no row has a value: such a column has no type."""
    return isinstance(column, list) and all(value is None for value in column)


def _thumbnail(record: Record, side: int, rendering: Rendering) -> dict[str, Any] | None:
    """The small picture of a record; `None` for a text, and for a picture that cannot be read any more."""
    if record.uri is None or record.modality != "image":
        return None
    try:
        image = read_image(record.uri, index=0, rendering=rendering).image.copy()
    except ImageDecodeError:
        return None
    image.thumbnail((side, side))
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return {"bytes": file.getvalue(), "path": Path(record.uri).name}


def _write(path: Path, groups: Iterator[pa.Table], schema: pa.Schema) -> None:
    with temporary_file(path.parent, path.name) as written:
        with pq.ParquetWriter(written, schema, compression="zstd") as writer:
            for group in groups:
                writer.write_table(group)
        written.replace(path)
