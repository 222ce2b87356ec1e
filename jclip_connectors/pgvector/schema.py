r"""The schema in PostgreSQL: the tables of a collection, their indexes, and the table of all collections.

`jclip_collections` has a row for each collection of its schema, with the fingerprint and the layout. The collection
"photos" is the table `photos`, with a row for each record, and, if the configuration has tiles, `photos_tiles`:

    key         UUID of the id
    record_id   the id in UTF-8, as bytes: a text column cannot contain "\0", and sorts by the rules of a language
    modality    "text" or "image"
    payload     the record without its vectors, as JSON text, because JSONB does not keep JSON exactly
    terms       JSONB, a list of strings: which field has which value; with a GIN index
    numbers     JSONB, a list of numbers for each field with numbers
    fields      JSONB, a copy of the metadata for your own conditions; this package does not read it. Entries with "\0"
                or a lone surrogate, which JSONB cannot represent, are left out
    embedding   the vector: vector, or halfvec with 16 bits per value
    first       only with a first stage: the short vectors that it searches, made by PostgreSQL from `embedding`
"""

from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from jclip_connectors.errors import EmbedInputError

Storage = Literal["vector", "halfvec"]
Quantization = Literal["binary"]

MOST_DIMENSIONS = 16_000  # for vector and halfvec
REGISTRY = "jclip_collections"
_MOST_IN_INDEX = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
_NAME_BYTES = 63 - len("_image_hnsw")  # PostgreSQL cuts longer names without an error


@dataclass(frozen=True, kw_only=True)
class Hnsw:
    """The options of an HNSW index; see pgvector's documentation.

    Attributes:
        m: connections of each vector in the graph, 2 to 100; more make the search better and the index larger.
        ef_construction: the number of neighbours that are compared when a vector is added, 4 to 1000, at least `2 * m`.

    Raises:
        EmbedInputError: an option is out of range.
    """

    m: int = 16
    ef_construction: int = 64

    def __post_init__(self) -> None:
        """Check both numbers."""
        for name, value, least, most in (
            ("m", self.m, 2, 100),
            ("ef_construction", self.ef_construction, max(4, 2 * self.m), 1000),
        ):
            given: object = value
            if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
                raise EmbedInputError(f"`{name}` of `hnsw` is {value!r}; use an int from {least} to {most}")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the vectors of a collection are stored.

    Attributes:
        dimensions: length of the vectors.
        storage: type of the vectors.
        coarse: length of the prefix that is searched first, or `None`.
        quantization: quantization of the vectors that are searched first, or `None`.
        hnsw: the index on the vectors that are searched first, or `None`.
        tiled: whether there is a table of tiles.
    """

    dimensions: int
    storage: Storage
    coarse: int | None
    quantization: Quantization | None
    hnsw: Hnsw | None
    tiled: bool

    @property
    def staged(self) -> bool:
        """Whether there is a column `first`."""
        return self.coarse is not None or self.quantization is not None

    @property
    def vector(self) -> sql.Composable:
        """The type of a vector."""
        return sized(self.storage, self.dimensions)

    @property
    def first_kind(self) -> str:
        """The type of the vectors that are searched first."""
        return self.storage if self.quantization is None else "bit"

    @property
    def first_length(self) -> int:
        """The length of the vectors that are searched first."""
        return self.dimensions if self.coarse is None else self.coarse

    @property
    def first(self) -> sql.Composable:
        """The column that is searched first."""
        return sql.SQL("first" if self.staged else "embedding")

    @property
    def nearness(self) -> sql.Composable:
        """The operator that compares the vectors that are searched first."""
        return sql.SQL("<=>" if self.quantization is None else "<~>")

    def first_of(self, vector: sql.Composable) -> sql.Composable:
        """The SQL that makes the vector for the first stage from a full vector."""
        length = self.first_length
        if self.coarse is not None:
            prefix = sql.SQL("subvector({}, 1, {})::{}")
            vector = prefix.format(vector, sql.Literal(length), sized(self.storage, length))
        if self.quantization is not None:
            vector = sql.SQL("binary_quantize({})::{}").format(vector, sized("bit", length))
        return vector

    def check_index(self) -> None:
        """Refuse an index on vectors that are too long for an index.

        Raises:
            EmbedInputError: the vectors are too long; the message names the limit.
        """
        kind = self.first_kind
        if self.first_length > _MOST_IN_INDEX[kind]:
            raise EmbedInputError(
                f"`hnsw` needs an index of {self.first_length} values of the type {kind}, but pgvector allows at most "
                f"{_MOST_IN_INDEX[kind]}: use `coarse_dimensions`, `quantization` or `storage='halfvec'`"
            )


@dataclass(frozen=True, kw_only=True)
class Names:
    """The tables of a collection."""

    schema: str
    name: str

    @property
    def records(self) -> sql.Identifier:
        """The table of the records."""
        return _identifier(self.schema, self.name)

    @property
    def tiles(self) -> sql.Identifier:
        """The table of the tiles."""
        return _identifier(self.schema, f"{self.name}_tiles")

    @property
    def registry(self) -> sql.Identifier:
        """The table of all collections."""
        return _identifier(self.schema, REGISTRY)

    def in_schema(self, suffix: str) -> sql.Identifier:
        """An index that exists, with its schema."""
        return _identifier(self.schema, f"{self.name}_{suffix}")

    def own_name(self, suffix: str | None = None) -> sql.Identifier:
        """A name without its schema, for a table or an index that is renamed."""
        return _identifier(self.name if suffix is None else f"{self.name}_{suffix}")

    def index(self, suffix: str) -> sql.Identifier:
        """The name of an index; an index is in the schema of its table."""
        return _identifier(f"{self.name}_{suffix}")


def _identifier(*parts: str) -> sql.Identifier:
    """A quoted name, with % doubled: psycopg reads a single % as a placeholder, also inside quotes."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def check_names(name: object, schema: object) -> Names:
    """Check the names of the tables of a collection.

    Raises:
        EmbedInputError: PostgreSQL does not allow a name.
    """
    for option, given in (("collection_name", name), ("schema", schema)):
        if not isinstance(given, str) or not 0 < len(given.encode(errors="replace")) <= _NAME_BYTES:
            raise EmbedInputError(f"`{option}` is {given!r}; use 1 to {_NAME_BYTES} bytes of UTF-8")
        if "\0" in given or any("\ud800" <= char <= "\udfff" for char in given):
            raise EmbedInputError(f"`{option}` is {given!r}: PostgreSQL does not allow this name")
    if name == REGISTRY:
        raise EmbedInputError(f"`collection_name` is {name!r}, the table of all collections: use another name")
    return Names(schema=str(schema), name=str(name))


def sized(kind: str, length: int) -> sql.Composable:
    """The type of vectors of a length."""
    return sql.SQL("{}({})").format(sql.Identifier(kind), sql.Literal(length))
