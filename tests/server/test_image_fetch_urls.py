"""Which addresses are public, which URLs are read and how, and which hosts an operator allows."""

import ipaddress
import socket
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

import httpcore
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core_encoder.errors import ConfigError
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.server import image_fetch
from jclip_connectors.server.image_fetch import FetchLimits, ImageFetcher, ImageFetchError
from tests.server.image_fetch_site import PICTURE


@pytest.fixture
def unplugged(monkeypatch):
    """Nothing may be connected to, and no name be looked up."""
    literals_only = socket.getaddrinfo

    async def connected(*_):
        raise AssertionError("a connection was asked for")

    def look_up(host, *args, **options):
        try:
            ip_address(host)
        except ValueError:
            raise AssertionError(f"{host} was looked up") from None
        return literals_only(host, *args, **options)

    monkeypatch.setattr(httpcore.AsyncHTTPConnection, "handle_async_request", connected)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def public(monkeypatch):
    """Every host is at 1.1.1.1 and has the picture; what was looked up and what was sent."""
    seen = []

    async def resolve(host, _):
        seen.append(host)
        return ["1.1.1.1"]

    async def answered(_, request):
        seen.append(request)
        return httpcore.Response(200, content=PICTURE)

    monkeypatch.setattr(image_fetch, "_resolve", resolve)
    monkeypatch.setattr(httpcore.AsyncHTTPConnection, "handle_async_request", answered)
    return seen


# The addresses that may be connected to.

NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.8.8.8
    168.63.129.16 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.192 192.0.2.1
    192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
    64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::168.63.129.16 64:ff9b::224.0.0.1
    64:ff9b:1::8.8.8.8 100::1 2001::1 2001:0:7f00:1::1 2001:1::1 2001:10::1 2001:20::1 2001:db8::1
    2002:7f00:1::1 2002:a00:1::1 2002:808:808::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254
    fe80::1 fe80::1%1 fec0::1 ff02::1 ff0e::1 2606:4700::1111%1 64:ff9b::8.8.8.8%1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.215.14 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    168.63.129.15 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255
    198.20.0.0 223.255.255.255 2001:200::1 2001:4860:4860::8888 2400:cb00::1 2606:4700::1111 2a00:1450::1
    64:ff9b::8.8.8.8
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_an_address_that_is_not_public_is_refused(address):
    assert not image_fetch._is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_accepted(address):
    assert image_fetch._is_public(ip_address(address))


NAT64 = ipaddress.ip_network("64:ff9b::/96")


@given(st.ip_addresses())
def test_what_python_does_not_call_global_is_refused(address):
    assert address.is_global or not image_fetch._is_public(address)
    if address not in NAT64:  # a reserved block by name, and in use
        special = address.is_private or address.is_multicast or address.is_reserved or address.is_loopback
        assert not (special and image_fetch._is_public(address))


SPECIAL_IPV4 = st.one_of(
    st.sampled_from(["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"]),
    st.sampled_from(["192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"]),
).flatmap(lambda network: st.ip_addresses(v=4, network=network))


@given(SPECIAL_IPV4, st.integers(0, 2**80 - 1))
def test_an_ipv4_address_that_is_not_public_stays_so_inside_ipv6(address, rest):
    packed = int(address)
    forms = {
        "plain": address,
        "compatible": IPv6Address(packed),
        "mapped": IPv6Address(0xFFFF << 32 | packed),
        "translated": IPv6Address(0xFFFF << 48 | packed),
        "NAT64": IPv6Address(0x64_FF9B << 96 | packed),
        "6to4": IPv6Address(0x2002 << 112 | packed << 80 | rest),
        "Teredo server": IPv6Address(0x2001_0000 << 96 | packed << 64 | rest % 2**64),
        "Teredo client": IPv6Address(0x2001_0000 << 96 | rest % 2**64 << 32 | packed ^ 0xFFFF_FFFF),
    }
    assert [name for name, form in forms.items() if image_fetch._is_public(form)] == []


@given(st.ip_addresses(v=4))
def test_behind_nat64_an_address_is_judged_as_itself(address):
    assert image_fetch._is_public(IPv6Address(0x64_FF9B << 96 | int(address))) == image_fetch._is_public(address)


# The URLs that are read at all.

HOSTILE = [
    "http://127.0.0.1/",
    "http://0.0.0.0/",
    "http://0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0X7F.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.1./",
    "http://127.0.0.1../",
    "http://1.1.1.1./",
    "http://127.0.0.0x1/",
    "http://256.256.256.256/",
    "http://4294967297/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[2606:4700::1111%25eth0]/",
    "http://[127.0.0.1]/",
    "http://[v1.127]/",
    "http://[::1/",
    "http://::1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254.:80/",
    "http://0xA9FEA9FE/",
    "http://2852039166/",
    "http://168.63.129.16/",
    "http://192.168.1.1:80/",
    "http://10.0.0.1/",
    "http://100.100.100.200/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://%6c%6f%63%61%6c%68%6f%73%74/",
    "http://%31%32%37.0.0.1/",
    "http://127%2e0.0.1/",
    "http://www%2eexample.com/",
    "http://www.example.com%00.evil.example/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://127\u30020\u30020\uff611/",
    "http://127\uff0e0\uff0e0\uff0e1/",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54/",
    "http://\u0661\u0662\u0667.0.0.1/",
    "http://www.exa\u00admple.com/",
    "http://www.exa\u202emple.com/",
    "http://\ud800.example.com/",
    "http://www.example.com/\ud800",
    "http://user@www.example.com/",
    "http://user:password@www.example.com/",
    "http://:password@www.example.com/",
    "http://www.example.com@127.0.0.1/",
    "http://1.1.1.1&@2.2.2.2#@3.3.3.3/",
    "http://127.0.0.1#@www.example.com/",
    "http://127.0.0.1?@www.example.com/",
    "http://127.0.0.1\\@www.example.com/",
    "http://www.example.com\\@127.0.0.1/",
    "http:\\\\www.example.com\\",
    "http:/\\127.0.0.1/",
    "http://www.example.com/\\..",
    "http://www.example.com\r\nHost: 127.0.0.1/",
    "http://www.example.com/\r\nX-Evil: 1",
    "http://www.example.com/\nSET key value",
    "http://www.example.com/a\tb",
    "ht\ntp://www.example.com/",
    "http://www.example.com/\x00",
    "http://www.example.com/a b",
    " http://www.example.com/",
    "http://www.example.com/ ",
    "\x01http://www.example.com/",
    "http:///www.example.com/",
    "http://",
    "http:",
    "http:www.example.com/",
    "//www.example.com/",
    "www.example.com/picture.png",
    "",
    "http://.example.com/",
    "http://www..example.com/",
    "http://-www.example.com/",
    "http://www.example.com-/",
    "http://www.example.123/",
    "http://www_.1/",
    "http://example/",
    "http://" + "a" * 64 + ".example.com/",
    "http://" + "a." * 126 + "example.com/",
    "http://" + "\u00e9" * 4000 + ".example/",
    "http://www.example.com/" + "a" * 9000,
    "http://www.example.com:22/",
    "http://www.example.com:443/",
    "https://www.example.com:80/",
    "https://www.example.com:8443/",
    "http://www.example.com:0/",
    "http://www.example.com:-80/",
    "http://www.example.com:65616/",
    "http://www.example.com:80:22/",
    "http://www.example.com:" + "1" * 5000 + "/",
    "http://www.example.com:x/",
    "file:///etc/passwd",
    "file://www.example.com/etc/passwd",
    "ftp://www.example.com/picture.png",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:11211/stats",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "http+unix://%2fvar%2frun%2fdocker.sock/",
    "ws://www.example.com/",
    "jar:http://www.example.com!/",
    "url:http://www.example.com/",
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
@pytest.mark.usefixtures("unplugged")
async def test_a_hostile_url_is_refused_before_anything_is_looked_up_or_connected(hostile):
    with pytest.raises(ImageFetchError, match=r"^(the|what the) image's .{10,}: ") as caught:
        await ImageFetcher().fetch(hostile)
    assert isinstance(caught.value, EmbedInputError)
    assert len(str(caught.value)) < 500


PLAIN = "http https file :// : // / \\ @ # ? % %2e [ ] . - _ 127 0x7f 017 ::1 80 8443 www.example.com com user xn--"
ODD = ["", " ", "\n", "\t", "\x00", "\ud800", "\u3002", "\uff0f", "\uff20", "\u212a", "\u00df", "\u00fc", "\uff11"]
PARTS = st.sampled_from(PLAIN.split()) | st.sampled_from(ODD)


@given(st.one_of(st.lists(PARTS, max_size=12).map("".join), st.text(max_size=40).map("http://".__add__)))
@example("http://b\u00fccher.example/\u00fc?\u00fc#\u00fc")
@example("HTTPS://WWW.Example.COM:443/a%20b?c=d&e")
@example("http://[2606:4700:0:0::1111]:80/")
def test_a_url_is_refused_or_means_the_same_to_another_reader(text):
    try:
        found = image_fetch._read_url(text)
    except ImageFetchError:
        return
    host = image_fetch._host(found)
    other = urlsplit(str(found))
    assert other.scheme == found.scheme
    assert other.username is other.password is None
    assert other.port == found.port
    assert other.hostname == host or str(ip_address(other.hostname or "")) == host
    if text.isascii():
        again = urlsplit(text)
        assert (again.hostname, again.scheme) == (other.hostname, other.scheme)


ACCEPTED = [
    ("http://www.example.com", "www.example.com"),
    ("HTTP://WWW.EXAMPLE.COM:80/", "www.example.com"),
    ("https://www.example.com:443/a%20b?c=d#e", "www.example.com"),
    ("https://b\u00fccher.example/", "xn--bcher-kva.example"),
    ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
    ("https://my_bucket.s3.example.com/", "my_bucket.s3.example.com"),
    ("https://www\u3002example\uff0ecom/", "www.example.com"),
    ("http://8.8.8.8/", "8.8.8.8"),
    ("http://[2606:4700:0::1111]/", "2606:4700::1111"),
]


@pytest.mark.parametrize(("text", "host"), ACCEPTED)
async def test_a_plain_url_is_asked_for_at_its_host(text, host, public):
    assert await ImageFetcher().fetch(text) == PICTURE
    looked_up, request = public
    assert looked_up == request.extensions["sni_hostname"] == host
    assert (request.url.host, request.url.port or 80) == (b"1.1.1.1", 80)
    assert dict(request.headers)[b"Host"].decode().removesuffix(":80") in (host, "[2606:4700:0::1111]")


# The hosts that an operator allows.


@pytest.mark.parametrize(
    ("allowed", "text", "accepted"),
    [
        ("www.example.com", "https://www.example.com/", True),
        ("WWW.Example.COM", "http://www.EXAMPLE.com/", True),
        ("b\u00fccher.example", "http://xn--bcher-kva.example/", True),
        ("www.example.com", "https://example.com/", False),
        ("www.example.com", "https://a.www.example.com/", False),
        ("www.example.com", "https://wwwxexample.com/", False),
        ("www.example.com", "https://www.example.com.evil.example/", False),
        ("www.example.com", "https://www.example.com:8443/", False),
        ("*.example.com", "https://www.example.com/", True),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://badexample.com/", False),
        ("*.example.com", "https://www.example.com:8443/", False),
        ("*.example.com:8443", "https://www.example.com:8443/", True),
        ("*.example.com:8443", "https://www.example.com/", False),
        ("www.example.com:8443", "https://www.example.com:8443/", True),
        ("www.example.com:8443", "http://www.example.com:8443/", True),
        ("www.example.com:8443", "https://www.example.com/", False),
        ("www.example.com:443", "https://www.example.com/", True),
        ("www.example.com:443", "http://www.example.com/", False),
        ("8.8.8.8", "http://8.8.8.8/", True),
        ("8.8.8.8", "http://8.8.4.4/", False),
        ("[2606:4700:0::1111]:8080", "http://[2606:4700::1111]:8080/", True),
        ("[2606:4700::1111]", "http://[2606:4700::1112]/", False),
    ],
)
async def test_only_the_allowed_hosts_and_ports_are_asked(allowed, text, accepted, public):
    fetcher = ImageFetcher(allowed_hosts=["other.example", allowed])
    if accepted:
        assert await fetcher.fetch(text) == PICTURE
    else:
        with pytest.raises(ImageFetchError, match="may fetch from"):
            await fetcher.fetch(text)
        assert public == []


@pytest.mark.parametrize("allowed", ["127.0.0.1", "169.254.169.254", "[::1]", "127.0.0.1:80"])
@pytest.mark.usefixtures("unplugged")
async def test_no_entry_allows_an_address_that_is_not_public(allowed):
    with pytest.raises(ImageFetchError, match="no public address"):
        await ImageFetcher(allowed_hosts=[allowed]).fetch(f"http://{allowed.removesuffix(':80')}/")


ENTRIES = """
    * *. *.com *.* a*.example.com www.*.com .example.com example localhost *.8.8.8.8 *.[::1] example.com. a..b.com
    https://example.com example.com/ example.com/a user@example.com example.com?a example.com#a a,b.com
    example.com:0 example.com:65536 example.com:x example.com:-1 2130706433 127.1 ::1 [::1 [fe80::1%eth0]
"""


@pytest.mark.parametrize("entry", ["", "exam ple.com", "exa\nmple.com", *ENTRIES.split()])
def test_an_entry_that_is_no_host_is_refused(entry):
    with pytest.raises(ConfigError, match=r"`allowed_hosts` has .*: write 'example.com'"):
        ImageFetcher(allowed_hosts=[entry])


def test_a_bare_string_of_hosts_is_refused():
    with pytest.raises(ConfigError, match=r"write \['example.com'\]"):
        ImageFetcher(allowed_hosts="example.com")


@pytest.mark.parametrize("name", ["max_bytes", "timeout_s", "max_redirects"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "8", float("inf")])
def test_a_limit_that_is_no_positive_integer_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"`{name}` must be an integer from 1 up"):
        FetchLimits(**{name: value})
