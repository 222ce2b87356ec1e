"""Keys, servers that are away, slow or busy, and what becomes of their errors."""

import logging
import socket
import time
from contextlib import closing

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
import pytest
from qdrant_client import QdrantClient

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.qdrant.errors import translate
from jclip_connectors.qdrant.store import QdrantStore, stored_fingerprint
from tests.doubles.qdrant_server import Fault, QdrantServer
from tests.qdrant.harness import CONFIG, QUERY, SEARCH, records


def test_a_key_that_may_only_read_can_search(caplog):
    caplog.set_level(logging.DEBUG)
    with QdrantServer(api_key="owner-secret", read_only_key="reader-secret") as server:

        def connect(key):
            with pytest.warns(UserWarning, match="insecure connection"):
                return closing(QdrantClient(url=server.url, api_key=key, check_compatibility=False))

        with connect("owner-secret") as client:
            owner = QdrantStore.open(client, "photos", CONFIG)
            owner.upsert(records(0, 3, metadata={"year": 2020}))
        with connect("reader-secret") as client:
            reader = QdrantStore.open(client, "photos", CONFIG)
            assert len(reader.search(QUERY, where={"year": {"gt": 2000}})) == 3
            assert reader.count() == len(list(reader.scroll())) == len(reader.get(["0", "1", "2"])) == 3
            said = [repr(reader), str(vars(reader)), caplog.text]
            for call in (lambda: reader.upsert(records(0, 1)), lambda: reader.delete(["0"])):
                with pytest.raises(
                    StoreRequestError, match=r"credentials \(HTTP 403\): check the client's API key"
                ) as caught:
                    call()
                said += [str(caught.value), repr(caught.value)]
        with connect("stolen-secret") as client, pytest.raises(StoreRequestError, match="HTTP 401") as caught:
            QdrantStore.open(client, "photos", CONFIG)
        said += [str(caught.value), repr(caught.value)]
        assert "secret" not in " ".join(said)


def test_a_key_that_is_no_header_is_not_quoted(server):
    with (
        pytest.warns(UserWarning, match="insecure connection"),
        closing(QdrantClient(url=server.url, api_key="secret\n", check_compatibility=False)) as client,
        pytest.raises(StoreRequestError) as caught,
    ):
        QdrantStore.open(client, "photos", CONFIG)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_down_is_unavailable(quick):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with closing(QdrantClient(url=f"http://127.0.0.1:{port}", check_compatibility=False)) as client:
        for call in (lambda: QdrantStore.open(client, "photos", CONFIG), lambda: stored_fingerprint(client, "photos")):
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                call()
    assert quick == [0.25, 0.5] * 2


@pytest.mark.usefixtures("quick")
def test_a_server_that_goes_away_is_unavailable(store, server):
    server.stop()
    with pytest.raises(StoreUnavailableError):
        store.count()


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_slow_is_waited_for_no_longer_than_the_client_says(server):
    with closing(QdrantClient(url=server.url, check_compatibility=False, timeout=1)) as client:
        store = QdrantStore.open(client, "photos", CONFIG)
        server.faults.append(Fault(SEARCH, delay_s=20, times=3))
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            store.search(QUERY)
        assert time.monotonic() - started < 15


def test_a_server_that_asks_to_wait_is_waited_for(store, server, quick):
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "7"}))
    assert store.search(QUERY) == []
    assert quick == [7.0]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_says_how_long_to_wait_whatever_its_status_is(store, server, quick, status):
    server.faults.append(Fault(SEARCH, status=status, headers={"Retry-After": "5"}, times=2))
    assert store.search(QUERY) == []
    assert quick == [5.0, 5.0]
    server.faults.append(Fault(SEARCH, status=status, headers={"Retry-After": "3600"}))
    with pytest.raises(StoreUnavailableError) as caught:
        store.search(QUERY)
    assert caught.value.retry_after_s == 3600.0


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for(store, server, quick):
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(StoreUnavailableError, match="asks to wait 3600 s") as caught:
        store.search(QUERY)
    assert caught.value.retry_after_s == 3600.0
    assert quick == []


def test_a_server_that_stays_busy_is_waited_for_a_minute(store, server, quick):
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "2"}, times=99))
    with pytest.raises(StoreUnavailableError) as caught:
        store.search(QUERY)
    assert caught.value.retry_after_s == 2.0
    assert quick == [2.0] * 30


def test_a_server_that_fails_and_asks_to_wait_is_tried_three_times(store, server, quick):
    server.faults.append(Fault(SEARCH, status=503, headers={"Retry-After": "2"}, times=99))
    with pytest.raises(StoreUnavailableError) as caught:
        store.search(QUERY)
    assert caught.value.retry_after_s == 2.0
    assert quick == [2.0, 2.0]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(store, server, quick, status):
    server.faults.append(Fault(SEARCH, status=status, times=2))
    assert store.search(QUERY) == []
    server.faults.append(Fault(SEARCH, status=status, times=3))
    with pytest.raises(StoreUnavailableError, match=f"HTTP {status}.: out of order"):
        store.search(QUERY)
    assert quick == [0.25, 0.5] * 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"status": {"error": "expected dim: 16"}}', r"refuses the request \(HTTP 400\): expected dim: 16"),
        (404, b"<html>lost</html>", r"\(HTTP 404\): <html>lost"),
        (413, b"", "max_request_size_mb"),
        (418, b"\xff" * 10_000, r"\(HTTP 418\)"),
        (401, b'{"status": {"error": "key secret-1 is bad"}}', "check the client's API key"),
    ],
)
def test_a_refusal_is_told_once_and_not_tried_again(store, server, status, body, message):
    server.faults.append(Fault(SEARCH, status=status, body=body, times=99))
    with pytest.raises(StoreRequestError, match=message) as caught:
        store.search(QUERY)
    assert len(server.requests) == 1
    assert len(str(caught.value)) < 1000
    assert "secret" not in str(caught.value)


def test_an_answer_of_something_else_is_told(store, server):
    server.faults.append(Fault(SEARCH, status=201, body=b'{"result": "hello"}'))
    with pytest.raises(StoreRequestError, match="check that this is a supported Qdrant server"):
        store.search(QUERY)


def test_a_collection_that_is_gone_is_told(store, client):
    client.delete_collection("photos")
    for call in (store.count, lambda: store.search(QUERY), lambda: store.upsert(records(0, 1))):
        with pytest.raises(StoreRequestError, match=r"HTTP 404.*photos"):
            call()


def test_a_closed_client_is_told(store, client):
    client.close()
    with pytest.raises(StoreRequestError, match="client is closed"):
        store.count()


def test_local_mode_refuses_as_a_server_does():
    client = QdrantClient(":memory:")
    store = QdrantStore.open(client, "photos", CONFIG)
    store.upsert(records(0, 3))
    assert store.count() == 3
    client.delete_collection("photos")
    with pytest.raises(StoreRequestError, match="not found"):
        store.count()
    client.close()
    with pytest.raises(StoreRequestError, match="closed"):
        store.count()


class CallError(grpc.RpcError):  # type: ignore[misc]  # grpcio brings no stubs
    def __init__(self, code):
        super().__init__()
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "what the server says"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, StoreUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, StoreUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StoreUnavailableError),
        (grpc.StatusCode.UNAUTHENTICATED, StoreRequestError),
        (grpc.StatusCode.INVALID_ARGUMENT, StoreRequestError),
    ],
)
def test_errors_of_the_grpc_transport_are_translated(code, kind):
    ours = translate(CallError(code))
    assert type(ours) is kind
    assert code.name in str(ours)


def test_errors_of_others_are_not_taken_for_the_clients():
    for error in (ZeroDivisionError(), KeyError("x"), OSError(28, "No space left on device")):
        assert translate(error) is None
