"""What Pinecone takes and what it refuses, for its double: items, filters, queries, the names of things."""

import json
import math
import re
from dataclasses import dataclass

# Documented
UPSERT_BYTES = 2 * 1024 * 1024
METADATA_BYTES = 40 * 1024
RESULT_BYTES = 4 * 1024 * 1024
MOST_ITEMS = 1000
MOST_IDS = 1000
MOST_VALUES = 10_000
MOST_RESULTS = 10_000

# Read in the client (pinecone 10.2, _internal/validation.py)
_ID = re.compile(r"[\x01-\x7f]{1,512}")
_INDEX_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")

# What each route may be sent; anything else is a surprise. Read in the client (pinecone 10.2, index/__init__.py)
_BODIES = {
    "create_index": {"name", "schema", "deployment"},
    "describe_index": set(),
    "describe_namespace": set(),
    "documents_upsert": {"documents"},
    "documents_search": {"score_by", "top_k", "include_fields", "filter"},
    "documents_fetch": {"ids", "filter", "include_fields", "pagination_token", "limit"},
    "documents_delete": {"ids", "filter"},
    "vectors_upsert": {"vectors", "namespace"},
    "vectors_query": {"vector", "topK", "namespace", "filter", "includeValues", "includeMetadata"},
    "vectors_fetch": {"ids", "namespace"},
    "vectors_fetch_by_metadata": {"filter", "namespace", "limit", "paginationToken"},
    "vectors_delete": {"ids", "filter", "namespace"},
    "start_import": {"uri", "errorMode", "integrationId"},
}
_LISTS = {"ids"}  # parameters of an address that may come more than once.


class AnswerError(Exception):
    """A refusal of the service."""

    def __init__(self, status, message, *, code="INVALID_ARGUMENT", headers=None):
        """Keep the status, the code and the headers. Read in the client (pinecone 10.2, errors/exceptions.py)."""
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


class SurpriseError(Exception):
    """Something that no rule is for."""


def read(route, params, body):
    """The arguments of a request. Read in the client (pinecone 10.2, index/__init__.py)."""
    given = {**body, **{name: values if name in _LISTS else values[-1] for name, values in params.items()}}
    if route not in _BODIES or not given.keys() <= _BODIES[route]:
        raise SurpriseError(f"{route} with {sorted(given)}")
    return given


def check_index_name(name):
    """Refuse a name that cannot be an index's.

    Read in the client (pinecone 10.2, _internal/validation.py). The status: Assumed.
    """
    if not _INDEX_NAME.fullmatch(name):
        raise AnswerError(422, f"index name {name!r}")


def check_schema(schema):
    """Refuse a schema that cannot be.

    The length of names, the dimensions, and that metadata is not declared: Read in the client (pinecone 10.2,
    schema_builder.py). Reserved names: Assumed.
    """
    kinds = schema["fields"]
    if [kind["type"] for kind in kinds.values()].count("dense_vector") != 1:
        raise SurpriseError(f"schema {schema}")
    for name, kind in kinds.items():
        if len(name.encode()) > 64 or (name.startswith(("_", "$")) and name != "_values"):
            raise AnswerError(400, f"field name {name!r}")
        if kind["type"] == "dense_vector":
            if kind.keys() != {"type", "dimension", "metric"} or not 1 <= kind["dimension"] <= 20_000:
                raise AnswerError(400, f"field {name}: {kind}")
        elif kind["type"] != "string" or "full_text_search" not in kind:
            raise AnswerError(400, f"field {name}: metadata is not declared")


@dataclass(frozen=True)
class Rules:
    """Those of one kind of index."""

    legacy: bool

    def check_items(self, items, *, field, dimension, metric):
        """Refuse items that cannot be written together.

        Their number, and an id that comes twice: Read in the client (pinecone 10.2, _internal/documents_helpers.py).
        For vectors, and a document without its vector: Assumed.
        """
        if not 1 <= len(items) <= MOST_ITEMS:
            raise AnswerError(400, f"{len(items)} items; 1 to {MOST_ITEMS} are taken")
        self.check_ids([item.get("_id") for item in items])
        if len({item["_id"] for item in items}) < len(items):
            raise AnswerError(400, "an id comes twice")
        for item in items:
            if field not in item:
                raise AnswerError(400, f"document {item['_id']} has no {field}")
            check_vector(item[field], dimension=dimension, metric=metric)
            self._check_metadata({name: value for name, value in item.items() if name not in ("_id", field)})

    def check_ids(self, ids):
        """Refuse ids that cannot be.

        Read in the client (pinecone 10.2, _internal/validation.py). Their number: Documented.
        """
        if not 1 <= len(ids) <= MOST_IDS:
            raise AnswerError(400, f"{len(ids)} ids; 1 to {MOST_IDS} are taken")
        for name in ids:
            if not isinstance(name, str) or not _ID.fullmatch(name):
                raise AnswerError(400, f"id {name!r}")

    def check_query(self, vector, top_k, *, dimension):
        """Refuse a query that cannot be. Read in the client (pinecone 10.2, _internal/validation.py)."""
        check_vector(vector, dimension=dimension, metric="cosine")
        if not 1 <= top_k <= MOST_RESULTS:
            raise AnswerError(400, f"top_k {top_k}")

    def stored(self, item):
        """Numbers of metadata become floats. Documented."""
        return {
            name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
            for name, value in item.items()
        }

    def from_wire(self, vector):
        """An item of a vector as the SDK sends it. Read in the client (pinecone 10.2, models/vectors/vector.py)."""
        if vector.keys() != {"id", "values", "metadata"} or {"_id", "_values"} & vector["metadata"].keys():
            raise SurpriseError(f"vector with {sorted(vector)}")
        return {"_id": vector["id"], "_values": vector["values"], **vector["metadata"]}

    def to_wire(self, item, *, values, metadata):
        """A vector as the SDK reads it. Read in the client (pinecone 10.2, models/vectors/vector.py)."""
        fields = {name: value for name, value in item.items() if name not in ("_id", "_values")}
        shown = {"id": item["_id"], "values": item["_values"] if values else []}
        return {**shown, "metadata": fields} if metadata else shown

    def _check_metadata(self, metadata):
        """Refuse metadata that cannot be: of another type, null, too large, or with a reserved name.

        Documented. That `_` begins reserved names of documents: Assumed.
        """
        for name, value in metadata.items():
            if name.startswith("$") or (name.startswith("_") and not self.legacy):
                raise AnswerError(400, f"field name {name!r} is reserved")
            texts = isinstance(value, list) and all(isinstance(element, str) for element in value)
            if not texts and not isinstance(value, str | bool | int | float):
                raise AnswerError(400, f"metadata {name!r} is a string, number, boolean or list of strings")
        size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
        if size > METADATA_BYTES:
            raise AnswerError(400, f"metadata size is {size} bytes, which exceeds the limit of {METADATA_BYTES} bytes")


# Read in the client (pinecone 10.2, _internal/legacy_index_translation.py)
DOCUMENT_RULES = Rules(legacy=False)
VECTOR_RULES = Rules(legacy=True)


def check_vector(values, *, dimension, metric):
    """Refuse a vector of another length, with a value that is no number, or all zero if the metric is cosine.

    Documented. A number that is not finite: Assumed, since JSON has none.
    """
    if len(values) != dimension:
        raise AnswerError(400, f"Vector dimension {len(values)} does not match the dimension of the index {dimension}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise AnswerError(400, f"{value!r} in a vector")
    if metric == "cosine" and not any(values):
        raise AnswerError(400, "Dense vectors must contain at least one non-zero value")


def matches(item, condition):
    """Whether an item is what a filter asks for; a field that is not there matches nothing but `$exists: false`.

    Documented. An empty filter is refused: Read in the client (pinecone 10.2, _internal/validation.py).
    """
    if condition is None:
        return True
    if not isinstance(condition, dict) or not condition:
        raise AnswerError(400, f"filter {condition!r}")
    found = [_clause(item, key, operand) for key, operand in condition.items()]  # all of it: a bad one is refused
    return all(found)


def _clause(item, key, operand):
    """Whether an item meets one clause. Documented. That an empty list or an empty condition is refused: Assumed."""
    if key in ("$and", "$or"):
        if not isinstance(operand, list) or not operand:
            raise AnswerError(400, f"{key} takes a list that is not empty")
        branches = [matches(item, branch) for branch in operand]
        return all(branches) if key == "$and" else any(branches)
    if key.startswith("$"):
        raise SurpriseError(f"operator {key}")
    if not isinstance(operand, dict):
        operand = {"$eq": operand}
    if not operand:
        raise AnswerError(400, f"{key} has no operator")
    found = [_operator(item.get(key), op, wanted) for op, wanted in operand.items()]
    return all(found)


def _operator(value, op, wanted):
    """Whether a value meets an operator.

    The operators, their types and the 10,000 values of `$in`: Documented. A missing field does not meet `$ne` and
    `$nin`: Assumed.
    """
    if op == "$exists" and isinstance(wanted, bool):
        return (value is not None) == wanted
    if op in ("$in", "$nin"):
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= MOST_VALUES:
            raise AnswerError(400, f"{op} takes a list of 1 to {MOST_VALUES} values")
        for one in wanted:
            _check_operand(op, one, (str, int, float))
        found = _any_equal(value, wanted)
        return value is not None and found == (op == "$in")
    if op in ("$eq", "$ne"):
        _check_operand(op, wanted, (str, int, float, bool))
        return value is not None and _any_equal(value, [wanted]) == (op == "$eq")
    compare = {"$gt": float.__gt__, "$gte": float.__ge__, "$lt": float.__lt__, "$lte": float.__le__}.get(op)
    if compare is None:
        raise SurpriseError(f"operator {op} with {wanted!r}")
    _check_operand(op, wanted, (int, float))
    return isinstance(value, float) and bool(compare(value, float(wanted)))


def _check_operand(op, value, kinds):
    """Refuse an operand of another type than the operator's. The types: Documented."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise AnswerError(400, f"{op} does not take {value!r}")


def _any_equal(value, wanted):
    """Whether a value, or one of a list, is one of the wanted; `true` is not 1.

    A list: Documented. A boolean: Assumed.
    """
    values = value if isinstance(value, list) else [value]
    return any(one == other and isinstance(one, bool) == isinstance(other, bool) for one in values for other in wanted)
