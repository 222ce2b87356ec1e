"""The schema of a Weaviate collection (properties and named vectors), and the conversion of records to objects.

| property | type | for |
|---|---|---|
| `record_id`, `uri`, `content_hash`, `metadata`, `tile_boxes` | text, not indexed | the exact record |
| `content` | text, searchable | keywords of a hybrid search |
| `modality` | text, filterable | one modality, or every record |
| `terms` | text[], filterable, one token per element | equality and presence of fields |
| `least_<hash>`, `greatest_<hash>` | number, in a range index | comparisons with the numbers of one field |
| `position` | number, in a range index | reading a filtered collection in parts |

Weaviate cannot compare lists of numbers, but "a number of the field is more than b" is equivalent to "the greatest
number is more than b". The two properties of a field are added with the first record that needs them.

The fingerprint is stored in the description of the collection, so both are created together.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject

from jclip_connectors.config import Fingerprint
from jclip_connectors.filters import numbers
from jclip_connectors.port import Record, record_uuid
from jclip_connectors.store_kit.payload import to_payload

Quantizer: TypeAlias = Literal["rq", "bq", "sq", "pq"]
"""How Weaviate compresses vectors for searching: rotational, binary, scalar or product quantization."""
QUANTIZERS: tuple[Quantizer, ...] = get_args(Quantizer)

_PLAIN = ("record_id", "uri", "content_hash", "metadata", "tile_boxes")
STORED = (*_PLAIN, "content", "modality")  # the properties that a record is read from
_TERM_OF_ALL = "[]"  # in every record, so that no array is empty; terms of fields differ from it
_POSITION_BITS = 48  # the UUID's first bits, before its version: evenly distributed, and exact in a float


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The settings of a collection, as stored in its description.

    Attributes:
        fingerprint: the fingerprint of the configuration.
        dimensions: length of the vectors.
        quantizer: how the vectors are compressed for searching.
        muvera: whether tiles are first searched by one encoded vector per record.
    """

    fingerprint: Fingerprint
    dimensions: int
    quantizer: Quantizer | None = None
    muvera: bool = False


def describe(layout: Layout) -> str:
    """The description of a collection."""
    return json.dumps({"jclip": dataclasses.asdict(layout)})


def read_description(description: str | None) -> Layout | None:
    """The layout that `describe` wrote, or `None` for the description of another program's collection."""
    try:
        ours = Layout(**json.loads(description or "")["jclip"])
    except (ValueError, TypeError, KeyError):
        return None
    return ours if isinstance(ours.fingerprint, dict) and isinstance(ours.dimensions, int) else None


def collection_arguments(layout: Layout, *, tiled: bool) -> dict[str, Any]:
    """The definition of a new collection, for `collections.create`."""
    index = Configure.VectorIndex
    vectors = [
        Configure.Vectors.self_provided(
            name="full",
            quantizer=getattr(
                index.Quantizer, layout.quantizer or "none"
            )(),  # without a quantizer the server uses its default one
            vector_index_config=index.hnsw(distance_metric=VectorDistances.COSINE),
        )
    ]
    if tiled:
        vectors.append(
            Configure.MultiVectors.self_provided(
                name="tiles",
                quantizer=index.Quantizer.none(),
                encoding=index.MultiVector.Encoding.muvera() if layout.muvera else None,
                # The server always sums dot products; for unit vectors these are the cosines.
                vector_index_config=index.hnsw(distance_metric=VectorDistances.DOT),
            )
        )
    properties = [
        *(_text(name) for name in _PLAIN),
        _text("content", searchable=True),
        _text("modality", filterable=True),
        _text("terms", filterable=True, data_type=DataType.TEXT_ARRAY),
        _number("position", None),
    ]
    return {"description": describe(layout), "properties": properties, "vector_config": vectors}


def number_properties(field: str) -> tuple[Property, Property]:
    """The two properties that hold the least and the greatest number of a metadata field."""
    least, greatest = number_names(field)
    named = json.dumps(field)
    return _number(least, f"the least number of {named}"), _number(greatest, f"the greatest number of {named}")


def number_names(field: str) -> tuple[str, str]:
    """The names of both properties: ASCII, and distinct for distinct fields, also if these differ only in case."""
    digest = hashlib.sha256(field.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"least_{digest}", f"greatest_{digest}"


def to_object(record: Record, *, tiled: bool) -> DataObject[Any, None]:
    """The object of a checked record."""
    payload = to_payload(record)
    properties = {name: payload[name] for name in ("record_id", "modality", "metadata")}
    properties |= {name: payload[name] for name in ("content", "uri", "content_hash") if payload[name] is not None}
    if payload["tile_boxes"] is not None:
        properties["tile_boxes"] = json.dumps(payload["tile_boxes"])
    properties["terms"] = [_TERM_OF_ALL, *payload["terms"]]
    for field, values in numbers(record.metadata).items():
        for name, value in zip(number_names(field), (min(values), max(values)), strict=True):
            properties[name] = value + 0.0  # makes 0.0 of -0.0: the index orders -0.0 before 0.0
    identity = record_uuid(record.record_id)
    properties["position"] = (identity.int >> (128 - _POSITION_BITS)) / 2.0**_POSITION_BITS  # 0..1
    vectors: dict[str, Any] = {"full": record.embedding}
    if tiled:
        # In a search over tiles, the embedding represents a record without tiles.
        tiles = record.tile_embeddings
        vectors["tiles"] = record.embedding[None] if tiles is None else tiles
    return DataObject(properties=properties, uuid=identity, vector=vectors)


def to_payload_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Convert properties from the server to the payload that `to_record` and `to_hit` read."""
    payload = {name: properties.get(name) for name in STORED}
    boxes = payload["tile_boxes"]
    payload["tile_boxes"] = None if boxes is None else json.loads(boxes)
    return payload


def size_bytes(thing: DataObject[Any, None]) -> int:
    """Approximate size of an object in a message."""
    vectors: Mapping[str, Any] = thing.vector  # type: ignore[assignment]  # ours are named, see to_object
    texts: list[str] = []
    for name, value in thing.properties.items():
        texts += [name, *(value if isinstance(value, list) else [value] if isinstance(value, str) else [])]
    return sum(4 * int(np.size(vector)) for vector in vectors.values()) + sum(len(text.encode()) + 8 for text in texts)


def _text(
    name: str, *, filterable: bool = False, searchable: bool = False, data_type: DataType = DataType.TEXT
) -> Property:
    return Property(
        name=name,
        data_type=data_type,
        index_filterable=filterable,
        index_searchable=searchable,
        tokenization=Tokenization.WORD if searchable else Tokenization.FIELD,
    )


def _number(name: str, description: str | None) -> Property:
    return Property(
        name=name,
        description=description,
        data_type=DataType.NUMBER,
        index_filterable=False,
        index_range_filters=True,
    )
