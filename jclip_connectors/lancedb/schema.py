"""The schema of a collection: one table, with a row for each record.

    record_id      the id; the primary key, which LanceDB compares when two programs write at once
    key            the first 8 bytes of the UUID of the id: rows are read in its order
    modality       "text" or "image"
    content, uri, content_hash
    metadata       the metadata as JSON text, because no type of Arrow keeps JSON exactly
    terms          which field has which value
    number_fields  the fields with numbers; `least` and `greatest` have their smallest and largest numbers
    embedding      the vector
    tiles          with tiling only: the vectors of the tiles, or `embedding` alone: an empty list is never found
    tile_boxes     the boxes of the tiles, four numbers each; null for a record without tiles

The schema's metadata has the fingerprint.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError

EMBEDDING, TILES = "embedding", "tiles"
DEFAULT_TABLE = "jclip"
MOST_DIMENSIONS = 65_536
_FORMAT = 1
_OURS = b"jclip"
_NAME_BYTES = 255 - len(".lance")  # of a folder
_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The form of a collection's table.

    Attributes:
        dimensions: length of the vectors.
        tiled: whether there are tiles.
    """

    dimensions: int
    tiled: bool

    @property
    def vector_columns(self) -> tuple[str, ...]:
        """The columns that can be searched."""
        return (EMBEDDING, TILES) if self.tiled else (EMBEDDING,)


def to_schema(layout: Layout, fingerprint: Fingerprint) -> pa.Schema:
    """The schema of a new table."""
    vector = pa.list_(pa.float32(), layout.dimensions)
    strings, doubles = pa.list_(pa.string()), pa.list_(pa.float64())
    fields = [
        pa.field("record_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("content", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("terms", strings, nullable=False),
        pa.field("number_fields", strings, nullable=False),
        pa.field("least", doubles, nullable=False),
        pa.field("greatest", doubles, nullable=False),
        pa.field("tile_boxes", pa.list_(pa.int64())),
        pa.field(EMBEDDING, vector, nullable=False),
    ]
    if layout.tiled:
        fields.append(pa.field(TILES, pa.list_(vector), nullable=False))
    described = json.dumps({"format": _FORMAT, "fingerprint": dict(fingerprint)})
    return pa.schema(fields, metadata={_OURS: described.encode()})


def read_schema(schema: pa.Schema, name: str) -> tuple[Fingerprint, Layout]:
    """The fingerprint and the layout of an existing table.

    Raises:
        StoreRequestError: another program made the table, or a newer version of this package.
    """
    described = _described(schema)
    if not isinstance(described, dict) or not isinstance(described.get("fingerprint"), dict):
        raise StoreRequestError(
            f"the table {name!r} has no fingerprint: another program made it. Use another name, or drop the table"
        )
    if described.get("format") != _FORMAT:
        raise StoreRequestError(
            f"the collection {name!r} has the format {described.get('format')!r}, and this version of jclip-connectors "
            f"reads {_FORMAT}: upgrade it"
        )
    layout = Layout(dimensions=schema.field(EMBEDDING).type.list_size, tiled=TILES in schema.names)
    return described["fingerprint"], layout


def check_name(name: object) -> str:
    """Check the name of a table.

    Raises:
        EmbedInputError: LanceDB does not allow it.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_BYTES:
        raise EmbedInputError(f"`collection_name` is {name!r}; use 1 to {_NAME_BYTES} characters")
    for char in name:
        if not (char.isascii() and (char.isalnum() or char in "_-.")):
            raise EmbedInputError(
                f"`collection_name` is {name!r}: LanceDB's names have letters from A to Z, digits, '_', '-' and '.', "
                f"not {char!r}"
            )
    return name


def _described(schema: pa.Schema) -> Any:  # noqa: ANN401 (JSON)
    try:
        return json.loads((schema.metadata or {})[_OURS])
    except (KeyError, ValueError):
        return None
