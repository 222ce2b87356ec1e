"""Conversion of records to JSON payloads and back.

The metadata is stored as JSON text, so it stays exact in every database; filters use `terms` and `numbers`.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from core_encoder.tiling import Box
from jclip_connectors.filters import numbers, terms
from jclip_connectors.port import FloatArray, Record, SearchHit

_NO_VALUES = np.empty(0, dtype=np.float32)


def to_payload(record: Record) -> dict[str, Any]:
    """The payload of a checked record: everything except its vectors."""
    return {
        "record_id": record.record_id,
        "modality": record.modality,
        "content": record.content,
        "uri": record.uri,
        "content_hash": record.content_hash,
        "metadata": json.dumps(record.metadata),
        "terms": terms(record.metadata),
        "numbers": {number_key(field): values for field, values in numbers(record.metadata).items()},
        "tile_boxes": None if record.tile_boxes is None else record.tile_boxes.tolist(),
    }


def number_key(field: str) -> str:
    """The key in `numbers` of a metadata field; it has no quote, so it can be a quoted part of a path."""
    return quote(field, safe="", errors="surrogatepass")


def number_path(field: str) -> str:
    """The JSON path, in Qdrant's notation, of the numbers of a metadata field."""
    return f'numbers."{number_key(field)}"'


def to_record(payload: Mapping[str, Any], *, embedding: Any, tile_embeddings: Any) -> Record:  # noqa: ANN401 (nested lists or arrays)
    """Make the record of a payload and vectors; a record without boxes has no tiles."""
    boxes = payload["tile_boxes"]
    return dataclasses.replace(
        without_vectors(payload),
        embedding=np.asarray(embedding, dtype=np.float32),
        tile_embeddings=None if boxes is None else np.asarray(tile_embeddings, dtype=np.float32),
        tile_boxes=None if boxes is None else np.asarray(boxes, dtype=np.int64),
    )


def without_vectors(payload: Mapping[str, Any]) -> Record:
    """Make the record of a payload, with an `embedding` of no values (0,) and without tiles."""
    return Record(
        record_id=payload["record_id"],
        modality=payload["modality"],
        embedding=_NO_VALUES,
        content=payload["content"],
        uri=payload["uri"],
        content_hash=payload["content_hash"],
        metadata=json.loads(payload["metadata"]),
    )


def to_hit(payload: Mapping[str, Any], *, score: float, box: Box | None) -> SearchHit:
    """The search result of a payload."""
    return SearchHit(
        score=score,
        record_id=payload["record_id"],
        modality=payload["modality"],
        metadata=json.loads(payload["metadata"]),
        box=box,
        content=payload["content"],
        uri=payload["uri"],
        content_hash=payload["content_hash"],
    )


def nearest_box(payload: Mapping[str, Any], *, tile_embeddings: Any, query: FloatArray) -> Box | None:  # noqa: ANN401 (nested lists or arrays)
    """The box of the tile that is nearest to `query`, or `None` for a record without tiles."""
    boxes = payload["tile_boxes"]
    if boxes is None:
        return None
    cosines = np.asarray(tile_embeddings, dtype=np.float32) @ query  # (T,)
    return Box(*boxes[int(cosines.argmax())])
