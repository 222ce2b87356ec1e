"""What is kept in Milvus: two collections for a collection of ours, and the fingerprint in the properties of both.

| field | in `<name>` | in `<name>_tiles` |
|---|---|---|
| `pk` | the UUID of the record's id | the lineage and the number of the tile |
| `embedding` | of the record | of the tile; of the record if it has no tiles |
| `owner` | | the UUID of the record's id |
| `lineage` | of the tiles that belong to the record | of the tile |
| `payload` | everything else, as JSON text in pieces | |
| `record_id`, `modality`, `terms`, `numbers` | what filters ask | the same |

A *lineage* is the UUID and a hash of what the tiles hold, so that tiles of two versions of a record never mix.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pymilvus import CollectionSchema, DataType, FieldSchema

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError

MOST_DIMENSIONS = 32_768  # of a vector; documented
MOST_CHARS = 65_535  # of a VARCHAR, whose length a server counts in bytes; documented
MOST_TERMS = 4096  # elements of an ARRAY; documented
MOST_NUMBERS_BYTES = 65_536  # of a JSON value; documented
MOST_RESULTS = 16_384  # of one search or query of a server; documented
PIECE_CHARS = 65_000
MOST_PIECES = 256

INDEX = "jclip.index"
_FINGERPRINT = "jclip.fingerprint"
_OF_TILES = "jclip.tiles"  # the fingerprint, in a collection of tiles
_SUFFIX = "_tiles"
_MOST_NAME = 255 - len(_SUFFIX)
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{_MOST_NAME - 1}}}", re.ASCII)
_TERM_CHARS = 32
_UUID_CHARS = 36
_KEY_CHARS = 80


def check_name(name: object) -> None:
    """Check the name of a collection.

    Raises:
        EmbedInputError: Milvus accepts no such name, for this collection or for the one of its tiles.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise EmbedInputError(
            f"`collection_name` is {name!r}; use ASCII letters, digits and '_', at most {_MOST_NAME}, no digit first"
        )


def name_of_tiles(name: str) -> str:
    """The name of the collection with the tiles of a collection."""
    return f"{name}{_SUFFIX}"


def properties_of(fingerprint: Fingerprint, *, index: str, tiles: bool = False) -> dict[str, str]:
    """The properties of a new collection.

    Args:
        fingerprint: of the configuration.
        index: the kind of its index.
        tiles: whether the collection keeps tiles.
    """
    return {_OF_TILES if tiles else _FINGERPRINT: json.dumps(dict(fingerprint)), INDEX: index}


def read_fingerprint(found: Mapping[str, Any], *, tiles: bool = False) -> Fingerprint:
    """The fingerprint in the description of a collection.

    Args:
        found: the description.
        tiles: whether the collection is one of tiles.

    Raises:
        StoreRequestError: the collection has none: it is not ours.
    """
    key = _OF_TILES if tiles else _FINGERPRINT
    try:
        fingerprint = json.loads(found["properties"][key])
    except (KeyError, ValueError):
        fingerprint = None
    if not isinstance(fingerprint, dict):
        raise StoreRequestError(
            f"the collection {found['collection_name']!r} has no fingerprint: another program made it, or it keeps "
            "tiles; use another name"
        )
    return fingerprint


def read_dimensions(found: Mapping[str, Any]) -> int:
    """The length of the vectors in the description of a collection of ours."""
    return next(int(field["params"]["dim"]) for field in found["fields"] if field["name"] == "embedding")


def schema_of_records(dimensions: int) -> CollectionSchema:
    """The fields of a collection of records."""
    piece = {"element_type": DataType.VARCHAR, "max_length": MOST_CHARS, "max_capacity": MOST_PIECES}
    return _schema(
        FieldSchema("pk", DataType.VARCHAR, is_primary=True, max_length=_UUID_CHARS),
        FieldSchema("payload", DataType.ARRAY, **piece),
        dimensions=dimensions,
    )


def schema_of_tiles(dimensions: int) -> CollectionSchema:
    """The fields of a collection of tiles."""
    return _schema(
        FieldSchema("pk", DataType.VARCHAR, is_primary=True, max_length=_KEY_CHARS),
        FieldSchema("owner", DataType.VARCHAR, max_length=_UUID_CHARS),
        dimensions=dimensions,
    )


def _schema(*fields: FieldSchema, dimensions: int) -> CollectionSchema:
    term = {"element_type": DataType.VARCHAR, "max_length": _TERM_CHARS, "max_capacity": MOST_TERMS}
    common = [
        FieldSchema("embedding", DataType.FLOAT_VECTOR, dim=dimensions),
        FieldSchema("lineage", DataType.VARCHAR, max_length=_KEY_CHARS),
        FieldSchema("record_id", DataType.VARCHAR, max_length=MOST_CHARS),
        FieldSchema("modality", DataType.VARCHAR, max_length=8),
        FieldSchema("terms", DataType.ARRAY, **term),
        FieldSchema("numbers", DataType.JSON),
    ]
    return CollectionSchema([*fields, *common], enable_dynamic_field=False)
