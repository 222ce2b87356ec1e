"""uvicorn's HTTP protocol, plus limits on a request's head, cheap refusals, and declining of HTTP/2 upgrades.

A refusal by the application costs a third of an answer: at twice the server's capacity, refusals would use the time of
a third of its answers. So the protocol refuses by itself, with the `Shedding` that the application puts into its
lifespan state.
"""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jclip_connectors.server.requests import RequestError
from jclip_connectors.server.shedding import Refusal, Shedding, write_refusal

_MAX_HEAD_BYTES = 2**16  # of a request line and its headers
_HEAD_TIMEOUT_S = 10
_WISHES = (b"upgrade", b"http2-settings")  # headers that ask for another protocol; `connection` names them
_MAX_REFUSED_BYTES = 2**15  # of a refused request's body; it is read to its end, so that the connection can be kept
_HEAD_PROBLEM = "the head of the request is too long, or did not arrive in time"
IDLE_TIMEOUT_S = 75  # longer than proxies keep idle connections, so that the proxy closes them first


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed if a head is too long or malformed, or does not begin or end in time."""

    _head_bytes = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None
    _refusal: Refusal | None = None  # of the request that is being read
    _unanswered = 0  # complete requests without an answer; several if they are pipelined

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first head; uvicorn itself has one for the later heads."""
        super().connection_made(transport)
        # Close without an answer: a client that has sent nothing would read it as the answer to its next request.
        self._timer = self.loop.call_later(IDLE_TIMEOUT_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer, and subtract this connection's requests from the count."""
        self._end_head()
        self._count(-self._unanswered)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and limit the size and time of a head that is not complete."""
        self._unset_keepalive_if_required()
        pieces: list[bytes | memoryview] = [data]
        while pieces and not self.transport.is_closing():
            piece = pieces.pop()
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                pieces += [memoryview(piece)[upgrade.args[0] :], self._decline_upgrade()]
            except httptools.HttpParserError:
                self._give_up("the request is not well-formed HTTP/1.1")
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._give_up(_HEAD_PROBLEM)
            elif self._timer is None:  # most heads arrive in one piece and need no timer
                self._timer = self.loop.call_later(_HEAD_TIMEOUT_S, self._give_up, _HEAD_PROBLEM)

    def on_message_begin(self) -> None:
        """Begin a head, also on a connection that was kept open."""
        super().on_message_begin()
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header's bytes: many headers may come in one piece of data."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise ValueError  # `httptools` turns it into its own error
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head, and give the request to the application unless it is refused."""
        if self.parser.should_upgrade():
            return  # `_decline_upgrade` follows
        self._refusal = self._find_refusal()
        if self._refusal is None:
            self._end_head()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on; the body of a refused request counts as part of its head, with its limits."""
        if self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; a refusal is written only now, so that the connection can be kept."""
        if self.parser.should_upgrade():
            return
        if self._refusal is None:
            super().on_message_complete()
            if not self.cycle.response_complete:
                self._count(1)
            return
        self._end_head()
        if self.transport.is_closing():
            return
        self.transport.write(self._refusal.content)
        if self.parser.should_keep_alive():
            self.on_response_complete()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if self._unanswered:
            self._count(-1)
        super().on_response_complete()

    @property
    def _shedding(self) -> Shedding | None:
        return self.app_state.get("shedding")

    def _count(self, change: int) -> None:
        self._unanswered += change
        if self._shedding is not None:
            self._shedding.unanswered += change

    def _find_refusal(self) -> Refusal | None:
        if self._shedding is None or self._unanswered or self.parser.get_method() != b"POST":
            return None
        refusal = self._shedding.refuse(self.url.partition(b"?")[0], self.headers)
        return refusal if refusal is not None and self._is_small() else None

    def _is_small(self) -> bool:
        """Whether the body's length is known and small."""
        lengths = [value for name, value in self.headers if name == b"content-length"]
        return len(lengths) == 1 and int(lengths[0]) <= _MAX_REFUSED_BYTES and not self.expect_100_continue

    def _decline_upgrade(self) -> bytes:
        """Write a head again without its upgrade headers, which a server may ignore (RFC 9110, 7.8).

        Clients that prefer HTTP/2 send them with every first request, such as Java's and `curl --http2`. With them,
        neither httptools nor uvicorn would read the body.
        """
        method, closed = self.parser.get_method(), False
        if method == b"CONNECT":
            self._give_up("the server is not a proxy")
            return b""
        head = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                closed |= b"close" in value.lower()
            elif name not in _WISHES:
                head.append(b"%b: %b" % (name, value))
        if closed:
            head.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return b"\r\n".join([*head, b"", b""])

    def _begin_head(self) -> None:
        self._end_head()
        self._in_head, self._head_bytes = True, 0

    def _end_head(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, problem: str) -> None:
        self._end_head()
        if not self.transport.is_closing():
            refusal = write_refusal(RequestError(problem, status=400, code="REQUEST_INVALID"), close=True)
            self.logger.warning("%s (request_id %s)", problem, refusal.request_id)
            self.transport.write(refusal.content)
            self.transport.close()
