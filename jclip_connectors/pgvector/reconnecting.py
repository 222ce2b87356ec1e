"""A connection that is made again when the server has ended it: a pool of one, for programs that wait for a server."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg


class Reconnecting:
    """Lends one connection at a time, as a pool does; the stores of this package take it in the place of a pool."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        """Connect; `connect` is called again when the connection is lost.

        Raises:
            psycopg.OperationalError: the server cannot be reached.
        """
        self._connect = connect
        self._lock = threading.Lock()
        self._lent = connect()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection for a `with` block; a thread waits for another one that has it."""
        with self._lock:
            if self._lent.closed:
                self._lent = self._connect()
            try:
                yield self._lent
            except psycopg.OperationalError as error:
                if self._lent.closed and error.sqlstate is None:
                    # Else its text says that the connection stays closed.
                    raise psycopg.OperationalError("the server has ended the connection") from error
                raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._lent.close()
