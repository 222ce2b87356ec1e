"""uvicorn's HTTP protocol with limits on the head of a request, which uvicorn reads without any."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MAX_HEAD_BYTES = 2**16  # of a request line and its headers
_HEAD_TIMEOUT_S = 10
IDLE_TIMEOUT_S = 75  # longer than proxies keep connections in store, so that it is they who close them


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed where a head is too long, or does not begin or end in time."""

    _head_bytes = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first head; uvicorn itself waits for the others."""
        super().connection_made(transport)
        # Closed without a word: whoever has asked nothing would take it for an answer to what it asks next.
        self._timer = self.loop.call_later(IDLE_TIMEOUT_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what has come of a head that has not ended."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse()

    def on_message_begin(self) -> None:
        """Begin a head, on a connection that is kept too."""
        super().on_message_begin()
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header: many may come in one piece of data."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise ValueError  # httptools gives up, and uvicorn answers 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head."""
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._in_head, self._head_bytes = True, 0
        self._timer = self.loop.call_later(_HEAD_TIMEOUT_S, self._refuse)

    def _end_head(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()

    def _refuse(self) -> None:
        self._end_head()
        if not self.transport.is_closing():
            self.send_400_response("The head of the request is too long, or did not arrive in time.")
