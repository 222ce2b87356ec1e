"""Input that means harm: each is refused with a string that helps, none is a 5xx, and the next request is answered.

What the decoder of images, the reader of JSON and the HTTP parser are sent here, `test_refusals` does not send.
"""

import contextlib
import json
import select
import socket
import struct
import threading
import time

import httpx
import numpy as np
import pytest

from jclip_connectors.server import protocol
from jclip_connectors.server.limits import ServerLimits
from tests.server import hostile_files
from tests.server.harness import DATA_URI, PNG, PNG_BASE64, Server, in_background
from tests.server.hostile_requests import (
    BODIES,
    GOOD,
    HEAD,
    IMAGE_TEXTS,
    LENGTH,
    PATHS,
    PROTOCOL,
    TEXTS,
    URLS,
    as_base64,
    request,
)
from tests.server.openapi_check import find_problem
from tests.server.test_refusals import check_refusal


@pytest.fixture(autouse=True)
def _the_next_good_request_gets_the_right_vectors(server, good_vectors):
    yield
    np.testing.assert_allclose(server.vectors(["a star", DATA_URI]), good_vectors, atol=1e-6)


@pytest.fixture(scope="module")
def good_vectors(encoder):
    return np.concatenate([encoder.encode_text(["a star"]), encoder.encode_image([PNG])])


def post_json(server, content, **headers):
    return server.client.post("/v1/embeddings", content=content, headers=headers)


def check_item(answer):
    assert answer.status_code == 400, answer.text
    detail = check_refusal(answer)["detail"]
    assert detail.startswith("item 1 ")
    return detail


FILES = {**hostile_files.TOO_LARGE, **hostile_files.BOMBS, **hostile_files.OTHER_FILES}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_harmless_image_is_refused(server, name):
    detail = check_item(server.post(["a star", {"image": as_base64(FILES[name])}]))
    assert "passwd" not in detail


def test_an_image_that_takes_too_long_is_given_up(model, good_vectors):
    with Server(model, limits=ServerLimits(max_decode_s=1)) as hasty:
        check_item(hasty.post(["a star", {"image": as_base64(hostile_files.THOUSAND_SCANS)}]))
        np.testing.assert_allclose(hasty.vectors(["a star", DATA_URI]), good_vectors, atol=1e-6)


def test_a_hostile_image_among_good_ones_fails_alone(server, good_vectors):
    items = [DATA_URI, *({"image": as_base64(FILES[name])} for name in hostile_files.TOO_LARGE), DATA_URI]
    answer = server.post(items, partial=True).json()
    assert [each["index"] for each in answer["data"]] == [0, len(items) - 1]
    assert len(answer["errors"]) == len(items) - 2
    for each in answer["data"]:
        np.testing.assert_allclose(each["embedding"], good_vectors[1], atol=1e-6)


@pytest.mark.parametrize("field", ["image", "url"])
@pytest.mark.parametrize("url", URLS)
def test_no_address_and_no_path_is_read(server, url, field):
    detail = check_item(server.post(["a star", {field: url}]))
    assert "127" not in detail  # an address may hold a secret
    assert "passwd" not in detail


@pytest.mark.parametrize("name", IMAGE_TEXTS)
def test_a_string_that_is_no_image_is_refused(server, name):
    check_item(server.post(["a star", {"image": IMAGE_TEXTS[name]}]))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(PNG_BASE64[place : place + 76] for place in range(0, len(PNG_BASE64), 76)),
        f"data:text/html;base64,{PNG_BASE64}",
        f"DATA:;BASE64,{PNG_BASE64}",
        f"data:image/png;charset=utf-8;a=%2c;base64,{PNG_BASE64}",
        f"data:../../etc/passwd;base64,{PNG_BASE64}",
    ],
)
def test_an_image_is_what_its_bytes_say_whatever_its_wrapping_says(server, good_vectors, text):
    np.testing.assert_allclose(server.vectors([{"image": text}])[0], good_vectors[1], atol=1e-6)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_a_text_whatever_it_says(server, encoder, name):
    vectors = server.vectors(["a star", TEXTS[name], {"text": TEXTS[name]}])
    np.testing.assert_allclose(vectors[1:], encoder.encode_text([TEXTS[name]] * 2), atol=1e-6)


def test_as_many_empty_texts_as_are_allowed_get_a_vector_each(server, encoder):
    vectors = server.vectors([""] * 2048)
    np.testing.assert_allclose(vectors, np.repeat(encoder.encode_text([""]), 2048, axis=0), atol=1e-6)


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_means_harm_is_refused(server, name):
    body = check_refusal(post_json(server, BODIES[name]))
    assert "passwd" not in body["detail"]


def test_fields_that_nobody_knows_are_left_alone_as_the_file_allows(server, good_vectors):
    unknown: dict[str, object] = {
        "__class__": "a",
        "__proto__": {"admin": True},
        "a" * 10**5: None,
        "": [],
        "user": "x",
    }
    np.testing.assert_allclose(server.vectors("a star", **unknown)[0], good_vectors[0], atol=1e-6)
    np.testing.assert_allclose(server.vectors([{"text": "a star", **unknown}])[0], good_vectors[0], atol=1e-6)


def test_a_mark_of_byte_order_before_the_body_is_passed_over(server, good_vectors):
    answer = post_json(server, b"\xef\xbb\xbf" + GOOD)
    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], good_vectors[0], atol=1e-6)


def test_of_two_equal_keys_the_later_counts(server, good_vectors):
    content = b'{"model": "gpt-4", "input": 5, "model": "nano", "input": "a star"}'
    np.testing.assert_allclose(post_json(server, content).json()["data"][0]["embedding"], good_vectors[0], atol=1e-6)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Encoding": "gzip"}, b"\x1f\x8b\x08" + bytes(50)),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
        ),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"model=nano&input=a"),
        ({"Content-Type": "application/xml"}, b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
        ({"Content-Type": "application/x-yaml"}, b"!!python/object/apply:os.system ['id']"),
        ({"Content-Type": "application/msgpack"}, b"\x82\xa5model\xa4nano\xa5input\xa1a"),
        ({"Content-Type": "application/octet-stream"}, b"\x80\x04cos\nsystem\n(S'id'\ntR."),
    ],
)
def test_a_body_in_another_language_is_refused(server, headers, content):
    check_refusal(post_json(server, content, **headers))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_nowhere_is_refused(server, path):
    status, answer = exchange(server, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status in (400, 404), answer
    assert b"X-Evil:" not in answer.partition(b"\r\n\r\n")[0]
    assert b"root:" not in answer


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "QUERY"])
def test_a_method_that_the_route_does_not_take_is_refused(server, method):
    headers = {"X-HTTP-Method-Override": "POST", "X-Forwarded-For": "127.0.0.1", "Cookie": "secret"}
    answer = server.client.request(method, "/v1/embeddings", content=GOOD, headers=headers)
    assert answer.status_code == 405
    assert "secret" not in check_refusal(answer)["detail"]


def exchange(server, *parts, pause_s=0.0):
    """Send raw bytes; give the status (None where the server hangs up without one) and all that it said."""
    said = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection, contextlib.suppress(OSError):
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        while chunk := receive(connection, 0.2 if said else 1.0):
            said += chunk
        if not said:  # it waits for more: there is none
            connection.shutdown(socket.SHUT_WR)
            said = receive(connection, 10)
    return (int(said[9:12]) if said.startswith(b"HTTP/1.") else None), said


def receive(connection, seconds):
    connection.settimeout(seconds)
    try:
        return connection.recv(2**16)
    except TimeoutError:
        return b""


@pytest.mark.parametrize("name", PROTOCOL)
def test_bytes_that_are_no_good_request_are_refused(server, name):
    status, said = exchange(server, PROTOCOL[name])
    assert status is None or 400 <= status < 500, said[:300]
    assert said.count(b"HTTP/1.1 ") <= 1  # nothing was smuggled behind it
    if status is not None:
        start, _, body = said.partition(b"\r\n\r\n")
        assert b"content-type: application/json" in start.lower()
        assert find_problem("POST", "/v1/embeddings", status, "application/json", body) is None
        assert json.loads(body)["detail"]


@pytest.mark.parametrize("protocol_name", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_wish_for_another_protocol_is_passed_over(server, good_vectors, protocol_name, parts):
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\nUpgrade: %b\r\n" % protocol_name
    whole = HEAD + wish + LENGTH + b"\r\n" + GOOD
    cuts = {1: [whole], 2: [whole[: -len(GOOD)], GOOD], 3: [whole[:60], whole[60:-5], whole[-5:]]}[parts]
    status, said = exchange(server, *cuts, pause_s=0.05)
    assert status == 200
    embedding = json.loads(said.partition(b"\r\n\r\n")[2])["data"][0]["embedding"]
    np.testing.assert_allclose(embedding, good_vectors[0], atol=1e-6)


WISH = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n"


def test_a_connection_on_which_another_protocol_was_wished_for_is_kept_or_closed_as_was_said(server):
    kept = HEAD + WISH + b"Connection: Upgrade, HTTP2-Settings\r\n" + LENGTH + b"\r\n" + GOOD
    _, said = exchange(server, kept + kept + kept.replace(b"Upgrade,", b"close, Upgrade,") + kept)
    assert said.count(b"HTTP/1.1 200") == 3
    assert b"connection: close" in said


def test_a_thousand_wishes_in_one_piece_are_passed_over(server):
    wish = b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(wish * 1000)
        said = b""
        while said.count(b'{"status":"ok"}') < 1000:
            said += connection.recv(2**20)
    assert said.count(b"HTTP/1.1 200") == 1000


def test_a_body_in_pieces_after_a_wish_for_another_protocol_is_read(server):
    pieces = b"5\r\n" + GOOD[:5] + b"\r\n%x\r\n" % len(GOOD[5:]) + GOOD[5:] + b"\r\n0\r\n\r\n"
    wish = HEAD + WISH + b"Connection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, wish + pieces)[0] == 200
    assert exchange(server, wish, pieces[:9], pieces[9:], pause_s=0.05)[0] == 200


def test_the_server_is_no_proxy(server):
    status, said = exchange(server, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert status == 400
    assert b"not a proxy" in said


def test_a_thousand_headers_do_no_harm(server):
    headers = b"".join(b"X-%d: y\r\n" % each for each in range(1000))
    status, said = exchange(server, HEAD + headers + LENGTH + b"\r\n" + GOOD)
    assert status in (200, 400, 431), said[:300]


def test_a_body_that_comes_a_byte_at_a_time_is_read(server):
    status, said = exchange(
        server,
        HEAD + LENGTH + b"\r\n",
        *(GOOD[n : n + 1] for n in range(len(GOOD))),
        pause_s=0.005,
    )
    assert status == 200, said[:300]


def test_a_body_of_twenty_million_lists_does_not_keep_others_waiting(server):
    content = request(b"[" + b"[]," * 20_000_000 + b"[]]")
    with in_background(post_json, server, content) as answers:
        waits = []
        while not answers:
            start = time.monotonic()
            assert httpx.get(f"{server.url}/live", timeout=60, trust_env=False).status_code == 200
            waits.append(time.monotonic() - start)
    assert "more than 1048576 parts" in check_refusal(answers[0])["detail"]  # they were counted, and not read
    assert max(waits) < 15


def test_a_good_request_is_answered_beside_200_that_never_finish(model, good_vectors):
    with Server(model, limits=ServerLimits(body_timeout_s=5)) as hasty:
        slow = [socket.create_connection(("127.0.0.1", hasty.port), timeout=30) for _ in range(200)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n{")
        np.testing.assert_allclose(hasty.vectors(["a star", DATA_URI]), good_vectors, atol=1e-6)
        assert select.select(slow, [], [], 0)[0] == []  # none of them has been given up yet
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
            connection.close()


def test_a_head_that_never_ends_is_given_up(server, monkeypatch):
    monkeypatch.setattr(protocol, "_HEAD_TIMEOUT_S", 1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
        slow.sendall(HEAD)
        assert slow.recv(100)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 408")


def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word(server, monkeypatch):
    monkeypatch.setattr(protocol, "_HEAD_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as idle:
        time.sleep(0.5)
        idle.sendall(HEAD + LENGTH + b"\r\n" + GOOD)  # it had time
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
    monkeypatch.setattr(protocol, "IDLE_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as idle:
        assert idle.recv(100) == b""


def test_clients_that_go_in_the_middle_leave_nothing_behind(server):
    def go(number):
        body = json.dumps({"model": "nano", "input": ["a star"] * 200 + [DATA_URI] * 20}).encode()
        content = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(content[: len(content) * number // 50])
            # Not an orderly end: the server is told that nobody is there.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    threads = [threading.Thread(target=go, args=(number,)) for number in range(1, 51)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    end = time.monotonic() + 20
    while server.engine.waiting_tokens:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert server.client.get("/ready").status_code == 200
