"""What a Qdrant server is asked, in qdrant-client's own models: collections, points, filters, searches.

A point has the named vectors `full`, `coarse` (its first values) and `tiles` (a multivector), as far as the collection
has them, and this payload beside that of `jclip_connectors.store_kit.payload`:

    fields      the metadata once more, as far as Qdrant's JSON holds it, for filters in Qdrant's own language:
                `NativeFilter(models.Filter(must=[models.FieldCondition(key="fields.year", ...)]))`. Left out are whole
                entries with an integer beyond 64 bits, a lone surrogate, or more than 32 levels. Nothing else reads it,
                and it has no index unless you make one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qdrant_client import models

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import AnyOf, Compare, Exists, Node, Not, Or, exists_term, numbers, parse_filter, term
from jclip_connectors.port import Filter, FloatArray, Modality, NativeFilter, Record, record_uuid
from jclip_connectors.store_kit.coarse import CANDIDATES
from jclip_connectors.store_kit.payload import number_path, to_payload

Quantization = Literal["scalar", "binary"]
"""How the vectors that are searched first are kept in memory: a byte a value, or a bit a value."""

# Only the filters need these, not who reads a record.
WITHOUT_INDEXED = models.PayloadSelectorExclude(exclude=["terms", "numbers", "fields"])

_DEFAULT_FULL_SCAN_KIB = 10_000
_OVERSAMPLING = 3.0  # of what quantized vectors find, before the whole vectors choose
_VALUE_BYTES = 25  # of a float32 in JSON, with its comma, at most
_POINT_BYTES = 300  # of the names and brackets around them
_MAX_DEPTH = 32  # of `fields`; the server's JSON ends at 128 levels


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The vectors of a collection.

    Attributes:
        dimensions: length of `full`, and of each row of `tiles`.
        coarse: length of `coarse`, or `None` where there is none.
        tiled: whether there are `tiles`.
        quantization: of the vectors that are searched first.
    """

    dimensions: int
    coarse: int | None
    tiled: bool
    quantization: Quantization | None

    @property
    def first(self) -> str:
        """The name of the vectors that are searched first; the others are only compared with what those find."""
        return "full" if self.coarse is None else "coarse"


def vectors_config(layout: Layout) -> dict[str, models.VectorParams]:
    """The vectors of a new collection: a graph (HNSW), and quantization, only where the search begins."""
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
            on_disk=True if quantized else None,  # what is in memory then is the quantized vectors
            multivector_config=max_sim if name == "tiles" else None,
        )
    return vectors


def read_layout(vectors: Mapping[str, models.VectorParams], *, tiled: bool) -> Layout:
    """The layout of the vectors that a collection has."""
    coarse = vectors.get("coarse")
    quantized = vectors["full" if coarse is None else "coarse"].quantization_config
    quantization: Quantization | None = None
    if quantized is not None:
        quantization = "binary" if isinstance(quantized, models.BinaryQuantization) else "scalar"
    return Layout(
        dimensions=vectors["full"].size,
        coarse=None if coarse is None else coarse.size,
        tiled=tiled,
        quantization=quantization,
    )


def to_point(record: Record, layout: Layout) -> models.PointStruct:
    """The point of a checked record."""
    vectors: dict[str, Any] = {"full": record.embedding.tolist()}
    if layout.coarse is not None:
        vectors["coarse"] = record.embedding[: layout.coarse].tolist()
    if layout.tiled:
        # A record without tiles is found by its embedding when tiles are searched.
        tiles = record.embedding[None] if record.tile_embeddings is None else record.tile_embeddings
        vectors["tiles"] = tiles.tolist()
    return models.PointStruct(id=str(record_uuid(record.record_id)), vector=vectors, payload=_payload(record))


def point_bytes(record: Record, layout: Layout) -> int:
    """How large the point of a checked record is in a request, at most."""
    rows = 1 if not layout.tiled else 2 if record.tile_embeddings is None else 1 + len(record.tile_embeddings)
    values = rows * layout.dimensions + (layout.coarse or 0)
    return _POINT_BYTES + _VALUE_BYTES * values + len(json.dumps(_payload(record)))


def payload_indexes(records: Sequence[Record]) -> dict[str, models.PayloadSchemaType]:
    """The fields of the payload that filters ask, for these records: each of them wants an index."""
    fields = {field for record in records for field in numbers(record.metadata)}
    return {
        "modality": models.PayloadSchemaType.KEYWORD,
        "terms": models.PayloadSchemaType.KEYWORD,
        **{number_path(field): models.PayloadSchemaType.FLOAT for field in sorted(fields)},
    }


def to_filter(where: Filter | None, modality: Modality | None) -> models.Filter:
    """Qdrant's filter for ours, and for a modality.

    Raises:
        EmbedInputError: `where` is in another database's language, or no filter.
    """
    conditions: list[models.Condition]
    if isinstance(where, NativeFilter):
        if not isinstance(where.value, models.Filter):
            raise EmbedInputError(
                f"`where` is a NativeFilter of {type(where.value).__name__}: Qdrant takes a "
                "`qdrant_client.models.Filter`; the metadata is in `fields`, like 'fields.year'"
            )
        conditions = [where.value]
    else:
        conditions = [_translate(node) for node in parse_filter(where).nodes]
    if modality is not None:
        conditions.append(models.FieldCondition(key="modality", match=models.MatchValue(value=modality)))
    return models.Filter(must=conditions)


def to_query(
    query: FloatArray, layout: Layout, condition: models.Filter, *, tiles: bool, limit: int, candidates: int
) -> dict[str, Any]:
    """One search as the arguments of `query_points`: from the vectors that are searched first to the tiles.

    Each stage leaves `candidates` records to the next one, so a collection of no more is searched exactly.
    """
    values: list[float] = query.tolist()
    names = ["coarse", "full"] if layout.coarse is not None else ["full"]
    if tiles:
        names.append("tiles")
    vectors: dict[str, Any] = {"coarse": values[: layout.coarse], "full": values, "tiles": [values]}
    first = {"filter": condition, "params": _search_params(layout)}
    stage: models.Prefetch | None = None
    for name in names[:-1]:
        options: dict[str, Any] = first if stage is None else {"prefetch": stage}
        stage = models.Prefetch(query=vectors[name], using=name, limit=candidates, **options)
    arguments: dict[str, Any] = (
        {"query_filter": condition, "search_params": first["params"]} if stage is None else {"prefetch": stage}
    )
    return {"query": vectors[names[-1]], "using": names[-1], "limit": limit, **arguments}


def _search_params(layout: Layout) -> models.SearchParams | None:
    if layout.quantization is None:
        return None
    return models.SearchParams(
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING),
    )


def _graph(size: int) -> models.HnswConfigDiff:
    # Of no more than this many records all are compared, graph or not.
    return models.HnswConfigDiff(full_scan_threshold=max(_DEFAULT_FULL_SCAN_KIB, CANDIDATES * 4 * size // 1024))


def _quantized(quantization: Quantization | None) -> models.QuantizationConfig:
    if quantization == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    )


def _payload(record: Record) -> dict[str, Any]:
    fields = {key: value for key, value in record.metadata.items() if _holds(key, depth=0) and _holds(value, depth=0)}
    return {**to_payload(record), "fields": fields}


def _holds(value: object, *, depth: int) -> bool:
    """Whether Qdrant's JSON has `value`."""
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


def _translate(node: Node) -> models.Condition:
    match node:
        case AnyOf():
            values = models.MatchAny(any=[term(node.field, value) for value in node.values])
            return models.FieldCondition(key="terms", match=values)
        case Exists():
            return models.FieldCondition(key="terms", match=models.MatchValue(value=exists_term(node.field)))
        case Compare():
            return models.FieldCondition(key=number_path(node.field), range=models.Range(**{node.op: node.bound}))
        case Not():
            return models.Filter(must_not=[_translate(node.node)])
        case Or():
            return models.Filter(should=[_translate(child) for child in node.nodes])
        case _:
            return models.Filter(must=[_translate(child) for child in node.nodes])
