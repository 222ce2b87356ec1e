"""A database for each module; its tables are dropped after each test, as a database takes longer to make."""

import contextlib

import pytest
from psycopg import sql

from tests.doubles.postgres_server import postgres


@pytest.fixture(scope="session")
def server():
    return postgres()


@pytest.fixture(scope="module")
def module_database(server):
    with server.database() as name:
        yield name


@pytest.fixture
def database(server, module_database):
    yield module_database
    with contextlib.closing(server.connect(module_database)) as admin:
        for kind in ("VIEW", "TABLE"):
            rows = admin.execute(f"SELECT {kind}name FROM pg_{kind}s WHERE schemaname = 'public'").fetchall()  # noqa: S608
            for (name,) in rows:
                admin.execute(sql.SQL("DROP {} {} CASCADE").format(sql.SQL(kind), sql.Identifier("public", name)))


@pytest.fixture
def new_database(server):
    """For a test that changes more than tables."""
    with server.database() as name, contextlib.closing(server.connect(name)) as connection:
        yield connection


@pytest.fixture
def connect(server, database):
    """Connect to the test's database; the connections are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextlib.closing(server.connect(database, **options)))


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits between attempts."""
    monkeypatch.setattr("jclip_connectors.store_kit.retry._FIRST_WAIT_S", 0.0)
