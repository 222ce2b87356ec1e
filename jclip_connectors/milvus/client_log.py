"""What the client and Milvus Lite log during our calls.

Both log every failed call as an error, with a traceback and the request's filter, before they raise it. We raise it
too, and handle some of these errors. Lite serves from threads of this process, so its own log is held back as long as
any call of ours runs.
"""

import contextlib
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

_OF_CALLS = ("decorators", "client.connection_manager", "client.grpc_handler", "client.async_grpc_handler")
_OF_GRPC = logging.getLogger("grpc._server")  # in the same threads, of a call that Lite does not have
_OF_STARTS = logging.getLogger("milvus_lite.server_manager")
_OF_LITE = logging.getLogger("milvus_lite.adapter.grpc.servicer")  # in threads of the server


class _Running:
    """How many calls of ours run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, number: int) -> None:
        """Count calls that start, or that end."""
        with self._lock:
            self.count += number


_RUNNING = _Running()
_OURS: ContextVar[bool] = ContextVar("ours", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what is logged about a call that is made in this context."""
    token = _OURS.set(True)
    _RUNNING.add(1)
    try:
        yield
    finally:
        _RUNNING.add(-1)
        _OURS.reset(token)


@contextlib.contextmanager
def starting_quietly() -> Iterator[None]:
    """Hold back what is logged about a server that cannot be started in this thread."""
    token = _OURS.set(True)
    try:
        yield
    finally:
        _OURS.reset(token)


def quietly(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same call, for both clients, about which nothing is logged."""

    def made(client: Any) -> Any:  # noqa: ANN401 (any SDK's)
        with quiet():
            result = call(client)
        return _awaited(result) if inspect.isawaitable(result) else result

    return made


async def _awaited(result: Awaitable[Any]) -> Any:  # noqa: ANN401 (any SDK's)
    with quiet():
        return await result


def _of_others(record: logging.LogRecord) -> bool:
    return not _OURS.get() or record.levelno < logging.WARNING


def _of_other_calls(record: logging.LogRecord) -> bool:
    return not _RUNNING.count or record.levelno < logging.ERROR


def _of_other_servers(record: logging.LogRecord) -> bool:
    return not _RUNNING.count or "Method not implemented!" not in record.getMessage()


for _name in _OF_CALLS:  # they log in the thread or task of the call
    logging.getLogger(f"pymilvus.{_name}").addFilter(_of_others)
_OF_STARTS.addFilter(_of_others)
_OF_LITE.addFilter(_of_other_calls)
_OF_GRPC.addFilter(_of_other_servers)
