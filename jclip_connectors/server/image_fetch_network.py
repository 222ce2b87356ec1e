"""One request to one image host, at a checked address, with a limit on the bytes that do not belong to the image.

A host can send interim answers, headers, framing and trailers without end. They do not count towards the image's
size, and each costs the event loop much time for few bytes. So a host may send 32 KiB of them, and after that only as
many bytes as it has sent of the image.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

_MAX_BESIDE_BYTES = 32 * 1024  # image hosts send headers of about 1 KiB, and few clients accept more than 16
_FRAMING_SHARE = 16  # 1/16 of the body's bytes is allowed in addition, for the framing of its chunks
_LEAST_READ_BYTES = 1024  # also the most before the image begins, so that few interim answers are parsed at a time
_HEADERS: dict[str | bytes, str | bytes] = {
    "User-Agent": "jclip-connectors",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # a small answer must not decompress to a large one
    "Connection": "close",
}
BROKEN_OFF = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    OSError,  # for a broken TLS record after the handshake, `ssl` raises its own error
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A host's answer, up to its body.

    Attributes:
        status: of HTTP, from 200 up or 101.
        headers: by name, in upper or lower case.
        pieces: of the body, as they arrive.
    """

    status: int
    headers: httpx.Headers
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def ask(url: httpx.URL, name: str, addresses: Sequence[str], tls: ssl.SSLContext) -> AsyncIterator[Answer]:
    """GET a URL at the first of these addresses that accepts a connection, and close every connection at the end.

    Args:
        url: http or https; its host goes into the Host header.
        name: of the host; its certificate must have this name.
        addresses: of the host, at least one; nothing is looked up.
        tls: with the trusted certificate authorities.

    Raises:
        httpcore.ConnectError: no address accepts a connection, or the last one has no certificate for the name.
        httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError: see `BROKEN_OFF`; the answer
            ends early, is not HTTP, or has too many bytes outside its body.
    """
    async with AsyncExitStack() as opened:
        network = _Network(opened)
        async with (
            aclosing(await _first_answer(url, name, addresses, tls, network)) as response,
            aclosing(network.body(response)) as pieces,
        ):
            yield Answer(status=response.status, headers=httpx.Headers(response.headers), pieces=pieces)


async def _first_answer(
    url: httpx.URL, name: str, addresses: Sequence[str], tls: ssl.SSLContext, network: "_Network"
) -> httpcore.Response:
    *others, last = (_pinned(url, name, address) for address in addresses)
    for request in others:
        # A look-up can return IPv6 addresses even if this machine has no route to them.
        with suppress(httpcore.ConnectError):
            return await _connection(request, tls, network).handle_async_request(request)
    return await _connection(last, tls, network).handle_async_request(last)


def _connection(request: httpcore.Request, tls: ssl.SSLContext, network: "_Network") -> httpcore.AsyncHTTPConnection:
    # A new connection for each answer. A pool finds connections by address, and would reuse one whose certificate was
    # verified for another name at that address.
    return httpcore.AsyncHTTPConnection(request.url.origin, ssl_context=tls, network_backend=network)


def _pinned(url: httpx.URL, name: str, address: str) -> httpcore.Request:
    """A request to an address, with the host's name in the Host header and for the certificate check."""
    return httpcore.Request(
        "GET",
        httpcore.URL(scheme=url.raw_scheme, host=address, port=url.port, target=url.raw_path),
        headers={"Host": url.netloc.decode("ascii"), **_HEADERS},
        extensions={"sni_hostname": name},
    )


class _Network(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does by default, and counts the bytes that all its connections receive."""

    def __init__(self, opened: AsyncExitStack) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._opened = opened
        self._left_bytes = _MAX_BESIDE_BYTES
        self._most_at_once = _LEAST_READ_BYTES

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        # httpcore does not close a connection that is cancelled during its TLS handshake.
        self._opened.push_async_callback(stream.aclose)
        return _Stream(stream, self)

    async def read(self, stream: httpcore.AsyncNetworkStream, max_bytes: int, timeout: float | None) -> bytes:
        if self._left_bytes <= 0:
            raise httpcore.RemoteProtocolError(f"more than {_MAX_BESIDE_BYTES} bytes that are not of the body")
        await asyncio.sleep(0)  # a TLS stream with buffered bytes returns without giving other tasks a turn
        # Never in tiny reads, even if few bytes are left: the next read detects the excess.
        num_bytes = max(_LEAST_READ_BYTES, min(self._left_bytes, self._most_at_once))
        data = await stream.read(min(max_bytes, num_bytes), timeout)
        self._left_bytes -= len(data)
        return data

    async def body(self, response: httpcore.Response) -> AsyncGenerator[bytes]:
        self._most_at_once = _MAX_BESIDE_BYTES
        async for piece in response.aiter_stream():
            earned = len(piece) + len(piece) // _FRAMING_SHARE
            self._left_bytes = min(self._left_bytes + earned, _MAX_BESIDE_BYTES)
            yield piece


class _Stream(httpcore.AsyncNetworkStream):
    """A connection whose reads are counted, also inside TLS."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, network: _Network) -> None:
        self._inner = inner
        self._network = network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._network.read(self._inner, max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._network)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
        return self._inner.get_extra_info(info)
