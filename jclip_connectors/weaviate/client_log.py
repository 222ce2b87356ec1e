"""What weaviate-client logs during our calls.

It logs each refused object whole, as an error; we raise these errors, without the objects. And its log is the only
place where it says that it has retried a write.
"""

import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Iterator
from contextvars import ContextVar
from typing import Any

from jclip_connectors.store_kit.flows import Call

_LOGGER = logging.getLogger("weaviate-client")
_FIRST_WAIT_S = 1.0  # of the client between two attempts; Source: weaviate/retry.py of weaviate-client 4.24


class Watch:
    """What happened during a call."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._retried = False
        self._slow = False

    @property
    def may_have_retried(self) -> bool:
        """Whether the client made the call more than once, or may have if its log is turned off."""
        return self._retried or (self._slow and not _LOGGER.isEnabledFor(logging.INFO))

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch what the client logs in this thread or task."""
        token, start = _WATCH.set(self), time.monotonic()
        try:
            yield
        finally:
            _WATCH.reset(token)
            self._slow |= time.monotonic() - start >= _FIRST_WAIT_S

    def note_retry(self) -> None:
        """Note that the client makes the call again."""
        self._retried = True


def watched(call: Call, watch: Watch) -> Call:
    """The same call, for both clients, during which `watch` is on."""

    def made(client: Any) -> Any:  # noqa: ANN401 (any SDK's)
        with watch.on():
            result = call(client)
        return _awaited(result, watch) if inspect.isawaitable(result) else result

    return made


async def _awaited(result: Awaitable[Any], watch: Watch) -> Any:  # noqa: ANN401 (any SDK's)
    with watch.on():
        return await result


class _OurCalls(logging.Filter):
    """Lets everything pass that is logged outside of our calls."""

    def filter(self, record: logging.LogRecord) -> bool:
        watch = _WATCH.get()
        if watch is None:
            return True
        if "Retrying" in str(record.msg):
            watch.note_retry()
        return record.levelno < logging.ERROR


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
_LOGGER.addFilter(_OurCalls())
