"""Two collections that change places: one takes the name, and the other one is kept under a third name."""

from psycopg import sql

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.pgvector.clients import BlockingClient, Connection, Statement
from jclip_connectors.pgvector.errors import translate
from jclip_connectors.pgvector.opening import LOCKED, find_flow
from jclip_connectors.pgvector.operations import ATTEMPTS
from jclip_connectors.pgvector.schema import Names, check_names
from jclip_connectors.store_kit.flows import Flow, run

_INDEXES = ("terms", "image_hnsw", "text_hnsw", "pkey", "tiles_pkey")


def swap_collections(
    connection: Connection, collection_name: str, *, new: str, kept: str, schema: str = "public"
) -> None:
    """Give the name of a collection to another one, in one transaction; the old one is kept under a third name.

    Args:
        connection: your connection or pool; you close it.
        collection_name: the collection whose name it is.
        new: the collection that gets the name.
        kept: the new name of the old one, which is free.
        schema: the schema of their tables.

    Raises:
        StoreRequestError: the third name is taken, a collection is missing, or the database refuses the request.
        StoreUnavailableError: the database cannot be reached.
    """
    names = [check_names(name, schema) for name in (collection_name, new, kept)]
    run(_swap(*names), BlockingClient(connection), translate=translate, attempts=ATTEMPTS)


def _swap(old: Names, new: Names, kept: Names) -> Flow[None]:
    if (yield from find_flow(kept)) is not None:
        raise StoreRequestError(f"the old collection cannot be kept as {kept.name!r}, which exists: delete it first")
    for names in (old, new):
        if (yield from find_flow(names)) is None:
            raise StoreRequestError(f"there is no collection {names.name!r}")
    statements = [LOCKED, *_rename(old, kept), *_rename(new, old)]
    yield lambda client: client.transact(statements)


def _rename(names: Names, to: Names) -> list[Statement]:
    alter = sql.SQL("ALTER {} {} RENAME TO {}")
    registry = sql.SQL("UPDATE {} SET name = %(to)s WHERE name = %(name)s").format(names.registry)
    return [
        Statement(query=alter.format(sql.SQL("TABLE"), names.records, to.own_name())),
        Statement(query=alter.format(sql.SQL("TABLE IF EXISTS"), names.tiles, to.own_name("tiles"))),
        *(
            Statement(query=alter.format(sql.SQL("INDEX IF EXISTS"), names.in_schema(index), to.own_name(index)))
            for index in _INDEXES
        ),
        Statement(query=registry, parameters={"name": names.name, "to": to.name}),
    ]
