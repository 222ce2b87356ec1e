"""Opening or creating a collection in PostgreSQL, in one transaction."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import sql

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.pgvector.clients import Statement
from jclip_connectors.pgvector.operations import PgVectorFlows
from jclip_connectors.pgvector.schema import (
    MOST_DIMENSIONS,
    REGISTRY,
    Hnsw,
    Layout,
    Names,
    Quantization,
    Storage,
    check_names,
    sized,
)
from jclip_connectors.port import MODALITIES
from jclip_connectors.store_kit.clients import check_config
from jclip_connectors.store_kit.coarse import CoarseDimensions, resolve_coarse
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, require_dimensions, resolve_dimensions

_LOG = logging.getLogger(__package__)
_FORMAT = 1
_LOCK = 0x6A636C6970  # "jclip"
LOCKED = Statement(query=sql.SQL("SELECT pg_advisory_xact_lock({})").format(sql.Literal(_LOCK)))
_EXISTS = sql.SQL(
    "EXISTS (SELECT FROM pg_class WHERE relname = %(name)s::text AND relnamespace = to_regnamespace(%(quoted)s::text))"
)
_OLDEST = (0, 8)  # the first version with iterative index scans


class Found(NamedTuple):
    """An existing collection; `options` are the fields of its layout without `tiled`."""

    fingerprint: Fingerprint
    options: dict[str, Any]


def open_flow(
    collection_name: str,
    config: EmbeddingConfig,
    *,
    schema: str,
    storage: Storage | None,
    coarse_dimensions: CoarseDimensions,
    quantization: Quantization | None,
    hnsw: Hnsw | None,
    candidates: int,
    dimensions: int | None,
) -> Flow[PgVectorFlows]:
    """Open or create a collection; see `PgVectorStore.open`."""
    check_config(config)
    names = check_names(collection_name, schema)
    check_count(candidates, name="candidates")
    _check_choice("storage", storage, ("vector", "halfvec"))
    _check_choice("quantization", quantization, ("binary",))
    length = resolve_dimensions(config, dimensions, most=MOST_DIMENSIONS)
    # Binary vectors are a first stage themselves.
    prefix = None if quantization is not None and coarse_dimensions == "auto" else coarse_dimensions
    coarse = resolve_coarse(prefix, dataclasses.replace(config, dimensions=length))
    fingerprint = config.fingerprint()
    found = yield from find_flow(names)
    if found is None:
        layout = Layout(
            dimensions=require_dimensions(length),
            storage="vector" if storage is None else storage,
            coarse=coarse,
            quantization=quantization,
            hnsw=None,
            tiled=config.tiling is not None,
        )
        if hnsw is not None:
            layout.check_index()
        found = yield from _make(names, layout, fingerprint)
    check_fingerprint(found.fingerprint, fingerprint, collection=f"the collection {names.name!r}")
    layout = Layout(**found.options, tiled=config.tiling is not None)
    for option, given, made_with, unasked in (
        ("storage", storage, layout.storage, None),
        ("coarse_dimensions", coarse_dimensions, layout.coarse, "auto"),
        ("quantization", quantization, layout.quantization, None),
        ("dimensions", dimensions, layout.dimensions, None),
    ):
        if given not in (unasked, made_with):
            raise EmbedInputError(
                f"`{option}` is {given!r}, but the collection {names.name!r} was made with {made_with!r}: leave it "
                "out, or make a new collection"
            )
    if hnsw is not None and hnsw != layout.hnsw:
        layout = yield from _index(names, layout, hnsw)
    return PgVectorFlows(names, found.fingerprint, layout, candidates=candidates)


def find_flow(names: Names) -> Flow[Found | None]:
    """Find a collection; `None` if its name is free.

    Raises:
        StoreRequestError: another program made a table with this name, or the collection cannot be read.
    """
    *stored, exists = yield from _look(names)
    if exists and not any(stored):
        # Another process may have made the collection between two of these questions: ask again.
        *stored, exists = yield from _look(names)
    if not stored or stored[0] is None:
        if exists:
            raise StoreRequestError(
                f"another program made the table {names.name!r}, because {REGISTRY!r} has no row for it: use another "
                "name"
            )
        return None
    if not exists:
        raise StoreRequestError(
            f"the table of the collection {names.name!r} is missing: delete its row in {REGISTRY!r} to make it again"
        )
    return _read(*stored, name=names.name)


def _look(names: Names) -> Flow[Sequence[Any]]:
    """What the registry says of a collection, if there is a registry, and whether the table exists."""
    (((version, usable, has_registry),),) = yield lambda client: client.transact([_ask_database(names)])
    _check_extension(version, usable=usable)
    asked = _ask_collection(names) if has_registry else _ask_table(names)
    ((row,),) = yield lambda client: client.transact([asked])
    return tuple(row)


def _make(names: Names, layout: Layout, fingerprint: Fingerprint) -> Flow[Found]:
    try:
        yield lambda client: client.transact(_make_collection(names, layout, fingerprint))
    except StoreRequestError:
        found = yield from find_flow(names)
        if found is None:
            raise
        return found  # another process has made it in the meantime
    _LOG.debug("%r: made the collection, %s", names.name, layout)
    return Found(fingerprint, _options(layout))


def _index(names: Names, layout: Layout, hnsw: Hnsw) -> Flow[Layout]:
    if layout.hnsw is not None:
        raise EmbedInputError(
            f"`hnsw` is {hnsw!r}, but the collection {names.name!r} was made with {layout.hnsw!r}: leave it out"
        )
    layout.check_index()
    indexed = dataclasses.replace(layout, hnsw=hnsw)
    try:
        yield lambda client: client.transact(_make_index(names, indexed, hnsw))
    except StoreRequestError:
        found = yield from find_flow(names)
        if found is None or found.options["hnsw"] != hnsw:
            raise
    else:
        _LOG.debug("%r: made the index, %s", names.name, hnsw)
    return indexed


def _check_choice(option: str, given: object, known: tuple[str, ...]) -> None:
    if given is not None and given not in known:
        raise EmbedInputError(f"`{option}` is {given!r}; use one of {known}, or None")


def _check_extension(version: str | None, *, usable: bool) -> None:
    if version is None:
        raise StoreRequestError(
            "this database does not have pgvector: install it on the server, and run CREATE EXTENSION vector in the "
            "database with a role that has the permission"
        )
    if not usable:
        raise StoreRequestError(
            "the types of pgvector are in a schema that is not in `search_path`, or that this role cannot use"
        )
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise StoreRequestError(
            f"the server has pgvector {version}, but 0.8 or later is needed: run ALTER EXTENSION vector UPDATE"
        )


def _ask_database(names: Names) -> Statement:
    """One row: the version of pgvector, whether its types are found, whether the table of all collections exists."""
    return Statement(
        query=sql.SQL(
            "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'), to_regtype('halfvec') IS NOT NULL, "
            "EXISTS (SELECT FROM pg_tables WHERE schemaname = %(schema)s::text AND tablename = %(registry)s::text)"
        ),
        parameters={"schema": names.schema, "registry": REGISTRY},
    )


def _ask_table(names: Names) -> Statement:
    """One row: whether the name of the collection is taken."""
    return Statement(query=sql.SQL("SELECT {}").format(_EXISTS), parameters=_named(names))


def _ask_collection(names: Names) -> Statement:
    """One row: the format, fingerprint and layout of the collection, or nulls; whether its name is taken."""
    return Statement(
        query=sql.SQL(
            "SELECT format, fingerprint, layout, {} FROM (SELECT) AS one LEFT JOIN {} ON name = %(name)s::text"
        ).format(_EXISTS, names.registry),
        parameters=_named(names),
    )


def _named(names: Names) -> dict[str, str]:
    return {"name": names.name, "quoted": '"' + names.schema.replace('"', '""') + '"'}


def _read(stored_format: int, fingerprint: str, layout: str, *, name: str) -> Found:
    if stored_format != _FORMAT:
        raise StoreRequestError(f"another version made the collection {name!r}: use that version")
    try:
        options = json.loads(layout)
        hnsw = options["hnsw"]
        return Found(json.loads(fingerprint), {**options, "hnsw": None if hnsw is None else Hnsw(**hnsw)})
    except (TypeError, ValueError, KeyError) as error:
        raise StoreRequestError(f"the row of the collection {name!r} in {REGISTRY!r} is damaged") from error


def _options(layout: Layout) -> dict[str, Any]:
    return {name: value for name, value in vars(layout).items() if name != "tiled"}  # the fingerprint has `tiled`


def _make_collection(names: Names, layout: Layout, fingerprint: Fingerprint) -> list[Statement]:
    """Make the tables of a collection; fails if one of them exists."""
    first: sql.Composable = sql.SQL("")
    if layout.staged:
        kind, made = sized(layout.first_kind, layout.first_length), layout.first_of(sql.SQL("embedding"))
        first = sql.SQL(", first {} NOT NULL GENERATED ALWAYS AS ({}) STORED").format(kind, made)
    records = sql.SQL(
        "CREATE TABLE {} (key uuid PRIMARY KEY, record_id bytea NOT NULL, modality text NOT NULL, "
        "payload text NOT NULL, terms jsonb NOT NULL, numbers jsonb NOT NULL, fields jsonb NOT NULL, "
        "embedding {} NOT NULL{})"
    ).format(names.records, layout.vector, first)
    registry = sql.SQL(
        'CREATE TABLE IF NOT EXISTS {} (name text COLLATE "C" PRIMARY KEY, format int NOT NULL, '
        "fingerprint text NOT NULL, layout text NOT NULL)"
    )
    statements = [
        LOCKED,
        Statement(query=registry.format(names.registry)),
        Statement(
            query=sql.SQL("INSERT INTO {} VALUES (%(name)s, %(format)s, %(fingerprint)s, %(layout)s)").format(
                names.registry
            ),
            parameters={
                "name": names.name,
                "format": _FORMAT,
                "fingerprint": json.dumps(dict(fingerprint)),
                "layout": _written(layout),
            },
        ),
        Statement(query=records),
        Statement(query=sql.SQL("CREATE INDEX {} ON {} USING gin (terms)").format(names.index("terms"), names.records)),
    ]
    if layout.tiled:
        tiles = sql.SQL(
            "CREATE TABLE {} (key uuid REFERENCES {} ON DELETE CASCADE, position int, embedding {} NOT NULL, "
            "PRIMARY KEY (key, position))"
        ).format(names.tiles, names.records, layout.vector)
        statements.append(Statement(query=tiles))
    return statements


def _make_index(names: Names, layout: Layout, hnsw: Hnsw) -> list[Statement]:
    """Make one HNSW index per modality, so that a search in one modality does not scan records of the other."""
    index = sql.SQL("CREATE INDEX {} ON {} USING hnsw ({} {}) WITH (m = {}, ef_construction = {}) WHERE modality = {}")
    kind = sql.Identifier("bit_hamming_ops" if layout.quantization else f"{layout.storage}_cosine_ops")
    m, ef_construction = sql.Literal(hnsw.m), sql.Literal(hnsw.ef_construction)
    return [
        LOCKED,
        *(
            Statement(
                query=index.format(
                    names.index(f"{modality}_hnsw"),
                    names.records,
                    layout.first,
                    kind,
                    m,
                    ef_construction,
                    sql.Literal(modality),
                )
            )
            for modality in MODALITIES
        ),
        Statement(
            query=sql.SQL("UPDATE {} SET layout = %(layout)s WHERE name = %(name)s").format(names.registry),
            parameters={"name": names.name, "layout": _written(layout)},
        ),
    ]


def _written(layout: Layout) -> str:
    options = _options(layout)
    return json.dumps({**options, "hnsw": None if layout.hnsw is None else vars(layout.hnsw)})
