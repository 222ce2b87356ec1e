"""What the double of a Weaviate server finds: by filters on typed properties, by vectors, by words, and by both."""

import collections
import math
import re
import struct
import uuid

import numpy as np
from weaviate.proto.v1 import base_pb2

from tests.doubles.weaviate_collections import Refused, Surprise, is_multi

Operator = base_pb2.Filters.Operator

# Read in the client (weaviate-client 4.24, collections/classes/filters.py)
_GROUPS = ("OPERATOR_AND", "OPERATOR_OR", "OPERATOR_NOT")
_RANGES = {
    "OPERATOR_GREATER_THAN": lambda key, bound: key > bound,
    "OPERATOR_GREATER_THAN_EQUAL": lambda key, bound: key >= bound,
    "OPERATOR_LESS_THAN": lambda key, bound: key < bound,
    "OPERATOR_LESS_THAN_EQUAL": lambda key, bound: key <= bound,
}
_SETS = {
    "OPERATOR_EQUAL": any,
    "OPERATOR_CONTAINS_ANY": any,
    "OPERATOR_CONTAINS_ALL": all,
}
_NEGATED = {"OPERATOR_NOT_EQUAL": "OPERATOR_EQUAL", "OPERATOR_CONTAINS_NONE": "OPERATOR_CONTAINS_ANY"}

# QUERY_HYBRID_MAXIMUM_RESULTS: at least so many results of each half of a hybrid search.
# Seen on a real server (Weaviate 1.40.0-dev)
HYBRID_RESULTS = 100


def know(message, known, what):
    """Refuse loudly a message with fields that nobody has taught the double."""
    found = {field.name for field, _ in message.ListFields()}
    if found - set(known):
        raise Surprise(f"{what} with {sorted(found - set(known))}")


def matching(collection, filters):
    """The numbers of the objects that meet a filter.

    A negation leaves out deleted objects: Seen on a real server (Weaviate 1.40.0-dev). `And`, `Or` and `Not`:
    Documented. Refusing an operator without children: Read in the server's source (Weaviate).
    """
    universe = {stored.number for stored in collection.objects.values()}
    operator = Operator.Name(filters.operator)
    if operator in _GROUPS:
        know(filters, ("operator", "filters"), operator)
        sets = [matching(collection, child) for child in filters.filters]
        if not sets:
            raise Refused(f"no children for operator: {operator}")
        if operator == "OPERATOR_NOT":
            return universe - sets[0]
        return set.union(*sets) if operator == "OPERATOR_OR" else set.intersection(*sets)
    know(filters, ("operator", "target", filters.WhichOneof("test_value")), operator)
    know(filters.target, ("property",), "filter target")
    if operator in _NEGATED:
        return universe - _meeting(collection, _NEGATED[operator], filters)
    return _meeting(collection, operator, filters)


def _meeting(collection, operator, filters):
    """The numbers of the objects whose property meets a condition.

    `ContainsAny`, `ContainsAll`, `_id` and the comparisons: Documented. The refusals: Read in the server's source
    (Weaviate).
    """
    name = filters.target.property
    values = _values(filters)
    if name == "_id":
        if operator not in _SETS:
            raise Surprise(f"_id {operator}")
        identities = {uuid.UUID(value) for value in values}
        return {stored.number for stored in collection.objects.values() if stored.identity in identities}
    known = collection.property_named(name)
    kind = known["dataType"][0].removesuffix("[]")
    values = [_as_kind(kind, value) for value in values]
    indexed = known["indexFilterable"] or known["indexSearchable"] or known["indexRangeFilters"]
    if not indexed or name in collection.unbuilt:
        raise Refused(f"Filtering by property '{name}' requires inverted index")
    if operator in _RANGES and kind == "number":
        meets = _RANGES[operator]
        keys = {number: key for number, (key,) in _keys(collection, known).items()}
        return {number for number, key in keys.items() if meets(key, sortable(values[0]))}
    if operator not in _SETS:
        raise Surprise(f"{kind} {operator}")
    wanted = [_tokens(known, value) if kind == "text" else [sortable(value)] for value in values]
    if not all(wanted):
        if known["tokenization"] == "field":
            return set()  # blanks: no error. Seen on a real server (Weaviate 1.40.0-dev)
        raise Refused("invalid search term, only stopwords provided")
    meets_all = _SETS[operator]
    return {
        number
        for number, keys in _keys(collection, known).items()
        if meets_all(set(tokens) <= keys for tokens in wanted)
    }


def _as_kind(kind, value):
    """A text becomes a number for a property of numbers, and not the other way.

    The first: Seen on a real server (Weaviate 1.40.0-dev); the words of its refusal: Assumed. The second: Read in the
    server's source (Weaviate).
    """
    if kind == "text":
        if not isinstance(value, str):
            raise Refused("expected value to be string, got 'float64'")
        return value
    try:
        return float(value)
    except ValueError:
        raise Refused(f"expected a number value, but could not parse string '{value}' as float") from None


def _values(filters):
    """The values of a condition.

    The types: Read in the client (weaviate-client 4.24, collections/filters.py). Refusing an empty list: Assumed.
    """
    which = filters.WhichOneof("test_value")
    if which in ("value_text", "value_number"):
        return [getattr(filters, which)]
    if which in ("value_text_array", "value_number_array"):
        values = list(getattr(filters, which).values)
        if not values:
            raise Refused("a filter on an empty list")
        return values
    raise Surprise(f"filter value {which}")


def _keys(collection, known):
    """What the inverted index of a property has of each object that has the property. Documented.

    An object that was stored while the index was missing is not in it: Seen on a real server (Weaviate 1.40.0-dev).
    """
    found = {}
    for stored in collection.objects.values():
        value = stored.properties.get(known["name"])
        if value is None or (stored.number, known["name"]) in collection.unindexed:
            continue
        items = value if isinstance(value, list) else [value]
        if known["dataType"] == ["number"]:
            found[stored.number] = {sortable(item) for item in items}
        else:
            found[stored.number] = {token for item in items for token in _tokens(known, item)}
    return found


def _tokens(known, text):
    """The terms of a text: the words, or the whole text without the blanks around it. Documented."""
    if known["tokenization"] == "field":
        return [text.strip()] if text.strip() else []
    return words(text)


def words(text):
    """The words of a text, in lower case. Letters and digits make words: Documented."""
    return [word for word in re.split(r"[^\w]+|_", text.lower()) if word]


def sortable(number):
    """The bytes by which the server's index orders numbers: -0.0 comes before 0.0.

    Read in the server's source (Weaviate), whose newer versions make -0.0 a 0.0.
    """
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    return (~bits & (2**64 - 1) if bits >> 63 else bits | 1 << 63).to_bytes(8, "big")


def nearest(collection, vectors, targets, *, limit, allowed):
    """The `limit` objects nearest to the vector and their distances, nearest first.

    In an index of multi-vectors the server looks for the `limit` nearest rows, and returns the objects that have them:
    fewer than `limit` where an object has several. It compares all objects if a filter leaves fewer than
    `flatSearchCutoff`, and finds objects and not rows with muvera. Seen on a real server (Weaviate 1.40.0-dev).

    An unknown vector is refused: Read in the server's source (Weaviate). The other refusals: Assumed.
    """
    know(targets, ("target_vectors",), "targets")
    if len(targets.target_vectors) != 1 or len(vectors) != 1:
        raise Refused(f"name one target vector of collection {collection.name}, not {targets.target_vectors}")
    (target,) = targets.target_vectors
    if target not in collection.vectors:
        raise Refused(f"class {collection.name} does not have named vector {target}")
    config = collection.vectors[target]
    query = unpack(vectors[0])
    if (query.ndim == 2) != is_multi(config):
        raise Refused(f"vector '{target}' and a query of the shape {query.shape}: is it a multi-vector, or not?")
    length = collection.lengths.get(target)
    if length not in (None, query.shape[-1]):
        raise Refused(f"vector lengths don't match: {length} vs {query.shape[-1]}")
    having = [stored for stored in collection.objects.values() if target in stored.vectors]
    having = [stored for stored in having if allowed is None or stored.number in allowed]
    having = [stored for stored in having if stored.number not in collection.lost]
    index = config["vectorIndexConfig"]
    flat = allowed is not None and len(allowed) < index["flatSearchCutoff"]
    if query.ndim == 2 and not flat and not index["multivector"]["muvera"]["enabled"]:
        having = _owners_of_nearest_rows(having, query, target, limit=limit)
    found = [(stored, _distance(query, stored.vectors[target], config)) for stored in having]
    return sorted(found, key=lambda pair: pair[1])[:limit]


def _owners_of_nearest_rows(having, query, target, *, limit):
    """The objects that have the `limit` rows nearest to each row of the query.

    Seen on a real server (Weaviate 1.40.0-dev).
    """
    owners = {}
    for row in query:
        rows = [(float(row @ other), stored) for stored in having for other in stored.vectors[target]]
        for _, stored in sorted(rows, key=lambda pair: -pair[0])[:limit]:
            owners[stored.number] = stored
    return list(owners.values())


def _distance(query, vector, config):
    """The distance, in float32. 1 - cosine, and minus the sum of MaxSim: Documented."""
    if query.ndim == 2:
        # MaxSim of dot products, whatever distance is configured.
        return float(np.float32(-(query @ vector.T).max(axis=1).sum()))
    if config["vectorIndexConfig"]["distance"] != "cosine":
        raise Surprise(f"distance {config['vectorIndexConfig']['distance']}")
    cosine = query @ vector / (np.linalg.norm(query) * np.linalg.norm(vector))
    return float(np.float32(1.0 - cosine))


def unpack(vector):
    """A vector of the wire: (E,), or (T, E) behind its E in two bytes.

    Read in the client (weaviate-client 4.24, collections/grpc/shared.py).
    """
    if vector.type == base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32:
        (length,) = struct.unpack("<H", vector.vector_bytes[:2])
        return np.frombuffer(vector.vector_bytes[2:], dtype="<f4").reshape(-1, length)
    if vector.type == base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32:
        return np.frombuffer(vector.vector_bytes, dtype="<f4")
    raise Surprise(f"vector type {vector.type}")


def pack(name, vector):
    """A vector for the wire. Read in the client (weaviate-client 4.24, collections/grpc/query.py)."""
    data = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    if vector.ndim == 1:
        return base_pb2.Vectors(name=name, vector_bytes=data, type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32)
    length = struct.pack("<H", vector.shape[1])
    return base_pb2.Vectors(name=name, vector_bytes=length + data, type=base_pb2.Vectors.VECTOR_TYPE_MULTI_FP32)


def by_words(collection, query, properties):
    """The objects with any of the words, and their BM25 scores.

    The formula, and that a property must be searchable: Documented. The words of the refusal: Assumed.
    """
    config = collection.definition["invertedIndexConfig"]["bm25"]
    texts: dict[int, list[str]] = collections.defaultdict(list)
    for name in properties:
        if not collection.property_named(name)["indexSearchable"]:
            raise Refused(f"property '{name}' is not searchable: set `indexSearchable`")
        for stored in collection.objects.values():
            texts[stored.number] += words(stored.properties.get(name, ""))
    average = sum(map(len, texts.values())) / max(1, len(texts))
    scores: dict[int, float] = collections.defaultdict(float)
    for word in set(words(query)):
        having = {number: text.count(word) for number, text in texts.items() if word in text}
        rarity = math.log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for number, count in having.items():
            long = 1 - config["b"] + config["b"] * len(texts[number]) / average
            scores[number] += rarity * count * (config["k1"] + 1) / (count + config["k1"] * long)
    return [(stored, scores[stored.number]) for stored in collection.objects.values() if stored.number in scores]


def hybrid(collection, search, allowed, *, limit, most_results):
    """Both searches, each brought to 0..1, summed by their weights: the server's relative score fusion.

    Each search has its best 100 results, or `limit` if that is more, so a score depends on `limit`; a server that is
    configured to return fewer than 100 refuses the search. Seen on a real server (Weaviate 1.40.0-dev).

    The fusion: Documented.
    """
    if not search.use_alpha_param:
        raise Surprise("hybrid with the old alpha")
    best = max(limit, HYBRID_RESULTS)
    if best > most_results:
        raise Refused("query maximum results exceeded")
    dense = [(stored, -distance) for stored, distance in nearest_of_hybrid(collection, search, best, allowed)]
    sparse = by_words(collection, search.query, search.properties)
    sparse = [pair for pair in sparse if allowed is None or pair[0].number in allowed]
    sparse = sorted(sparse, key=lambda pair: -pair[1])[:best]
    scores: dict[uuid.UUID, float] = collections.defaultdict(float)
    for weight, found in ((search.alpha_param, dense), (1 - search.alpha_param, sparse)):
        kept = [(stored.identity, score) for stored, score in found]
        if not kept or not weight:
            continue
        least, most = min(score for _, score in kept), max(score for _, score in kept)
        for identity, score in kept:
            scores[identity] += weight * ((score - least) / (most - least) if most > least else 1.0)
    ordered = sorted(scores.items(), key=lambda pair: -pair[1])
    return [(collection.objects[identity], float(np.float32(score))) for identity, score in ordered]


def nearest_of_hybrid(collection, search, limit, allowed):
    """The half of a hybrid search that compares vectors.

    Read in the client (weaviate-client 4.24, collections/grpc/shared.py).
    """
    single = base_pb2.Vectors(vector_bytes=search.vector_bytes, type=base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32)
    return nearest(collection, search.vectors or [single], search.targets, limit=limit, allowed=allowed)
