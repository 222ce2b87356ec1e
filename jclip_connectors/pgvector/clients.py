"""Clients that run statements in one transaction, on psycopg's blocking and asyncio connections and pools."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Row: TypeAlias = tuple[Any, ...]


class Pool(Protocol):
    """The interface of `psycopg_pool.ConnectionPool` that is used."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection for a `with` block."""


class AsyncPool(Protocol):
    """The interface of `psycopg_pool.AsyncConnectionPool` that is used."""

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend a connection for an `async with` block."""


Connection: TypeAlias = psycopg.Connection[Any] | Pool
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any] | AsyncPool


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a transaction.

    Attributes:
        query: the SQL, composed with `psycopg.sql`.
        parameters: the values of its placeholders, by name.
        copied: the data for `COPY ... FROM STDIN`, in PostgreSQL's binary format.
    """

    query: sql.Composable
    parameters: Mapping[str, Any] = field(default_factory=dict)
    copied: bytes | None = None


# A connection has only one transaction at a time, so its threads, tasks and stores share a lock.
_locks: WeakKeyDictionary[psycopg.Connection[Any], threading.Lock] = WeakKeyDictionary()
_async_locks: WeakKeyDictionary[psycopg.AsyncConnection[Any], asyncio.Lock] = WeakKeyDictionary()
_new_lock = threading.Lock()


def _lock_of(connection: psycopg.Connection[Any]) -> threading.Lock:
    with _new_lock:
        return _locks.setdefault(connection, threading.Lock())


def _async_lock_of(connection: psycopg.AsyncConnection[Any]) -> asyncio.Lock:
    with _new_lock:
        return _async_locks.setdefault(connection, asyncio.Lock())


class BlockingClient:
    """Transactions on a connection or a pool, which the caller closes."""

    def __init__(self, connection: Connection) -> None:
        """Keep the caller's connection or pool."""
        self._connection = connection

    def transact(self, statements: Sequence[Statement], *, undo: bool = False) -> list[list[Row]]:
        """Run statements in one transaction, or as a part of the caller's open transaction.

        Args:
            statements: the statements, in order.
            undo: roll back at the end, so that settings do not stay in the caller's transaction.

        Returns:
            The rows of each statement, which may be empty.
        """
        with (
            self._lend() as connection,
            connection.transaction(force_rollback=undo),
            # Not `connection.cursor()`: the caller may have set another cursor or row factory.
            psycopg.Cursor(connection, row_factory=tuple_row) as cursor,
        ):
            return [_execute(cursor, statement) for statement in statements]

    @contextmanager
    def _lend(self) -> "Iterator[psycopg.Connection[Any]]":
        if isinstance(self._connection, psycopg.Connection):
            with _lock_of(self._connection):
                yield self._connection
        else:
            with self._connection.connection() as connection:
                yield connection


class AsyncClient:
    """Transactions on an asyncio connection or pool; see `BlockingClient`."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Keep the caller's connection or pool."""
        self._connection = connection

    async def transact(self, statements: Sequence[Statement], *, undo: bool = False) -> list[list[Row]]:
        """See `BlockingClient.transact`."""
        async with (
            self._lend() as connection,
            connection.transaction(force_rollback=undo),
            psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor,
        ):
            return [await _execute_async(cursor, statement) for statement in statements]

    @asynccontextmanager
    async def _lend(self) -> "AsyncIterator[psycopg.AsyncConnection[Any]]":
        if isinstance(self._connection, psycopg.AsyncConnection):
            async with _async_lock_of(self._connection):
                yield self._connection
        else:
            async with self._connection.connection() as connection:
                yield connection


# Statements are not prepared: a cached plan ignores the filter's values and the settings of the transaction.


def _execute(cursor: psycopg.Cursor[Row], statement: Statement) -> list[Row]:
    if statement.copied is not None:
        with cursor.copy(_text(statement)) as copy:
            copy.write(statement.copied)
        return []
    cursor.execute(_text(statement), statement.parameters, prepare=False, binary=True)
    return cursor.fetchall() if cursor.description is not None else []


async def _execute_async(cursor: psycopg.AsyncCursor[Row], statement: Statement) -> list[Row]:
    if statement.copied is not None:
        async with cursor.copy(_text(statement)) as copy:
            await copy.write(statement.copied)
        return []
    await cursor.execute(_text(statement), statement.parameters, prepare=False, binary=True)
    return await cursor.fetchall() if cursor.description is not None else []


def _text(statement: Statement) -> sql.Composed:
    return sql.Composed([statement.query])
