"""psycopg's blocking and asyncio connections behind one method: run some statements in one transaction."""

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
    """What is used of `psycopg_pool.ConnectionPool`, or of another pool."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection for the time of a `with` block."""


class AsyncPool(Protocol):
    """What is used of `psycopg_pool.AsyncConnectionPool`, or of another pool."""

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend a connection for the time of an `async with` block."""


Connection: TypeAlias = psycopg.Connection[Any] | Pool
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any] | AsyncPool


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a transaction.

    Attributes:
        query: the SQL, put together by `psycopg.sql`.
        parameters: the values of its placeholders, by name.
        copied: for `COPY ... FROM STDIN`: what is copied, in PostgreSQL's binary format.
    """

    query: sql.Composable
    parameters: Mapping[str, Any] = field(default_factory=dict)
    copied: bytes | None = None


# A connection has one transaction at a time, whatever the number of threads or tasks, and of stores over it.
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
    """Transactions on a connection or a pool, which stay the caller's."""

    def __init__(self, connection: Connection) -> None:
        """Take what the caller has connected."""
        self._connection = connection

    def transact(self, statements: Sequence[Statement], *, undo: bool = False) -> list[list[Row]]:
        """Run statements, all or none; in a transaction of the caller's, they become a part of it.

        Args:
            statements: in their order.
            undo: roll back in the end, as settings of the transaction would else stay for the rest of the caller's.

        Returns:
            The rows of each statement; none for one that has no rows.
        """
        with (
            self._lend() as connection,
            connection.transaction(force_rollback=undo),
            # Not `connection.cursor()`: the caller may have set another kind of cursor or of rows.
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
        """Take what the caller has connected."""
        self._connection = connection

    async def transact(self, statements: Sequence[Statement], *, undo: bool = False) -> list[list[Row]]:
        """Run statements, all or none."""
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


# Nothing is prepared: a plan that is made once knows neither the filter's values nor the settings of this transaction.


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
