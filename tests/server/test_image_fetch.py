"""Images are fetched from public hosts, from the address that was checked, within their limits; or refused in words."""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, ip_address

import pytest

from jclip_connectors.server import image_fetch
from jclip_connectors.server.image_fetch import FetchLimits, ImageFetcher, ImageFetchError
from tests.server import image_fetch_pages as pages
from tests.server.image_fetch_site import PICTURE, Site, answer, certificate, redirect

HOST = "pictures.example"
POLICY = image_fetch._is_public
RESOLVE = image_fetch._resolve
SECRET = "lookforme5c1e"  # noqa: S105 - it is looked for, and must not be found


class Names:
    """Stands in for DNS: each name has the lists of addresses that it answers with, in turn, then no more."""

    def __init__(self):
        self.answers = {HOST: [["127.0.0.1"]] * 100}
        self.asked = []

    async def resolve(self, host, executor):
        self.asked.append(host)
        if host in self.answers:
            return self.answers[host].pop(0)
        return await RESOLVE(str(ip_address(host)), executor)  # a literal; a name has no address here


@pytest.fixture
def names(monkeypatch):
    """127.0.0.1 plays the public internet; every other address is judged as it would be."""
    found = Names()
    monkeypatch.setattr(image_fetch, "_resolve", found.resolve)
    monkeypatch.setattr(image_fetch, "_is_public", lambda each: each == IPv4Address("127.0.0.1") or POLICY(each))
    return found


@pytest.fixture
async def site(names):  # noqa: ARG001 - it makes the site reachable
    async with Site() as running:
        yield running


@pytest.fixture
def connect(site):
    """A fetcher that may fetch from the site."""

    def make(*hosts, **limits):
        allowed = [f"{HOST}:{site.port}", f"*.web.example:{site.port}", *hosts]
        return ImageFetcher(limits=FetchLimits(**limits), allowed_hosts=allowed)

    return make


def url(site, path="/", host=HOST, scheme="http"):
    return f"{scheme}://{host}:{site.port}{path}"


async def gone(site):
    """The fetcher has let go of every connection to the site."""
    async with asyncio.timeout(20):
        while site.now:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def longest_stall():
    """For how long the event loop worked before others had their turn, in seconds of this thread."""
    longest = [0.0]

    async def watch():
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest[0] = max(longest[0], time.thread_time() - began)

    watching = asyncio.create_task(watch())
    yield longest
    watching.cancel()


# Looking up, and the address that is connected to.


async def test_a_picture_is_fetched_as_it_is(site, connect):
    body = os.urandom(300_000)
    site.pages["/p.png"] = answer(body)
    assert await connect().fetch(url(site, "/p.png")) == body


async def test_a_host_is_looked_up_once_and_its_second_answer_is_never_seen(site, connect, names, monkeypatch):
    names.answers["rebind.web.example"] = [["127.0.0.1"], ["::1"], ["169.254.169.254"]]
    elsewhere = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: elsewhere.append(args))
    assert await connect().fetch(url(site, host="rebind.web.example")) == PICTURE
    assert names.asked == ["rebind.web.example"]
    assert elsewhere == []


async def test_a_host_that_changes_its_address_is_refused_the_next_time(site, connect, names):
    names.answers["rebind.web.example"] = [["127.0.0.1"], ["10.0.0.1"]]
    fetcher = connect()
    assert await fetcher.fetch(url(site, host="rebind.web.example")) == PICTURE
    with pytest.raises(ImageFetchError, match="no public address"):
        await fetcher.fetch(url(site, host="rebind.web.example"))
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "addresses",
    [["::1"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1"] * 5 + ["::1"], ["127.0.0.1", "fe80::1%2"], []],
)
async def test_one_address_that_is_not_public_refuses_the_host(addresses, site, connect, names):
    names.answers["mixed.web.example"] = [addresses]
    with pytest.raises(ImageFetchError, match=r"'mixed.web.example' has no public address.*: send the image itself"):
        await connect().fetch(url(site, host="mixed.web.example"))
    assert site.requests == []


async def test_a_name_that_does_not_exist_is_told_like_one_that_exists_inside(monkeypatch):
    messages = set()
    for found in (socket.gaierror(-2, "Name or service not known"), [("10.0.0.1", 0)], UnicodeError("label too long")):

        def look_up(*_, found=found, **__):
            if isinstance(found, Exception):
                raise found
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(ImageFetchError) as caught:
            await ImageFetcher().fetch("http://database.internal/")
        messages.add(str(caught.value))
    assert len(messages) == 1


async def test_addresses_come_from_the_system_with_their_scope(monkeypatch):
    executor = ThreadPoolExecutor(1)
    assert await RESOLVE("8.8.8.8", executor) == ["8.8.8.8"]
    assert set(await RESOLVE("localhost", executor)) <= {"127.0.0.1", "::1"}
    stream = (socket.SOCK_STREAM, 6, "")
    found = [(socket.AF_INET6, *stream, ("fe80::1", 0, 0, 3)), (socket.AF_INET6, *stream, ("2606:4700::1", 0, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert await RESOLVE("www.example.com", executor) == ["fe80::1%3", "2606:4700::1"]
    executor.shutdown()


async def test_the_next_address_is_tried_where_one_takes_no_connection(site, connect, names, monkeypatch):
    monkeypatch.setattr(image_fetch, "_is_public", lambda _: True)
    names.answers["two.web.example"] = [["::1", "127.0.0.1"], ["::1"], ["::1", "::1", "::1", "127.0.0.1"]]
    fetcher = connect()
    assert await fetcher.fetch(url(site, host="two.web.example")) == PICTURE
    for _ in range(2):
        with pytest.raises(ImageFetchError, match="accepts no connection"):
            await fetcher.fetch(url(site, host="two.web.example"))
    assert len(site.requests) == 1


async def test_slow_names_do_not_hold_the_threads_of_others(monkeypatch):
    answered = threading.Event()

    def look_up(*_, **__):
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    fetcher = ImageFetcher(limits=FetchLimits(timeout_s=1))
    waiting = [asyncio.create_task(fetcher.fetch("http://slow.example/")) for _ in range(16)]
    await asyncio.sleep(0.1)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 20) == "free"
    found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
    answered.set()
    assert {str(each) for each in found} == {
        "the image's host 'slow.example' takes longer than 1 s: send the image itself as base64"
    }
    await fetcher.aclose()


# What is sent.


async def test_nothing_is_sent_but_what_a_picture_needs(site, connect, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    site.pages["/p"] = answer(Set_Cookie="id=1")
    fetcher = connect()
    for _ in range(2):
        await fetcher.fetch(url(site, "/p?q=1#f"))
    assert site.requests[0] == site.requests[1]  # no cookie
    first, *rest = site.requests[0].strip().split("\r\n")
    assert first == "GET /p?q=1 HTTP/1.1"
    assert sorted(rest) == [
        "Accept-Encoding: identity",
        "Accept: */*",
        "Connection: close",
        f"Host: {HOST}:{site.port}",
        "User-Agent: jclip-connectors",
    ]


async def test_a_connection_is_used_once(site, connect):
    fetcher = connect()
    site.pages["/first"] = redirect("/")
    await fetcher.fetch(url(site, "/first"))
    await fetcher.fetch(url(site))
    await gone(site)
    assert len(site.requests) == 3


# Redirects.


async def test_redirects_are_followed_and_each_host_is_looked_up(site, connect, names):
    names.answers |= {"a.web.example": [["127.0.0.1"]] * 2, "b.web.example": [["127.0.0.1"]]}
    site.pages["/1"] = redirect(url(site, "/2/x", host="a.web.example"), "301 Moved")
    site.pages["/2/x"] = redirect("../3", "307 Temporary")
    site.pages["/3"] = redirect(f"//b.web.example:{site.port}/", "308 Permanent")
    assert await connect().fetch(url(site, "/1")) == PICTURE
    assert names.asked == [HOST, "a.web.example", "a.web.example", "b.web.example"]
    assert [head.split()[1] for head in site.requests] == ["/1", "/2/x", "/3", "/"]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://127.0.0.2/", "may fetch from"),
        ("http://[::1]:PORT/", "no public address"),
        ("http://169.254.169.254:PORT/latest/meta-data", "no public address"),
        ("http://inside.web.example:PORT/", "no public address"),
        ("http://www.example.net/", "may fetch from"),
        ("http://pictures.example:22/", "may fetch from"),
        ("http://2130706433:PORT/", "no host that is a full name"),
        ("//0x7f.1/", "no host that is a full name"),
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "neither http nor https"),
        ("data:image/png;base64,AAAA", "neither http nor https"),
        ("http://user:lookforme5c1e@pictures.example:PORT/", "user or a password"),
        ("http://pictures.example:PORT\\@127.0.0.1/", "backslash"),
        ("/a b", "has a space"),
        ("http://[::1", "cannot be read"),
        ("/" + "a" * 9000, "9001 characters, 8192 are allowed"),
    ],
)
async def test_a_redirect_is_checked_like_a_url(location, message, site, connect, names):
    names.answers["inside.web.example"] = [["10.0.0.1"]]
    allowed = [f"[::1]:{site.port}", f"169.254.169.254:{site.port}"]
    site.pages["/away"] = redirect(location.replace("PORT", str(site.port)))
    with pytest.raises(ImageFetchError, match=message) as caught:
        await connect(*allowed).fetch(url(site, "/away"))
    assert SECRET not in str(caught.value)
    assert len(site.requests) == 1


@pytest.mark.parametrize("location", ["/loop", "", "?", "http://pictures.example:PORT/loop"])
async def test_a_loop_of_redirects_ends(location, site, connect):
    site.pages["/loop"] = redirect(location.replace("PORT", str(site.port)))
    with pytest.raises(ImageFetchError, match=r"'pictures.example' is behind more than 2 redirects"):
        await connect(max_redirects=2).fetch(url(site, "/loop"))
    assert len(site.requests) == 3


async def test_a_redirect_without_a_place_is_refused(site, connect):
    site.pages["/nowhere"] = answer(b"", status="302 Found")
    with pytest.raises(ImageFetchError, match="status 302 and no `Location`"):
        await connect().fetch(url(site, "/nowhere"))


# What is answered.


@pytest.mark.parametrize(
    "status", ["201 Created", "204 No Content", "206 Partial", "300 Multiple", "304 Not Modified", "403 No", "500 Oh"]
)
async def test_another_status_is_named(status, site, connect):
    site.pages["/p"] = answer(b"" if status[:3] in ("204", "304") else b"no", status=status)
    with pytest.raises(ImageFetchError, match=f"'pictures.example' answers with the status {status[:3]}: send"):
        await connect().fetch(url(site, "/p"))


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP", "x"])
async def test_a_compressed_answer_is_refused(encoding, site, connect):
    site.pages["/p"] = answer(Content_Encoding=encoding)
    with pytest.raises(ImageFetchError, match="compresses its answer"):
        await connect().fetch(url(site, "/p"))


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_an_answer_that_says_it_is_not_compressed_is_taken(encoding, site, connect):
    site.pages["/p"] = answer(Content_Encoding=encoding)
    assert await connect().fetch(url(site, "/p")) == PICTURE


@pytest.mark.parametrize(
    "page", [pages.slow_body, pages.slow_header, pages.silence, pages.slow_redirects, pages.slow_hints]
)
async def test_an_answer_that_takes_too_long_is_given_up(page, site, connect):
    site.pages["/p"] = page
    began = time.monotonic()
    with pytest.raises(ImageFetchError, match=r"'pictures.example' takes longer than 1 s: send the image itself"):
        await asyncio.wait_for(connect(timeout_s=1).fetch(url(site, "/p")), 20)
    assert time.monotonic() - began > 0.9
    await gone(site)


@pytest.mark.parametrize("page", [pages.endless, pages.endless_chunks])
async def test_a_body_without_end_is_cut_at_the_limit(page, site, connect):
    site.pages["/p"] = page
    with pytest.raises(ImageFetchError, match="sends more than the 100000 bytes allowed: use a smaller file"):
        await connect(max_bytes=100_000).fetch(url(site, "/p"))


async def test_a_body_in_crumbs_is_cut_early(site, connect):
    site.pages["/p"] = pages.endless_crumbs
    with pytest.raises(ImageFetchError, match="in pieces of fewer than 256 bytes"):
        await connect().fetch(url(site, "/p"))


@pytest.mark.parametrize(
    "page",
    [pages.endless_header, pages.endless_headers, pages.endless_trailers, pages.endless_chunk_extension],
    ids=lambda page: page.__name__,
)
async def test_a_flood_of_headers_is_cut(page, site, connect):
    site.pages["/p"] = page
    with pytest.raises(ImageFetchError, match="broke off its answer"):  # and not that it takes too long
        await connect().fetch(url(site, "/p"))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_interim_answers_without_end_are_cut_and_hold_nobody_up(scheme, site, safe_site, connect, names):
    names.answers["a.web.example"] = [["127.0.0.1"]] * 17
    place, fetcher = (safe_site, safe_site.fetcher) if scheme == "https" else (site, connect(timeout_s=5))
    host = "a.web.example" if scheme == "https" else HOST
    place.pages["/p"] = pages.endless_hints
    assert await fetcher.fetch(url(place, "/", host, scheme)) == PICTURE  # what is done once is not measured
    async with longest_stall() as stall:
        fetches = (fetcher.fetch(url(place, "/p", host, scheme)) for _ in range(16))
        found = await asyncio.gather(*fetches, return_exceptions=True)
    assert {str(each) for each in found} == {
        f"the image's host '{host}' broke off its answer: send the image itself as base64"
    }
    assert stall[0] < 0.5
    await gone(place)


async def test_a_body_that_its_framing_outweighs_is_cut(site, connect):
    site.pages["/p"] = pages.endless_framing
    with pytest.raises(ImageFetchError, match="broke off its answer"):  # and not that it sends more than is allowed
        await connect().fetch(url(site, "/p"))


async def test_what_comes_around_a_picture_may_take_32_kib(site, connect):
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    body = os.urandom(1_000_000)
    fits, large = 31 * 1024, 33 * 1024
    site.pages |= {"/fits": hint * 3 + answer(body, X=fits * "x"), "/large": hint * 3 + answer(body, X=large * "x")}
    site.pages |= {"/hints": hint * 3 + answer(body), "/many-hints": hint * 900 + answer(body)}
    fetcher = connect()
    for path in ("/fits", "/hints"):
        assert await fetcher.fetch(url(site, path)) == body
    for path in ("/large", "/many-hints"):
        with pytest.raises(ImageFetchError, match="broke off its answer"):
            await fetcher.fetch(url(site, path))


async def test_a_picture_in_small_chunks_is_taken_whole(site, connect):
    body = os.urandom(2**20)
    chunks = (body[start : start + 512] for start in range(0, len(body), 512))
    framed = b"".join(b"200\r\n%b\r\n" % chunk for chunk in chunks) + b"0\r\n\r\n"
    site.pages["/p"] = answer(framed, Transfer_Encoding="chunked")
    assert await connect(max_bytes=2**20).fetch(url(site, "/p")) == body


async def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(site, connect):
    for path, size in (("/fits", 1000), ("/large", 1001)):
        site.pages[path] = answer(b"x" * size)
        site.pages[f"{path}-chunked"] = answer(
            b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size), Transfer_Encoding="chunked"
        )
    fetcher = connect(max_bytes=1000)
    for path in ("/fits", "/fits-chunked"):
        assert await fetcher.fetch(url(site, path)) == b"x" * 1000
    for path in ("/large", "/large-chunked"):
        with pytest.raises(ImageFetchError, match="more than the 1000 bytes"):
            await fetcher.fetch(url(site, path))


async def test_a_length_over_the_limit_is_refused_before_the_body(site, connect):
    async def announce(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(60)

    site.pages["/p"] = announce
    with pytest.raises(ImageFetchError, match="more than the 1000 bytes"):
        await connect(max_bytes=1000).fetch(url(site, "/p"))


@pytest.mark.parametrize(
    "page",
    [
        answer(b"short", Content_Length=1000),
        answer(b"5\r\nshort\r\n", Transfer_Encoding="chunked"),
        answer(b"zz\r\nshort\r\n", Transfer_Encoding="chunked"),
        answer(Transfer_Encoding="gzip, chunked"),
        answer(Content_Length=-1),
        answer(Content_Length="many"),
        answer(Content_Length="5, 6"),
        answer(Content_Length="9" * 5000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshort!",
        b"HTTP/1.1 200 OK\r\nnot a header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: a\x00b\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\x01\x02" * 100,
        b"",
    ],
)
async def test_an_answer_that_is_not_http_is_refused(page, site, connect):
    site.pages["/p"] = page
    with pytest.raises(ImageFetchError, match=r"'pictures.example' broke off its answer: send the image itself"):
        await connect().fetch(url(site, "/p"))


async def test_what_follows_the_announced_length_is_not_read(site, connect):
    site.pages["/p"] = answer(b"short and long", Content_Length=5)
    assert await connect().fetch(url(site, "/p")) == b"short"


async def test_a_host_without_a_listener_is_refused(site, connect):
    fetcher, place = connect(), url(site)
    await site.__aexit__()
    with pytest.raises(ImageFetchError, match="accepts no connection"):
        await fetcher.fetch(place)


# TLS.


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"), "a.web.example", "*.safe.web.example")


@pytest.fixture
async def safe_site(names, tls):
    names.answers |= {name: [["127.0.0.1"]] * 9 for name in ("a.web.example", "b.web.example", "x.safe.web.example")}
    context, chain = tls
    asked_for = []
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    async with Site(tls=context) as running:
        fetcher = ImageFetcher(
            limits=FetchLimits(timeout_s=5),
            allowed_hosts=[f"*.web.example:{running.port}", f"127.0.0.1:{running.port}"],
        )
        fetcher._tls.load_verify_locations(chain)  # as if an authority that everyone trusts had signed it
        running.fetcher, running.asked_for = fetcher, asked_for
        yield running


async def test_a_certificate_is_asked_for_and_checked_by_name_though_the_address_is_connected_to(safe_site):
    for name in ("a.web.example", "x.safe.web.example"):
        assert await safe_site.fetcher.fetch(url(safe_site, host=name, scheme="https")) == PICTURE
        assert f"Host: {name}:{safe_site.port}\r\n" in safe_site.requests.pop()
        assert safe_site.asked_for.pop() == name


@pytest.mark.parametrize("host", ["b.web.example", "127.0.0.1"])
async def test_a_certificate_of_another_name_is_refused_also_after_the_right_one(host, safe_site):
    await safe_site.fetcher.fetch(url(safe_site, host="a.web.example", scheme="https"))
    with pytest.raises(ImageFetchError, match="no certificate for its name"):
        await safe_site.fetcher.fetch(url(safe_site, host=host, scheme="https"))
    assert len(safe_site.requests) == 1


async def test_a_certificate_that_nobody_vouches_for_is_refused(safe_site):
    stranger = ImageFetcher(allowed_hosts=[f"a.web.example:{safe_site.port}"])
    with pytest.raises(ImageFetchError, match="no certificate for its name"):
        await stranger.fetch(url(safe_site, host="a.web.example", scheme="https"))
    assert safe_site.requests == []


async def test_a_redirect_from_https_to_http_is_refused(safe_site):
    safe_site.pages["/down"] = redirect(url(safe_site, host="b.web.example"))
    with pytest.raises(ImageFetchError, match=r"'a.web.example' redirects from https to http"):
        await safe_site.fetcher.fetch(url(safe_site, "/down", host="a.web.example", scheme="https"))


async def test_a_record_that_is_broken_after_the_handshake_is_an_error_like_others(safe_site):
    async def broken(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        await writer.drain()
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
        await asyncio.sleep(60)

    safe_site.pages["/p"] = broken
    with pytest.raises(ImageFetchError, match="broke off its answer"):
        await safe_site.fetcher.fetch(url(safe_site, "/p", host="a.web.example", scheme="https"))


async def test_https_to_a_host_without_tls_is_refused(site, connect):
    async def http(writer):
        writer.write(answer())

    site.greeting = http
    with pytest.raises(ImageFetchError, match="accepts no connection"):
        await connect().fetch(url(site, scheme="https"))
    await gone(site)


async def test_a_handshake_that_never_ends_is_given_up_and_leaves_no_connection(site, connect):
    with pytest.raises(ImageFetchError, match="takes longer than 1 s"):
        await connect(timeout_s=1).fetch(url(site, scheme="https"))
    await gone(site)
    given_up = asyncio.create_task(connect().fetch(url(site, scheme="https")))
    while not site.now:
        await asyncio.sleep(0.01)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await gone(site)


# Many at once, and the end.


async def test_sixteen_are_fetched_at_once_and_the_others_wait(site, connect):
    async def slow(writer):
        while site.most_at_once < 16:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # in which a seventeenth could come
        writer.write(answer())

    site.pages["/p"] = slow
    fetcher = connect()
    found = await asyncio.gather(*(fetcher.fetch(url(site, "/p")) for _ in range(40)))
    assert found == [PICTURE] * 40
    assert site.most_at_once == 16


async def test_a_fetch_that_is_given_up_frees_its_place(site, connect):
    site.pages["/silence"] = pages.silence
    fetcher = connect()
    waiting = [asyncio.create_task(fetcher.fetch(url(site, "/silence"))) for _ in range(20)]
    while site.now < 16:
        await asyncio.sleep(0.01)
    for task in waiting:
        task.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*waiting, return_exceptions=True)
    )
    assert await asyncio.wait_for(fetcher.fetch(url(site)), 20) == PICTURE


async def test_a_closed_fetcher_finishes_what_has_begun_and_begins_nothing(site, connect):
    ended = asyncio.Event()

    async def slow(writer):
        await ended.wait()
        writer.write(redirect("/"))  # so that a host is looked up after the end has begun

    site.pages["/p"] = slow
    fetcher = connect()
    fetches = [asyncio.create_task(fetcher.fetch(url(site, "/p"))) for _ in range(20)]
    while len(site.requests) < 16:
        await asyncio.sleep(0.01)
    ending = asyncio.create_task(fetcher.aclose())
    await asyncio.sleep(0)
    ended.set()
    await ending
    assert all(each.done() for each in fetches[:16])
    await fetcher.aclose()
    found = await asyncio.gather(*fetches, return_exceptions=True)
    assert found[:16] == [PICTURE] * 16
    for refused in (*found[16:], *await asyncio.gather(fetcher.fetch(url(site)), return_exceptions=True)):
        assert isinstance(refused, ImageFetchError)
        assert str(refused) == "images are not fetched any more: send the image itself as base64"


# What is told.


@pytest.mark.parametrize(
    "text",
    [
        f"http://{SECRET}@pictures.example/",
        f"http://user:{SECRET}@pictures.example/",
        f"http://user:{SECRET}/@pictures.example/",
        f"http://user:{SECRET} @pictures.example/",
        f"http://pictures.example:{SECRET}/",
        f"http://[{SECRET}]/",
        f"{SECRET}://pictures.example/",
        f"http://pictures.example/{SECRET}\n",
        f"http://pictures.example:1/{SECRET}",
        f"http://pictures.example:PORT/{SECRET}",
        f"http://pictures.example:PORT/missing?token={SECRET}",
        f"http://pictures.example:PORT/away?token={SECRET}#{SECRET}",
        f"http://pictures.example:PORT/broken?token={SECRET}",
        f"http://inside.web.example:PORT/{SECRET}?{SECRET}",
    ],
)
async def test_nothing_of_a_url_but_its_host_is_shown_or_logged(text, site, connect, names, caplog):
    caplog.set_level(logging.DEBUG)
    names.answers["inside.web.example"] = [["10.0.0.1"]]
    site.pages |= {f"/{SECRET}": answer(status="404 No"), "/missing": answer(status="404 No")}
    site.pages |= {"/away": redirect("file:///etc/passwd"), "/broken": b"no http"}
    with pytest.raises(ImageFetchError) as caught:
        await connect().fetch(text.replace("PORT", str(site.port)))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caplog.text
