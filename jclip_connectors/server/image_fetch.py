"""Images by URL, from public hosts only: a client must not reach private networks through this server.

A host is looked up once, its addresses are checked, and the connection goes to one of these addresses: so the name
cannot resolve to another machine after the check. httpcore is used without a client above it, so that no cookies,
proxies, environment variables or logged URLs come in, and redirects are followed only here.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

import httpcore
import httpx

from core_encoder.errors import ConfigError
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.server.image_fetch_network import BROKEN_OFF, Answer, ask

_MAX_AT_ONCE = 16  # fetches of one fetcher, each with up to `max_bytes` in memory
_MAX_URL_CHARS = 8192
_MAX_ADDRESSES = 3  # tried in turn for one host; with more, a URL could scan a network
_FEW_PIECES, _LEAST_MEAN_BYTES = 256, 256  # a body in tiny pieces costs the event loop much time for few bytes
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")  # URL parsers disagree about these characters
_NOT_IN_A_HOST = re.compile(r"[\x00-\x20\x7f\\/?#@]")
# A full name in ASCII. No top-level domain begins with a digit: some resolvers read 127.1, 0x7f.1 and 2130706433 as
# addresses.
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291: mapped, compatible, local and multicast addresses are outside it
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits
# Networks that some versions of `ipaddress` call global, but that host no images.
_NEVER = tuple(
    ip_network(each)
    for each in (
        "168.63.129.16/32",  # Azure's platform agent, which answers virtual machines only
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata is at 192.0.0.192
        "192.88.99.0/24",  # relays of 6to4
        "224.0.0.0/4",  # multicast
        "2001::/23",  # protocol assignments, Teredo among them: an IPv4 address inside
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)
_SEND_IT = "send the image itself as base64"
_WRITE_IT = f"write 'https://www.example.com/picture.png', or {_SEND_IT}"


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Limits for fetching one image.

    Attributes:
        max_bytes: of the image's file.
        timeout_s: for the whole fetch: look-up, connection, redirects and body.
        max_redirects: the most redirects to follow.

    Raises:
        ConfigError: a limit is not a positive integer.
    """

    max_bytes: int = 8 * 2**20
    timeout_s: int = 10
    max_redirects: int = 3

    def __post_init__(self) -> None:
        """Refuse a value that would switch a limit off by accident."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"`{field.name}` must be an integer from 1 up, not {value!r}")


class ImageFetchError(EmbedInputError):
    """An image cannot be fetched from its URL; the message names at most the URL's host, and no other part."""


class ImageFetcher:
    """Fetches images by URL, 16 at once; others wait, and their timeout begins when their fetch begins."""

    def __init__(self, *, limits: FetchLimits | None = None, allowed_hosts: Sequence[str] = ()) -> None:
        """Read the options; nothing is looked up yet.

        Args:
            limits: for fetching one image.
            allowed_hosts: "example.com" for this host, "*.example.com" for every name under it, either with ":8443" for
                that port instead of 80 and 443; empty allows every host. No entry allows an address that is not public.

        Raises:
            ConfigError: an entry of `allowed_hosts` has none of these forms.
        """
        if isinstance(allowed_hosts, str):
            raise ConfigError(f"`allowed_hosts` is the string {allowed_hosts!r}; write [{allowed_hosts!r}]")
        self._limits = FetchLimits() if limits is None else limits
        self._allowed = tuple(_read_allowed(entry) for entry in allowed_hosts) or (_Allowed("", under=True, port=None),)
        self._places = asyncio.Semaphore(_MAX_AT_ONCE)
        # Separate threads: a slow look-up must not block a thread that other work needs.
        self._lookups = ThreadPoolExecutor(_MAX_AT_ONCE, thread_name_prefix="jclip-lookup")
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._closed = False

    async def fetch(self, url: str) -> bytes:
        """Fetch the file at a URL; its content is not checked.

        Args:
            url: http or https, of a public address.

        Returns:
            At most `max_bytes` bytes.

        Raises:
            ImageFetchError: the URL, its host or its address is not allowed, the host does not send such a file in
                time, or the fetcher is closed.
        """
        first = _read_url(url)
        async with self._places:
            if self._closed:
                raise ImageFetchError(f"images are not fetched any more: {_SEND_IT}")
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    return await self._follow(first)
            except TimeoutError:
                raise _error(first, f"takes longer than {self._limits.timeout_s} s") from None

    async def aclose(self) -> None:
        """Start no more fetches, and wait for those that run; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for _ in range(_MAX_AT_ONCE):
            await self._places.acquire()
        for _ in range(_MAX_AT_ONCE):  # calls that still wait get an error
            self._places.release()
        self._lookups.shutdown(wait=False)

    async def _follow(self, url: httpx.URL) -> bytes:
        first = url
        for _ in range(self._limits.max_redirects + 1):
            async with self._open(url) as answer:
                if answer.status not in _REDIRECTS:
                    return await self._read(answer, url)
                url = _redirected(url, answer)
        raise _error(first, f"is behind more than {self._limits.max_redirects} redirects")

    @asynccontextmanager
    async def _open(self, url: httpx.URL) -> AsyncIterator[Answer]:
        """Check a URL's host and addresses, and send the request."""
        self._check_allowed(url)
        addresses = await self._addresses(url)
        try:
            async with ask(url, _host(url), addresses, self._tls) as answer:
                yield answer
        except httpcore.ConnectError as error:
            raise _error(url, "accepts no connection, or has no certificate for its name") from error
        except BROKEN_OFF as error:
            raise _error(url, "broke off its answer") from error

    async def _addresses(self, url: httpx.URL) -> list[str]:
        try:
            found = await _resolve(_host(url), self._lookups)
        except (OSError, UnicodeError):
            found = []
        if not found or not all(_is_public(ip_address(each)) for each in found):
            # One message for both cases: clients must not learn which internal names exist.
            raise _error(url, "has no public address, or has an address that is not public")
        return found[:_MAX_ADDRESSES]

    async def _read(self, answer: Answer, url: httpx.URL) -> bytes:
        if answer.status != 200:
            raise _error(url, f"answers with the status {answer.status}")
        if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise _error(url, "compresses its answer without being asked to")
        too_large = _error(url, f"sends more than the {self._limits.max_bytes} bytes allowed", "use a smaller file")
        if int(answer.headers.get("Content-Length", 0)) > self._limits.max_bytes:
            raise too_large
        body, pieces = bytearray(), 0
        async for piece in answer.pieces:
            body += piece
            pieces += 1
            if len(body) > self._limits.max_bytes:
                raise too_large
            if pieces > _FEW_PIECES and len(body) < pieces * _LEAST_MEAN_BYTES:
                raise _error(url, f"sends its answer in pieces of fewer than {_LEAST_MEAN_BYTES} bytes")
        return bytes(body)

    def _check_allowed(self, url: httpx.URL) -> None:
        if not any(entry.admits(url) for entry in self._allowed):
            port = "" if url.port is None else f" with the port {url.port}"
            raise _error(url, f"is not a host{port} that this server may fetch from")


class _Allowed(NamedTuple):
    name: str
    under: bool  # any name that ends with it, rather than this name
    port: int | None  # `None` is the scheme's own

    def admits(self, url: httpx.URL) -> bool:
        host = _host(url)
        named = host.endswith(self.name) if self.under else host == self.name
        usual = _DEFAULT_PORTS[url.scheme]
        return named and (usual if url.port is None else url.port) == (usual if self.port is None else self.port)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the public internet; an IPv4 address inside a NAT64 address is checked too."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        if address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not any(address in network for network in _NEVER)


async def _resolve(host: str, executor: ThreadPoolExecutor) -> list[str]:
    """All addresses of a host, in the resolver's order, each with its scope id if it has one."""

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        return [f"{place[0]}%{place[3]}" if len(place) > 3 and place[3] else str(place[0]) for *_, place in found]

    return await asyncio.get_running_loop().run_in_executor(executor, look_up)


def _read_url(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Parse a URL that all parsers read in the same way; relative to `base` if `base` redirects to it."""
    what = "the image's URL" if base is None else f"what the image's host {_host(base)!r} redirects to"
    if len(text) > _MAX_URL_CHARS:
        raise ImageFetchError(f"{what} has {len(text)} characters, {_MAX_URL_CHARS} are allowed: {_SEND_IT}")
    if _NOT_IN_A_URL.search(text):
        raise ImageFetchError(f"{what} has a space, a backslash or a control character: percent-encode it")
    try:
        url = httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError):  # not chained: its message may contain a password
        raise ImageFetchError(f"{what} cannot be read: {_WRITE_IT}") from None
    if url.scheme not in _DEFAULT_PORTS:
        raise ImageFetchError(f"{what} is neither http nor https: {_WRITE_IT}")
    if url.userinfo:
        raise ImageFetchError(f"{what} has a user or a password, which this server never sends: leave it out")
    if not _host(url):
        raise ImageFetchError(f"{what} has no host that is a full name or a plain address: {_WRITE_IT}")
    return url


def _host(url: httpx.URL) -> str:
    """The host: a full name, or an address in its canonical form; "" if it is neither."""
    text = url.raw_host.decode("ascii")
    try:
        return "" if "%" in text else str(ip_address(text))
    except ValueError:
        return text if _NAME.fullmatch(text) else ""


def _redirected(url: httpx.URL, answer: Answer) -> httpx.URL:
    if "Location" not in answer.headers:
        raise _error(url, f"answers with the status {answer.status} and no `Location`")
    target = _read_url(answer.headers["Location"], url)
    if (url.scheme, target.scheme) == ("https", "http"):
        raise _error(url, "redirects from https to http")
    return target


def _read_allowed(entry: str) -> _Allowed:
    """Read an entry of `allowed_hosts` by the same rules as URLs."""
    under = entry.startswith("*.")
    rest = entry[2:] if under else entry
    try:
        url = httpx.URL("" if _NOT_IN_A_HOST.search(rest) else f"//{rest}")
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    host = _host(url)
    good_port = url.port is None or 0 < url.port < 2**16
    if not host or not good_port or (under and not _NAME.fullmatch(host)):
        raise ConfigError(
            f"`allowed_hosts` has {entry!r}: write 'example.com', '*.example.com' for every name under it, "
            "or either with a port like 'example.com:8443'"
        )
    return _Allowed(f".{host}" if under else host, under=under, port=url.port)


def _error(url: httpx.URL, what: str, advice: str = _SEND_IT) -> ImageFetchError:
    return ImageFetchError(f"the image's host {_host(url)!r} {what}: {advice}")
