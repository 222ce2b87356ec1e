"""Refusing requests before the application sees them: in the client's dialect, and at very low cost.

All requests to one path that are refused within 0.1 s because the queue is full get the same answer with the same id,
and share one log line; pages of different origins get answers of their own.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from jclip_connectors.server.cors import Origins
from jclip_connectors.server.dialects import jina
from jclip_connectors.server.dialects.encodings import write_json
from jclip_connectors.server.engine import Engine
from jclip_connectors.server.metrics import Metrics
from jclip_connectors.server.requests import Dialect, RequestError, new_request_id

_LOG = logging.getLogger("jclip_connectors.server")
_MOMENT_S = 0.1


@dataclass
class Refusal:
    """A complete answer that several requests share.

    Attributes:
        status: of HTTP.
        request_id: in the answer and in the log.
        content: the whole answer, from the status line on.
        count: number of requests that got it.
    """

    status: int
    request_id: str
    content: bytes
    count: int = 0


def write_refusal(
    error: RequestError, write: Callable[[RequestError, str], bytes] = jina.write_error, *, close: bool = False
) -> Refusal:
    """Make the answer of an error; `write` is a dialect's, and `close` says that the connection is closed after it."""
    request_id = new_request_id()
    body = write(error, request_id)
    headers = {
        "Date": formatdate(usegmt=True),
        **error.headers,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-Request-ID": request_id,
        **({"Connection": "close"} if close else {}),
    }
    status = HTTPStatus(error.status)
    head = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return Refusal(error.status, request_id, "\r\n".join([*head, "", ""]).encode() + body)


class Shedding:
    """Refuses requests for one engine, in its event loop.

    Attributes:
        unanswered: complete requests without an answer; `protocol` counts them. The engine counts only admitted
            requests, which is too late: those that arrive together would be read and tokenized before their refusal.
    """

    def __init__(self, engine: Engine, dialects: Mapping[str, Dialect], metrics: Metrics, origins: Origins) -> None:
        """Refuse POST requests to the paths in `dialects`, so that pages of `origins` can read the refusal."""
        self.unanswered = 0
        self._engine = engine
        self._dialects = {path.encode(): dialect for path, dialect in dialects.items()}
        self._metrics = metrics
        self._origins = origins
        # Of the current 0.1 s, by path and by the headers that the page's origin needs.
        self._refusals: dict[tuple[bytes, str | None], Refusal] = {}

    def refuse(self, path: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Give the refusal of a request, or `None` if there is room or the path is not in `dialects`."""
        path = path.rstrip(b"/") or b"/"
        if self._engine.has_room(self.unanswered) or path not in self._dialects:
            return None
        more = self._origins.headers(self._origin(headers))
        key = (path, more.get("Access-Control-Allow-Origin"))
        refusal = self._refusals.get(key)
        if refusal is None:
            error = self._engine.refusal()
            error.more_headers |= more
            refusal = self._refusals[key] = self._write(error, key)
        refusal.count += 1
        return refusal

    def _origin(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        if not self._origins:
            return None
        return next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)

    def _write(self, error: RequestError, key: tuple[bytes, str | None]) -> Refusal:
        refusal = write_refusal(error, self._dialects[key[0]].write_error)
        asyncio.get_running_loop().call_later(_MOMENT_S, self._forget, key, error.code)
        return refusal

    def _forget(self, key: tuple[bytes, str | None], code: str) -> None:
        refusal, route = self._refusals.pop(key), key[0].decode()
        self._metrics.refused(route, refusal.status, refusal.count)
        line = {"status": refusal.status, "request_id": refusal.request_id, "route": route, "code": code}
        _LOG.info("%s", write_json({**line, "refused": refusal.count}).decode())
