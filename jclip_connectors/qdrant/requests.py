"""Requests to Qdrant as qdrant-client's models: collections, points, filters and searches.

A point has the named vectors of its collection: `full`, `coarse` (a prefix of `full`) and `tiles` (a multivector). Its
payload is that of `jclip_connectors.store_kit.payload`, but for:

    numbers     a list of {"key": field, "value": numbers}, so that the numbers of all fields share two payload indexes
    fields      a copy of the metadata for filters in Qdrant's own language:
                `NativeFilter(models.Filter(must=[models.FieldCondition(key="fields.year", ...)]))`. Entries with an
                integer beyond 64 bits, a lone surrogate, or more than 32 levels are left out. This package does not
                read it, and it has no payload index unless you make one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qdrant_client import models

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.filters import AnyOf, Compare, Exists, Node, Not, Or, exists_term, numbers, parse_filter, term
from jclip_connectors.port import Filter, FloatArray, Modality, NativeFilter, Record, record_uuid
from jclip_connectors.store_kit.coarse import CANDIDATES
from jclip_connectors.store_kit.payload import number_key, number_path, to_payload

Quantization = Literal["scalar", "binary"]
"""Quantization of the vectors that are searched first: one byte per value ("scalar") or one bit ("binary")."""

# Only filters need these fields: reading a record leaves them out.
WITHOUT_INDEXED = models.PayloadSelectorExclude(exclude=["terms", "numbers", "fields"])

_METADATA_KEY = "jclip"  # key in the collection's metadata; the value is text, which every transport keeps exactly
_FORMAT_WITH_AN_INDEX_PER_FIELD, _FORMAT = 1, 2
_DEFAULT_FULL_SCAN_KIB = 10_000
OVERSAMPLING = 3.0  # how many more candidates quantized vectors select before the full vectors rescore them
_VALUE_BYTES = 25  # upper bound for a float32 in JSON, with its comma
_POINT_BYTES = 300  # for the names and brackets
_MAX_DEPTH = 32  # of `fields`; the server accepts 128 levels of JSON


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The vectors of a collection.

    Attributes:
        dimensions: length of `full`, and of each row of `tiles`.
        coarse: length of `coarse`, or `None` without these vectors.
        tiled: whether the collection has `tiles`.
        quantization: quantization of the vectors that are searched first.
        index_per_field: whether each field with numbers has a payload index of its own, as in the first format of
            collections; in the second one, all numbers share the indexes of `numbers`.
    """

    dimensions: int
    coarse: int | None
    tiled: bool
    quantization: Quantization | None
    index_per_field: bool = False

    @property
    def first(self) -> str:
        """The name of the vectors that are searched first; the other vectors only rescore the candidates."""
        return "full" if self.coarse is None else "coarse"


def vectors_config(layout: Layout) -> dict[str, models.VectorParams]:
    """The named vectors of a new collection; only the vectors searched first get an HNSW index and quantization."""
    sizes = {"full": layout.dimensions}
    if layout.coarse is not None:
        sizes["coarse"] = layout.coarse
    if layout.tiled:
        sizes["tiles"] = layout.dimensions
    max_sim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    vectors = {}
    for name, size in sizes.items():
        quantized = layout.quantization is not None and name == layout.first
        vectors[name] = models.VectorParams(
            size=size,
            distance=models.Distance.COSINE,
            hnsw_config=_graph(size) if name == layout.first else models.HnswConfigDiff(m=0),
            quantization_config=_quantized(layout.quantization) if quantized else None,
            on_disk=True if quantized else None,  # then only the quantized vectors are in memory
            multivector_config=max_sim if name == "tiles" else None,
        )
    return vectors


def describe(fingerprint: Fingerprint) -> dict[str, str]:
    """The metadata of a new collection."""
    return {_METADATA_KEY: json.dumps({"format": _FORMAT, "fingerprint": dict(fingerprint)})}


def read_description(info: models.CollectionInfo, name: str) -> tuple[Fingerprint, int]:
    """The fingerprint of a collection and the format of its payload.

    Raises:
        StoreRequestError: another program or a later version made the collection.
    """
    text = (info.config.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise StoreRequestError(
            f"the collection {name!r} has no fingerprint: another program made it, or the server is older than 1.16. "
            "Use another collection"
        )
    try:
        described = json.loads(text)
        fingerprint: Fingerprint = described["fingerprint"]
        stored_format: int = described["format"]
    except (TypeError, ValueError, KeyError) as error:
        raise StoreRequestError(f"the fingerprint of the collection {name!r} is damaged: make a new one") from error
    if stored_format not in (_FORMAT_WITH_AN_INDEX_PER_FIELD, _FORMAT):
        raise StoreRequestError(f"another version made the collection {name!r}: use that version")
    return fingerprint, stored_format


def first_of(vectors: Mapping[str, models.VectorParams]) -> str:
    """The name of the vectors that are searched first, and have the search index."""
    return "coarse" if "coarse" in vectors else "full"


def read_layout(vectors: Mapping[str, models.VectorParams], *, tiled: bool, stored_format: int = _FORMAT) -> Layout:
    """Read the layout of an existing collection."""
    coarse = vectors.get("coarse")
    quantized = vectors[first_of(vectors)].quantization_config
    quantization: Quantization | None = None
    if quantized is not None:
        quantization = "binary" if isinstance(quantized, models.BinaryQuantization) else "scalar"
    return Layout(
        dimensions=vectors["full"].size,
        coarse=None if coarse is None else coarse.size,
        tiled=tiled,
        quantization=quantization,
        index_per_field=stored_format == _FORMAT_WITH_AN_INDEX_PER_FIELD,
    )


def to_point(record: Record, layout: Layout, payload: dict[str, Any] | None = None) -> models.PointStruct:
    """The point of a checked record; `payload` is that of `payload_of`, if it is known."""
    vectors: dict[str, Any] = {"full": record.embedding.tolist()}
    if layout.coarse is not None:
        vectors["coarse"] = record.embedding[: layout.coarse].tolist()
    if layout.tiled:
        # In a search over tiles, the embedding represents a record without tiles.
        tiles = record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings
        vectors["tiles"] = tiles.tolist()
    payload = payload_of(record, layout) if payload is None else payload
    return models.PointStruct(id=str(record_uuid(record.record_id)), vector=vectors, payload=payload)


def point_bytes(record: Record, layout: Layout, payload: Mapping[str, Any]) -> int:
    """An upper bound for the size of a checked record's point in a request."""
    rows = 1 if not layout.tiled else 2 if record.tile_embeddings is None else 1 + len(record.tile_embeddings)
    values = rows * layout.dimensions + (layout.coarse or 0)
    return _POINT_BYTES + _VALUE_BYTES * values + len(json.dumps(payload))


def payload_indexes(records: Sequence[Record], layout: Layout) -> dict[str, models.PayloadSchemaType]:
    """The payload indexes that filters on these records need."""
    found = {"modality": models.PayloadSchemaType.KEYWORD, "terms": models.PayloadSchemaType.KEYWORD}
    fields = {field for record in records for field in numbers(record.metadata)}
    if layout.index_per_field:
        return {**found, **{number_path(field): models.PayloadSchemaType.FLOAT for field in sorted(fields)}}
    if fields:
        found["numbers[].key"] = models.PayloadSchemaType.KEYWORD
        found["numbers[].value"] = models.PayloadSchemaType.FLOAT
    return found


def to_filter(where: Filter | None, modality: Modality | None, *, index_per_field: bool = False) -> models.Filter:
    """Translate a filter and a modality for Qdrant; for `index_per_field` see `Layout`.

    Raises:
        EmbedInputError: `where` is a filter of another database, or not a filter.
    """
    conditions: list[models.Condition]
    if isinstance(where, NativeFilter):
        if not isinstance(where.value, models.Filter):
            raise EmbedInputError(
                f"`where` is a NativeFilter of {type(where.value).__name__}: Qdrant needs a "
                "`qdrant_client.models.Filter`; the metadata is in `fields`, like 'fields.year'"
            )
        conditions = [where.value]
    else:
        compare = _compare_path if index_per_field else _compare_nested
        conditions = [_translate(node, compare) for node in parse_filter(where).nodes]
    if modality is not None:
        conditions.append(models.FieldCondition(key="modality", match=models.MatchValue(value=modality)))
    return models.Filter(must=conditions)


def to_query(
    query: FloatArray,
    layout: Layout,
    condition: models.Filter,
    *,
    tiles: bool,
    limit: int,
    candidates: int,
    params: models.SearchParams | None = None,
) -> dict[str, Any]:
    """The arguments of `query_points` for a search with all stages, from the first vectors to the tiles.

    Each stage passes `candidates` records to the next one, so search is exact in a collection of this size. The first
    stage has the parameters of `search_params`.
    """
    values: list[float] = query.tolist()
    names = ["coarse", "full"] if layout.coarse is not None else ["full"]
    if tiles:
        names.append("tiles")
    vectors: dict[str, Any] = {"coarse": values[: layout.coarse], "full": values, "tiles": [values]}
    first = {"filter": condition, "params": params}
    stage: models.Prefetch | None = None
    for name in names[:-1]:
        options: dict[str, Any] = first if stage is None else {"prefetch": stage}
        stage = models.Prefetch(query=vectors[name], using=name, limit=candidates, **options)
    arguments: dict[str, Any] = (
        {"query_filter": condition, "search_params": params} if stage is None else {"prefetch": stage}
    )
    wanted = {"limit": limit, "with_payload": WITHOUT_INDEXED, "with_vectors": ["tiles"] if tiles else False}
    return {"query": vectors[names[-1]], "using": names[-1], **wanted, **arguments}


def to_part_of_batch(arguments: Mapping[str, Any]) -> models.QueryRequest:
    """A search of `query_batch_points`, from the arguments of `query_points`."""
    names = {"query_filter": "filter", "search_params": "params", "with_vectors": "with_vector"}
    return models.QueryRequest(**{names.get(name, name): value for name, value in arguments.items()})


def search_params(layout: Layout, *, hnsw_ef: int | None, oversampling: float) -> models.SearchParams | None:
    """The parameters of the first stage; see `QdrantStore.open`."""
    quantization = models.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    if layout.quantization is None:
        return None if hnsw_ef is None else models.SearchParams(hnsw_ef=hnsw_ef)
    return models.SearchParams(hnsw_ef=hnsw_ef, quantization=quantization)


def _graph(size: int) -> models.HnswConfigDiff:
    # Up to this many records, all vectors are compared and the HNSW index is not used.
    return models.HnswConfigDiff(full_scan_threshold=max(_DEFAULT_FULL_SCAN_KIB, CANDIDATES * 4 * size // 1024))


def _quantized(quantization: Quantization | None) -> models.QuantizationConfig:
    if quantization == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    )


def payload_of(record: Record, layout: Layout) -> dict[str, Any]:
    """The payload of a checked record."""
    fields = {key: value for key, value in record.metadata.items() if _holds(key, depth=0) and _holds(value, depth=0)}
    payload = {**to_payload(record), "fields": fields}
    if not layout.index_per_field:
        payload["numbers"] = [{"key": key, "value": values} for key, values in payload["numbers"].items()]
    return payload


def _holds(value: object, *, depth: int) -> bool:
    """Whether Qdrant's JSON can represent `value`."""
    match value:
        case bool() | float() | None:
            return True
        case int():
            return -(2**63) <= value < 2**63
        case str():
            return not any("\ud800" <= char <= "\udfff" for char in value)
        case list():
            return depth < _MAX_DEPTH and all(_holds(item, depth=depth + 1) for item in value)
        case dict():
            return depth < _MAX_DEPTH and all(
                _holds(key, depth=depth) and _holds(item, depth=depth + 1) for key, item in value.items()
            )
        case _:
            return False


def _translate(node: Node, compare: Callable[[Compare], models.Condition]) -> models.Condition:
    match node:
        case AnyOf():
            values = models.MatchAny(any=[term(node.field, value) for value in node.values])
            return models.FieldCondition(key="terms", match=values)
        case Exists():
            return models.FieldCondition(key="terms", match=models.MatchValue(value=exists_term(node.field)))
        case Compare():
            return compare(node)
        case Not():
            return models.Filter(must_not=[_translate(node.node, compare)])
        case Or():
            return models.Filter(should=[_translate(child, compare) for child in node.nodes])
        case _:
            return models.Filter(must=[_translate(child, compare) for child in node.nodes])


def _compare_path(node: Compare) -> models.Condition:
    return models.FieldCondition(key=number_path(node.field), range=models.Range(**{node.op: node.bound}))


def _compare_nested(node: Compare) -> models.Condition:
    """One element of `numbers` is of this field, and one of its values is in the range."""
    field = models.FieldCondition(key="key", match=models.MatchValue(value=number_key(node.field)))
    value = models.FieldCondition(key="value", range=models.Range(**{node.op: node.bound}))
    return models.NestedCondition(nested=models.Nested(key="numbers", filter=models.Filter(must=[field, value])))
