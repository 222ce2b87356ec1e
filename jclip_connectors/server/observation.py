"""One log line and one count per request: its time, route and result; never its content."""

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jclip_connectors.server.dialects.encodings import write_json
from jclip_connectors.server.metrics import Metrics
from jclip_connectors.server.requests import RequestError, new_request_id

_LOG = logging.getLogger("jclip_connectors.server")
_KEY = "jclip.seen"
T = TypeVar("T")


@dataclass
class Seen:
    """What is known of a request while it is answered.

    Attributes:
        request_id: sent with the answer, and written to the log.
        route: the pattern of the path, not the path itself, which is the client's content.
        items: number of answered items.
        tokens: number of reported tokens.
        code: of the error, if the request failed.
    """

    request_id: str
    route: str = "unknown"
    items: int = 0
    tokens: int = 0
    code: str | None = None


def seen(request: Request) -> Seen:
    """What is known of a request."""
    known: Seen = request.scope[_KEY]
    return known


def log_failure(what: str, error: BaseException) -> None:
    """Log that something failed: the error's type and its stack, but not its message, which may repeat content."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("%s failed: %s\n%s", what, type(error).__name__, frames)


def contained(work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 (passed on)
    """Do a part of a request, so that whatever it raises fails this request alone.

    A `SystemExit` that reaches the event loop would end it, and a panic of the tokenizer's library is no `Exception`.

    Raises:
        RequestError: as `work` does, or 500 for everything else that it raises.
    """
    try:
        return work(*arguments)
    except RequestError:
        raise
    except BaseException as error:  # noqa: BLE001 (see above)
        raise failed_request(error) from None


def failed_request(error: BaseException) -> RequestError:
    """Log a failure of the server, and give the error that says so to the client."""
    log_failure("a request", error)
    return RequestError("the server failed; see its log", status=500, code="INTERNAL_ERROR")


class Observation:
    """ASGI middleware that numbers, times, counts and logs requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Observe `app`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = Seen(request_id=new_request_id())
        # A path with a slash at its end is the same route: no client loses its body or key to a redirect.
        scope = {**scope, "path": scope["path"].rstrip("/") or "/", _KEY: known}
        started, status = time.perf_counter(), 500

        async def send_numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", known.request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_numbered)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.request(known.route, status, seconds)
            line = {"method": scope["method"], "status": status, "ms": round(seconds * 1000, 1), **vars(known)}
            _LOG.info("%s", write_json(line).decode())
