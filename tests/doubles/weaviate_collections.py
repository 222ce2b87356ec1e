"""What the double of a Weaviate server keeps: collections with a schema, and objects that keep to it.

Each rule tells its source. What the server can do and we never want, such as a vectorizer, the double refuses.
"""

import copy
import itertools
import re
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

# The letters: Documented. The length: Assumed
CLASS_NAME = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")

# The letters: Documented. The length: Read in the server's source (Weaviate)
PROPERTY_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")

RESERVED = ("_additional", "_id", "id")  # Documented

# `filterStrategy` and `flatSearchCutoff`: Seen on a real server (Weaviate 1.40.0-dev). The others: Documented
HNSW: dict[str, Any] = {
    "cleanupIntervalSeconds": 300,
    "distance": "cosine",
    "dynamicEfFactor": 8,
    "dynamicEfMax": 500,
    "dynamicEfMin": 100,
    "ef": -1,
    "efConstruction": 128,
    "filterStrategy": "acorn",
    "flatSearchCutoff": 40000,
    "maxConnections": 32,
    "skip": False,
    "vectorCacheMaxObjects": 1000000000000,
}

# Read in the server's source (Weaviate)
MULTIVECTOR: dict[str, Any] = {"enabled": False, "aggregation": "maxSim"}

# Documented
MUVERA: dict[str, Any] = {"enabled": False, "ksim": 4, "dprojections": 16, "repetitions": 10}

# None is enabled: Seen on a real server (Weaviate 1.40.0-dev). `rescoreLimit` of rq: Read in the
# server's source (Weaviate). The others: Documented
QUANTIZERS: dict[str, dict[str, Any]] = {
    "bq": {"enabled": False},
    "pq": {
        "enabled": False,
        "bitCompression": False,
        "segments": 0,
        "centroids": 256,
        "trainingLimit": 100000,
        "encoder": {"type": "kmeans", "distribution": "log-normal"},
    },
    "rq": {"enabled": False, "bits": 8, "rescoreLimit": 20},
    "sq": {"enabled": False, "trainingLimit": 100000, "rescoreLimit": 20},
}

# All are told: Read in the client (weaviate-client 4.24, collections/classes/config_methods.py).
# Of sharding: Read in the server's source (Weaviate). `deletionStrategy`: Assumed. The others: Documented
CLASS_DEFAULTS: dict[str, Any] = {
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "cleanupIntervalSeconds": 60,
        "stopwords": {"additions": None, "preset": "en", "removals": None},
        "usingBlockMaxWAND": True,
    },
    "multiTenancyConfig": {"enabled": False, "autoTenantActivation": False, "autoTenantCreation": False},
    "replicationConfig": {"asyncEnabled": False, "deletionStrategy": "TimeBasedResolution", "factor": 1},
    "shardingConfig": {
        "actualCount": 1,
        "actualVirtualCount": 128,
        "desiredCount": 1,
        "desiredVirtualCount": 128,
        "function": "murmur3",
        "key": "_id",
        "strategy": "hash",
        "virtualPerPhysical": 128,
    },
}


class Refused(Exception):
    """The server refuses this, in these words."""


class TooLarge(Refused):
    """The answer is larger than a message may be."""


class Surprise(Exception):
    """The double does not know this: teach it, or do not ask."""


@dataclass(eq=False)
class Stored:
    identity: uuid.UUID
    number: int  # the server's doc id: another one each time an object is written with other vectors
    properties: dict[str, Any]
    vectors: dict[str, np.ndarray]  # (E,), or (T, E) of a multi-vector


class Collection:
    def __init__(self, wanted):
        """A new collection; an object without a vector is allowed.

        All vectors of one name have the length of the first: Read in the server's source (Weaviate).
        """
        self.definition = complete(wanted)
        self.objects: dict[uuid.UUID, Stored] = {}
        self.lengths: dict[str, int] = {}  # of each named vector, since the first
        self.read_only: str | None = None  # the reason, while no write is accepted
        self.unbuilt: set[str] = set()  # the properties without an index: see `add_property`
        self.unindexed: set[tuple[int, str]] = set()  # numbers of objects that no filter on a property finds
        self.lost: set[int] = set()  # the objects that no search by vectors finds: see `put`
        self._numbers = itertools.count()

    @property
    def name(self):
        return self.definition["class"]

    @property
    def vectors(self):
        return self.definition["vectorConfig"]

    def property_named(self, name):
        """The definition of a property. Read in the server's source (Weaviate)."""
        for known in self.definition["properties"]:
            if known["name"] == name:
                return known
        raise Refused(f"no such prop with name '{name}' found in class '{self.name}' in the schema")

    def add_property(self, wanted):
        """Add a property. While the shard is read-only, its index is not made until the server restarts.

        Until then an object that has it is stored and told as refused: Seen on a real server (Weaviate 1.40.0-dev).
        A filter on it is an error: Assumed.
        """
        taken = {known["name"].lower() for known in self.definition["properties"]}
        made = complete_property(wanted, taken, self.name)
        self.definition["properties"].append(made)
        if self.read_only is not None:
            self.unbuilt.add(made["name"])
        return made

    def restart(self):
        """Make the missing indexes, which lack what was stored meanwhile: a filter counts none of it, and says nothing.

        Seen on a real server (Weaviate 1.40.0-dev).
        """
        self.unbuilt.clear()

    def put(self, identity, properties, vectors):
        """Write an object. With the vectors that it has, it keeps its place in the vector index, or its absence.

        After `kill -9` of the server the index can lack objects that are stored. Writing such an object again is
        answered with success and does not bring it back; deleting and writing it does. Seen on a real server
        (Weaviate 1.40.0-dev). That an unknown vector is refused: Assumed.
        """
        if self.read_only is not None:
            raise Refused(f"store is read-only due to: {self.read_only}")
        properties = {name: value for name, value in properties.items() if value is not None}
        for name, value in properties.items():
            check_value(self.property_named(name), value)
        unknown = sorted(set(vectors) - set(self.vectors))
        if unknown:
            raise Refused(f"collection {self.name} does not have the vectors {unknown}")
        for name, vector in vectors.items():
            check_vector(name, vector, multi=is_multi(self.vectors[name]), length=self.lengths.get(name))
        self.lengths |= {name: vector.shape[-1] for name, vector in vectors.items()}
        previous = self.objects.get(identity)
        if previous is not None and _equal(previous.vectors, vectors):
            if previous.properties == properties:
                return
            number = previous.number
        else:
            number = next(self._numbers)
        self.objects[identity] = Stored(identity, number, properties, vectors)
        self.unindexed |= {(number, name) for name in self.unbuilt & properties.keys()}
        for name in sorted(self.unbuilt & properties.keys()):
            raise Refused(
                f"update inverted indices: put inverted indices props: no bucket rangeable for prop '{name}' found"
            )

    def delete(self, identity):
        """Delete an object; one that is not there is no error. Documented."""
        self.objects.pop(identity, None)


def _equal(vectors, others):
    """Whether an object has these vectors already, so that its place in the vector index stays.

    Seen on a real server (Weaviate 1.40.0-dev).
    """
    return vectors.keys() == others.keys() and all(np.array_equal(vectors[name], others[name]) for name in vectors)


def is_multi(vector):
    """Whether a vector is a multi-vector.

    Read in the client (weaviate-client 4.24, collections/classes/config_methods.py).
    """
    return vector["vectorIndexConfig"].get("multivector", {}).get("enabled", False)


def check_value(known, value):
    """Refuse a value of another type than the property's.

    The types: Documented. The words: Read in the server's source (Weaviate).
    """
    kind = known["dataType"][0]
    fits = {
        "text": isinstance(value, str),
        "text[]": isinstance(value, list) and all(isinstance(item, str) for item in value),
        "number": isinstance(value, float),
    }[kind]
    if not fits:
        raise Refused(f"invalid {kind} property '{known['name']}' on class: not a {kind}, but {type(value).__name__}")


def check_vector(name, vector, *, multi, length):
    """Refuse a vector of another length than the first, or of another kind.

    The length: Read in the server's source (Weaviate). The kind: Assumed.
    """
    if vector.ndim != (2 if multi else 1) or not vector.size:
        raise Refused(f"vector '{name}' has the shape {vector.shape}: is it a multi-vector, or not?")
    if length not in (None, vector.shape[-1]):
        raise Refused(
            f"new node has a vector with length {vector.shape[-1]}. Existing nodes have vectors with length {length}"
        )


def complete(wanted):
    """A class as it was asked for, with the server's defaults; its name begins with a capital.

    The capital: Seen on a real server (Weaviate 1.40.0-dev). The class name: Documented. That every default is there:
    Read in the client (weaviate-client 4.24, collections/classes/config_methods.py).
    """
    wanted = {**wanted, "class": wanted["class"][:1].upper() + wanted["class"][1:]}
    _know(wanted, {"class", "description", "properties", "vectorConfig"}, "class")
    if CLASS_NAME.fullmatch(wanted["class"]) is None:
        raise Refused(f"'{wanted['class']}' is not a valid class name")
    made = {**copy.deepcopy(CLASS_DEFAULTS), **wanted, "properties": []}
    for known in wanted.get("properties", ()):
        taken = {other["name"].lower() for other in made["properties"]}
        made["properties"].append(complete_property(known, taken, wanted["class"]))
    made["vectorConfig"] = {name: _complete_vector(vector) for name, vector in wanted["vectorConfig"].items()}
    return made


def complete_property(wanted, taken, class_name):
    """A property as it was asked for, with the server's defaults.

    The defaults: Documented. The refusals: Read in the server's source (Weaviate).
    """
    known = (
        "name",
        "dataType",
        "description",
        "indexFilterable",
        "indexSearchable",
        "indexRangeFilters",
        "tokenization",
    )
    # What `collections.create` and `config.add_property` send besides; the server leaves it out.
    _know(wanted, {*known, "skip_vectorization", "vectorize_property_name", "moduleConfig"}, "property")
    name, kind = wanted["name"], wanted["dataType"]
    if PROPERTY_NAME.fullmatch(name) is None or name in RESERVED:
        raise Refused(f"'{name}' is not a valid property name")
    if name.lower() in taken:
        conflict = f'conflict for property "{name}": already in use or provided multiple times'
        raise Refused(f'class "{class_name}": {conflict}')
    if kind not in (["text"], ["text[]"], ["number"]):
        raise Surprise(f"property {name!r} of the type {kind}")
    text = kind != ["number"]
    if not text and (wanted.get("indexSearchable") or wanted.get("tokenization")):
        raise Refused(f"`indexSearchable` and tokenization are allowed only for text/text[] data types: '{name}'")
    if text and wanted.get("indexRangeFilters"):
        raise Refused(f"`indexRangeFilters` is allowed only for number/int/date data types: '{name}'")
    defaults = {"indexFilterable": True, "indexSearchable": text, "indexRangeFilters": False}
    if text:
        defaults["tokenization"] = "word"
        if wanted.get("tokenization", "word") not in ("word", "field"):
            raise Surprise(f"tokenization {wanted['tokenization']!r}")
    given = {key: wanted[key] for key in known if wanted.get(key) is not None}
    return {**defaults, **given}


def _complete_vector(wanted):
    """A named vector as it was asked for, with the server's defaults.

    No quantizer unless one is asked for: Seen on a real server (Weaviate 1.40.0-dev). The fields: Read in the client
    (weaviate-client 4.24, collections/classes/config_vector_index.py).
    """
    _know(wanted, {"vectorizer", "vectorIndexType", "vectorIndexConfig"}, "vector")
    if wanted["vectorizer"] != {"none": {}} or wanted.get("vectorIndexType", "hnsw") != "hnsw":
        raise Surprise(f"vector {wanted}")
    asked = dict(wanted.get("vectorIndexConfig", {}))
    skip = asked.pop("skipDefaultQuantization", False)  # for a server with DEFAULT_QUANTIZATION, which is unset here
    multi = asked.pop("multivector", {})
    quantizers = {name: asked.pop(name) for name in QUANTIZERS if name in asked}
    _know(asked, {"distance"}, "vectorIndexConfig")
    _know(multi, {"enabled", "muvera"}, "multivector")
    index = {**HNSW, **asked}
    index["multivector"] = {**MULTIVECTOR, **multi, "muvera": {**MUVERA, **multi.get("muvera", {})}}
    for name, default in QUANTIZERS.items():
        given = quantizers.get(name, {})
        index[name] = {**default, **given}
        if "encoder" in default:
            index[name]["encoder"] = {**default["encoder"], **given.get("encoder", {})}
    return {**wanted, "vectorIndexType": "hnsw", "vectorIndexConfig": {**index, "skipDefaultQuantization": skip}}


def _know(given, known, what):
    if set(given) - known:
        raise Surprise(f"{what} with {sorted(set(given) - known)}")
