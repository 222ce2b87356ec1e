"""A database of the tests' server that gets into trouble when a test says so."""

import contextlib
import secrets
from typing import Any

import psycopg
from psycopg import sql

from tests.doubles.postgres_server import Postgres, postgres

TABLE = sql.Identifier("photos")


class TroubledDatabase:
    """A database with a role of its own that owns it."""

    def __init__(self, *, password: str) -> None:
        self.role = f"jclip_role_{secrets.token_hex(6)}"
        self.password = password

    @contextlib.contextmanager
    def running(self):
        server = postgres()
        with (
            server.database() as self.name,
            contextlib.closing(server.connect(self.name)) as self.admin,
            contextlib.ExitStack() as self._connections,
        ):
            self.server = Postgres(server.port, self.password, user=self.role)
            role = sql.Identifier(self.role)
            self.admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(self.password)))
            self.admin.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))
            yield self
            self.end_connections()
            self.admin.execute(sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(role))

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """As the role; the connection is closed with the database, if not before."""
        return self._connections.enter_context(contextlib.closing(self.server.connect(self.name, **options)))

    def go_down(self) -> None:
        """End the connections, and make no others."""
        self.admin.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(self.role)))
        self.end_connections()

    def end_connections(self) -> None:
        """End those that are there, as a server does that starts again; others can be made."""
        self.admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s", [self.role]
        )

    def want_another_password(self) -> None:
        self.admin.execute(sql.SQL("ALTER ROLE {} PASSWORD 'another'").format(sql.Identifier(self.role)))
        self.end_connections()

    def take_rights_away(self) -> None:
        """Of the role, on the tables that there are: another role owns them now."""
        self.admin.execute(sql.SQL("REASSIGN OWNED BY {} TO postgres").format(sql.Identifier(self.role)))

    @contextlib.contextmanager
    def locked(self):
        """Nobody can read or write the tables."""
        with contextlib.closing(self.server.connect(self.name, autocommit=False)) as holder:
            holder.execute(sql.SQL("LOCK TABLE {}, jclip_collections IN ACCESS EXCLUSIVE MODE").format(TABLE))
            yield

    def fail(self, state: str, message: str) -> None:
        """From now on every statement about the records or the collections fails so: its SQLSTATE and its message."""
        # A constant, for the planner, which finds out what it is: so it fails even for a table without rows.
        self.admin.execute(
            sql.SQL(
                "CREATE FUNCTION fail() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS "
                "$$BEGIN RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}; END$$"
            ).format(sql.Literal(state), sql.Literal(message))
        )
        for name in ("photos", "jclip_collections"):
            self.admin.execute(
                sql.SQL(
                    "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY; ALTER TABLE {0} FORCE ROW LEVEL SECURITY;"
                    "CREATE POLICY failing ON {0} USING (fail()) WITH CHECK (fail())"
                ).format(sql.Identifier(name))
            )


def refuse(admin: psycopg.Connection[Any], content: str) -> None:
    """Refuse rows of the records whose payload has `content`."""
    admin.execute(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT wanted CHECK (strpos(payload, {}) = 0)").format(
            TABLE, sql.Literal(content)
        )
    )
