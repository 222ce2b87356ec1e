"""Reading request bodies, with limits that are checked while the bytes arrive."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.requests import RequestError

_RETRY_S = 5
_ENCODINGS = ("gzip", "deflate", "br", "zstd", "compress")
_OTHER_TYPES = {
    "multipart/": "a form in several parts",
    "image/": "an image",
    "audio/": "a sound",
    "video/": "a film",
    "application/pdf": "a PDF",
    "application/xml": "XML",
    "text/xml": "XML",
    "text/html": "HTML",
    "application/yaml": "YAML",
    "application/x-yaml": "YAML",
    "application/msgpack": "MessagePack",
    "application/x-msgpack": "MessagePack",
    "application/cbor": "CBOR",
    "application/x-protobuf": "a protocol buffer",
    "application/x-ndjson": "JSON in lines",
    "application/jsonl": "JSON in lines",
    "application/grpc": "gRPC",
}


class Bodies:
    """All request bodies in memory, which share one limit."""

    def __init__(self, limits: ServerLimits) -> None:
        """Hold nothing yet."""
        self._limits = limits
        self._held_bytes = 0

    @contextmanager
    def open(self) -> Iterator["Body"]:
        """Give an empty body to read into; its bytes count towards the limit until the block ends."""
        body = Body(self)
        try:
            yield body
        finally:
            self._held_bytes -= body.num_bytes

    async def fill(self, body: "Body", request: Request) -> None:
        """Read the whole body of a request.

        Raises:
            RequestError: 413 too large, 408 too slow, 400 cut off, 503 if the limit for all bodies is reached.
        """
        _check_form(request)
        allowed = self._limits.max_body_bytes
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:18]) > allowed:
            raise _too_large(allowed)
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in request.stream():
                    self._add(body, chunk, allowed)
        except TimeoutError:
            raise RequestError(
                f"the body did not arrive within {self._limits.body_timeout_s} s", status=408, code="INPUT_TIMEOUT"
            ) from None
        except ClientDisconnect:
            raise RequestError("the body was cut off", status=400) from None

    def _add(self, body: "Body", chunk: bytes, allowed: int) -> None:
        if body.num_bytes + len(chunk) > allowed:
            raise _too_large(allowed)
        if self._held_bytes + len(chunk) > self._limits.max_buffered_bytes:
            raise RequestError(
                "too many large requests at once: try again later",
                status=503,
                code="SERVICE_UNAVAILABLE",
                retry_after_s=_RETRY_S,
            )
        body.num_bytes += len(chunk)
        self._held_bytes += len(chunk)
        body.chunks.append(chunk)


class Body:
    """The body of one request, as far as it has arrived."""

    def __init__(self, bodies: Bodies) -> None:
        """Hold nothing yet."""
        self._bodies = bodies
        self.chunks: list[bytes] = []
        self.num_bytes = 0

    async def read(self, request: Request) -> bytes:
        """Read the whole body; errors as for `Bodies.fill`."""
        await self._bodies.fill(self, request)
        content = b"".join(self.chunks)
        self.chunks.clear()
        return content


def _check_form(request: Request) -> None:
    """Refuse a body that says it is compressed or no JSON; JSON also comes under other names, such as a form's."""
    encodings = [each.strip().lower() for each in ",".join(request.headers.getlist("content-encoding")).split(",")]
    found = [each for each in encodings if each not in ("", "identity")]
    if found:
        name = found[-1].removeprefix("x-")
        known = name if name in _ENCODINGS else "an encoding that is not known"
        raise RequestError(
            f"the body is compressed (Content-Encoding: {known}): send it uncompressed",
            status=415,
            code="REQUEST_INVALID",
            more_headers={"Accept-Encoding": "identity"},
        )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    other = next((name for start, name in _OTHER_TYPES.items() if media_type.startswith(start)), None)
    if other is not None:
        raise RequestError(
            f"the body is {other}, says its Content-Type: send JSON with 'Content-Type: application/json', and images "
            "in it as base64",
            status=415,
            code="REQUEST_INVALID",
        )


def _too_large(allowed: int) -> RequestError:
    return RequestError(
        f"the body has more than the {allowed} bytes that are allowed: send several requests",
        status=413,
        code="INPUT_TOO_LARGE",
    )
