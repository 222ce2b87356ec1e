"""Requests of pages in a browser: only pages of allowed origins may read the answers.

Source: the Fetch standard, "HTTP extensions for CORS".
"""

import re
from collections.abc import Callable, Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core_encoder.errors import ConfigError
from jclip_connectors.server.observation import seen
from jclip_connectors.server.requests import RequestError

_ANY = "*"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\s*,\s*[A-Za-z0-9_-]{1,64}){0,63}")
_USUAL_HEADERS = "authorization, content-type"
_EXPOSED = "X-Request-ID, Retry-After"
_REMEMBERED_S = 600  # for which a browser may keep the answer to its question


class Origins:
    """The origins of pages that may read the server's answers; without any, no page of another origin may."""

    def __init__(self, origins: Sequence[str]) -> None:
        """Read the origins.

        Args:
            origins: "https://app.example.com", "http://localhost:3000", ...; "*" alone allows every page.

        Raises:
            ConfigError: an origin is none of these, or stands beside "*".
        """
        if isinstance(origins, str):
            raise ConfigError(f"`cors_origins` is the string {origins!r}; write [{origins!r}]")
        self._any = _ANY in origins
        if self._any and len(set(origins)) > 1:
            raise ConfigError("`cors_origins` has '*', which allows every origin: leave out the others, or the '*'")
        self._allowed = frozenset(_read(origin) for origin in origins if origin != _ANY)

    def __bool__(self) -> bool:
        """Whether pages of any other origin may read answers."""
        return self._any or bool(self._allowed)

    def headers(self, origin: str | None) -> dict[str, str]:
        """The headers of an answer to a request with this `Origin`; no page may read an answer without them."""
        if self._any:
            return {"Access-Control-Allow-Origin": _ANY, "Access-Control-Expose-Headers": _EXPOSED}
        if not self._allowed:
            return {}
        if origin is None or origin.lower() not in self._allowed:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin.lower(),
            "Access-Control-Expose-Headers": _EXPOSED,
            "Vary": "Origin",
        }

    def admits(self, origin: str) -> bool:
        """Whether pages of this origin may read answers."""
        return self._any or origin.lower() in self._allowed


class Cors:
    """ASGI middleware that answers the questions of browsers, and adds the headers to all other answers."""

    def __init__(self, app: ASGIApp, origins: Origins, own: Callable[[str], bool]) -> None:
        """Answer for `app`; paths that are `own` are for this server's own page alone."""
        self._app = app
        self._origins = origins
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a browser's question, or pass a request on."""
        if scope["type"] != "http" or not self._origins or self._own(scope["path"]):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        more = self._origins.headers(asked.get("origin"))
        if is_question(scope["method"], asked) and self._origins.admits(asked["origin"]):
            seen(Request(scope)).route = "preflight"
            more |= _permission(asked)
            await send({"type": "http.response.start", "status": 204, "headers": _raw(more)})
            await send({"type": "http.response.body"})
            return

        async def send_readable(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(raw=message["headers"])
                for name, value in more.items():
                    answered[name] = value
            await send(message)

        await self._app(scope, receive, send_readable)


def is_question(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks if a page may send a request ("preflight")."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def not_admitted(origins: Origins) -> RequestError:
    """The error for the question of a page that may not read answers: 403, with how to change that."""
    found = (
        "this page's origin is not among those of --cors-origin" if origins else "pages in a browser are not allowed"
    )
    return RequestError(
        f"{found}: start the server with --cors-origin and the origin of the page, such as "
        "--cors-origin http://localhost:3000",
        status=403,
        code="REQUEST_INVALID",
    )


def _permission(asked: Headers) -> dict[str, str]:
    names = asked.get("access-control-request-headers", "").strip()
    return {
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Allow-Headers": names if _HEADER_NAMES.fullmatch(names) else _USUAL_HEADERS,
        "Access-Control-Max-Age": str(_REMEMBERED_S),
    }


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _read(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ConfigError(
            f"`cors_origins` has {origin!r}: write 'https://app.example.com' or 'http://localhost:3000', without a "
            "path or a slash at the end; '*' alone allows every page"
        )
    origin = origin.lower()
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], ":"))  # browsers leave them out
