"""Calls of a Milvus client, blocking or asyncio: each has a timeout, and is logged by nobody else.

Milvus Lite takes writes of several threads at once, but loses some of them if the process is killed then: each thread
makes the same file of its log anew. While it writes its memory to the disk, searches miss what is being written. So the
stores of one path make their calls one after another.
"""

import asyncio
import functools
import os
import threading
from collections.abc import Callable
from operator import methodcaller
from types import MappingProxyType
from typing import Any

from pymilvus import MilvusClient

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.milvus.client_log import quietly

_OPTIONS = MappingProxyType({"retry_on_rate_limit": False})


class Calls:
    """Makes the calls that flows yield."""

    def __init__(self, timeout_s: float) -> None:
        """Give each call the same timeout.

        Without one, the client makes a call again 75 times, which takes minutes. It makes none again because there are
        too many: the store waits for that, with all its calls.
        """
        self._timeout_s = timeout_s

    def __call__(self, method: str, collection: str, **arguments: Any) -> Callable[[Any], Any]:  # noqa: ANN401 (as the client takes)
        """A call of a client's method about one collection."""
        return quietly(methodcaller(method, collection, **_OPTIONS, timeout=self._timeout_s, **arguments))

    def of_server(self, method: str) -> Callable[[Any], Any]:
        """A call of a client's method about the server."""
        return quietly(methodcaller(method, **_OPTIONS, timeout=self._timeout_s))


class LiteClient:
    """A client of Milvus Lite that makes one call at a time, together with all others of the same lock."""

    def __init__(self, client: MilvusClient, lock: threading.RLock) -> None:
        """Keep a client."""
        self._client = client
        self._lock = lock
        self._process = os.getpid()

    def close(self) -> None:
        """Close the client; in a forked process nothing is closed, as the connection is the parent's."""
        if os.getpid() == self._process:
            with self._lock:
                self._client.close()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (as the client has)
        """A method of the client."""
        method = getattr(self._client, name)

        @functools.wraps(method)
        def alone(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 (as the client takes)
            if os.getpid() != self._process:  # gRPC does not survive a fork, and the parent would wait for ever
                raise StoreRequestError(
                    "the store was opened before this process was forked: start processes with the method `spawn`"
                )
            with self._lock:
                return method(*arguments, **options)

        return alone


class AsyncLiteClient:
    """The methods of a `LiteClient` for asyncio, each in a thread, where it can wait for its turn."""

    def __init__(self, client: LiteClient) -> None:
        """Keep a client."""
        self._client = client

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (as the client has)
        """A method of the client, which is awaited."""
        return functools.partial(asyncio.to_thread, getattr(self._client, name))
