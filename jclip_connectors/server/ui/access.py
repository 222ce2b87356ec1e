"""Who may use the search page: the names of the server, the origin of a request, keys, and sessions in a cookie.

A page of another site must not reach a server on the user's own machine, so every request must name this server (a
foreign name that resolves to 127.0.0.1 is refused: DNS rebinding), and a request that is sent by another page is
refused (cross-site request forgery).
"""

import hmac
import secrets
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from core_encoder.errors import ConfigError
from jclip_connectors.server.api_keys import ApiKeys
from jclip_connectors.server.requests import RequestError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The names of this machine, by which only its own users reach it."""
_SESSION_S = 12 * 3600
_OWN_SITE = ("same-origin", "none")  # `none` is a request that the user has made, not a page


class Access:
    """The rules of one server process."""

    def __init__(self, keys: Sequence[str] = (), *, hosts: Sequence[str] = ()) -> None:
        """Keep the keys as hashes, and make the secret of the sessions.

        Args:
            keys: one of these opens a session; without any, the page is open to all who reach the server.
            hosts: further names by which browsers reach the server, beside those of loopback.

        Raises:
            ConfigError: a key or a host is malformed.
        """
        self._keys = ApiKeys(keys)
        self._is_open = not keys
        self._hosts = frozenset([*LOOPBACK, *map(_check_name, hosts)])
        self._secret = secrets.token_bytes(32)
        # Cookies of all ports of a host are in one place: each process has a name of its own.
        self._cookie = f"jclip_ui_{secrets.token_hex(4)}"

    def check_host(self, headers: Headers) -> None:
        """Check that the request names this server.

        Raises:
            RequestError: 421.
        """
        given = headers.getlist("host")
        if len(given) != 1 or _host_name(given[0]) not in self._hosts:
            raise RequestError(
                "the search page is not served under this name: use the address that the server printed, or start it "
                "with --ui-host NAME",
                status=421,
                code="REQUEST_INVALID",
            )

    def check_origin(self, headers: Headers) -> None:
        """Check that no page of another site has sent the request.

        Raises:
            RequestError: 403.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        foreign = site is not None and site.lower() not in _OWN_SITE
        if foreign or (origin is not None and _authority(origin) != headers.get("host", "").lower()):
            raise RequestError("a page of another site has sent this request", status=403, code="REQUEST_INVALID")

    def check_session(self, headers: Headers, cookies: dict[str, str]) -> None:
        """Check the session's cookie, or else the key in `Authorization`.

        Raises:
            RequestError: 401.
        """
        if self._is_open or self._is_session(cookies.get(self._cookie, "")):
            return
        given = headers.get("authorization")
        self._keys.check(None if given is None else given.encode("latin-1"))

    def open_session(self, key: str) -> str:
        """Check a key; returns the `Set-Cookie` of the new session.

        Raises:
            RequestError: 401.
        """
        self._keys.check(b"Bearer " + key.encode("utf-8", "backslashreplace"))
        ends = str(int(time.time()) + _SESSION_S)
        value = f"{ends}.{self._sign('session', ends)}"
        return f"{self._cookie}={value}; Path=/ui; Max-Age={_SESSION_S}; HttpOnly; SameSite=Strict"

    def handle(self, record_id: str) -> str:
        """The name of a record in requests: it tells nothing of the id, and nobody can make up another."""
        return self._sign("record", record_id)

    def _is_session(self, value: str) -> bool:
        ends, _, signature = value.partition(".")
        if not ends.isascii() or not ends.isdigit() or not signature.isascii():
            return False
        signed = hmac.compare_digest(signature, self._sign("session", ends))
        return signed and time.time() < int(ends)

    def _sign(self, kind: str, text: str) -> str:
        return hmac.new(self._secret, f"{kind}:{text}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:40]


def _check_name(host: str) -> str:
    name = _host_name(host)
    if not name or name != host.strip("[]").lower() or any(each in name for each in "/@?# "):
        raise ConfigError(f"the host of the search page is {host!r}: write a name or an address without a port")
    return name


def _host_name(host: str) -> str:
    """The name in a `Host` header: in lower case, without port and brackets; "" if it is malformed."""
    return _split(f"//{host}")[0]


def _authority(origin: str) -> str:
    """The host and port of an `Origin` header, written as in `Host`; "" if it is malformed, or `null`."""
    return _split(origin)[1]


def _split(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        name = parts.hostname or ""
        _ = parts.port  # it raises for a port that is no number
    except ValueError:
        return "", ""
    return (name, parts.netloc.lower()) if "@" not in parts.netloc else ("", "")
