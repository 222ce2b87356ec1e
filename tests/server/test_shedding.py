"""While the queue is full, requests are refused before the application sees them, as it would refuse them itself."""

import json
import logging
import socket

import pytest

from jclip_connectors.server import protocol
from jclip_connectors.server.limits import ServerLimits
from tests.server.harness import Server, in_background, wait_until
from tests.server.openapi_check import find_problem
from tests.server.test_observation import lines, metric

BODY = b'{"model": "nano", "input": "a star"}'
LENGTH = len(BODY)
POSTS = ["/v1/embeddings", "/v2/embed", "/embed", "/", "/vectorize", "/invocations", "/predict", "/score"]


@pytest.fixture
def full(held_model, held):
    """A server that has as many requests as it takes: one."""
    limits = ServerLimits(max_waiting_requests=1)
    with Server(held_model, limits=limits) as server:
        with in_background(server.post, "first") as first:
            wait_until(lambda: len(held.batches) == 1)
            yield server
            held.gate.set()
        assert [answer.status_code for answer in first] == [200]
        wait_until(lambda: shedding(server).unanswered == 0)


def shedding(server):
    return server.uvicorn.lifespan.state["shedding"]


def head(path="/v1/embeddings", *, length=LENGTH, more=b""):
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (path.encode(), length, more)


def ask(server, *parts):
    """Send raw bytes, and give what comes back until no more comes for a moment."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"".join(parts))
        said = connection.recv(2**16)
        connection.settimeout(1)
        try:
            while piece := connection.recv(2**16):
                said += piece
        except TimeoutError:
            return said, "open"
        return said, "closed"


@pytest.mark.parametrize("path", POSTS)
def test_the_refusal_is_the_one_that_the_application_would_write(full, path):
    early = full.client.post(path, content=BODY)
    assert 429 not in full.judged.statuses  # the application knows nothing of it
    late = full.client.post(path, content=iter([BODY]))  # of no known length
    assert 429 in full.judged.statuses
    ids = ("x-request-id", "date")
    assert {name: value for name, value in early.headers.items() if name not in ids} == {
        name: value for name, value in late.headers.items() if name not in ids
    }
    assert early.status_code == late.status_code == 429
    assert int(early.headers["Retry-After"]) >= 1
    for answer in (early, late):
        assert find_problem("POST", path, 429, answer.headers["Content-Type"], answer.content) is None
    assert early.text.replace(early.headers["X-Request-ID"], "") == late.text.replace(late.headers["X-Request-ID"], "")


def test_what_is_no_embedding_is_answered_while_the_queue_is_full(full):
    assert full.client.get("/health").status_code == 200
    assert full.client.get("/v1/models").status_code == 200
    assert full.client.get("/ready").status_code == 503
    assert full.client.post("/nothing", content=BODY).status_code == 404
    assert full.client.get("/v1/embeddings").status_code == 405


def test_requests_that_have_arrived_count_before_the_application_has_admitted_them(held_model):
    with Server(held_model, limits=ServerLimits(max_waiting_requests=3)) as server:
        shedding(server).unanswered += 3  # as while the bodies of three are read
        assert server.engine.has_room()
        assert server.post("a star").status_code == 429
        assert 429 not in server.judged.statuses
        shedding(server).unanswered -= 3


def test_a_connection_is_kept_and_answers_again_when_there_is_room(full, held):
    with socket.create_connection(("127.0.0.1", full.port), timeout=10) as connection:
        connection.sendall((head() + BODY) * 3)  # before an answer is read
        said = b""
        while said.count(b"HTTP/1.1 429") < 3 or not said.endswith(b"}"):
            said += connection.recv(2**16)
        held.gate.set()
        wait_until(lambda: shedding(full).unanswered == 0)
        connection.sendall(head() + BODY)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200")


def test_a_client_that_asks_to_close_is_closed(full):
    said, state = ask(full, head(more=b"Connection: close\r\n"), BODY)
    assert said.startswith(b"HTTP/1.1 429")
    assert state == "closed"


def test_a_second_request_behind_one_that_waits_is_answered_second(full, held):
    with socket.create_connection(("127.0.0.1", full.port), timeout=10) as connection:
        full.engine._max_waiting_requests = 2
        connection.sendall(head() + BODY)
        wait_until(lambda: shedding(full).unanswered == 2)
        connection.sendall(head() + BODY)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        held.gate.set()
        connection.settimeout(10)
        said = b""
        while said.count(b'"usage"') < 2:
            said += connection.recv(2**16)
        assert said.count(b"HTTP/1.1 200") == 2


def test_a_large_body_is_refused_by_the_application(full):
    said, _ = ask(full, head(length=10**6), b"{")
    assert said.startswith(b"HTTP/1.1 429")
    assert 429 in full.judged.statuses


def test_a_client_that_asks_before_it_sends_is_told_at_once(full):
    said, _ = ask(full, head(more=b"Expect: 100-continue\r\n"))
    assert said.startswith(b"HTTP/1.1 429")


def test_a_body_that_never_comes_is_given_up(full, monkeypatch):
    monkeypatch.setattr(protocol, "_HEAD_TIMEOUT_S", 0.1)
    said, state = ask(full, head(), BODY[:5])
    assert said.startswith(b"HTTP/1.1 400")
    assert state == "closed"


def test_clients_that_go_leave_room(full):
    full.engine._max_waiting_requests = 4
    gone = [socket.create_connection(("127.0.0.1", full.port), timeout=10) for _ in range(3)]
    for connection in gone:
        connection.sendall(head() + BODY)
    wait_until(lambda: shedding(full).unanswered == 4)
    assert full.post("a star").status_code == 429
    for connection in gone:
        connection.close()
    wait_until(lambda: shedding(full).unanswered == 1)


def test_refusals_of_a_moment_are_one_line_and_are_all_counted(full, caplog):
    with caplog.at_level(logging.INFO):
        answers = [full.post("secret words") for _ in range(20)]
        counted = 'jclip_requests_total{route="/v1/embeddings",status="429"}'
        wait_until(lambda: counted in full.client.get("/metrics").text and metric(full, counted) == 20)
    told = [line for line in lines(caplog) if line.get("refused")]
    assert sum(line["refused"] for line in told) == 20
    assert len(told) < 20
    assert {line["request_id"] for line in told} == {answer.headers["X-Request-ID"] for answer in answers}
    assert {line["code"] for line in told} == {"RATE_CONCURRENCY_LIMIT_EXCEEDED"}
    assert "secret" not in json.dumps(lines(caplog))
