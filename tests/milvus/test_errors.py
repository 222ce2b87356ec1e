"""What errors of pymilvus, gRPC and the engine become, and how long a server is waited for."""

import contextlib
import logging
import re
import socket
import time

import grpc  # type: ignore[import-untyped]  # no stubs
import pytest
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import ConnectionConfigException, DataNotMatchException, MilvusException, ParamError

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.milvus.errors import translate
from jclip_connectors.milvus.store import MilvusStore
from jclip_connectors.store_kit.patience import ClientGaveUpError
from tests.doubles.milvus_server import RATE_LIMIT, MilvusServer
from tests.milvus.parts import CONFIG, QUERY, records

slow = pytest.mark.slow


class Refused(grpc.RpcError):  # type: ignore[misc]  # untyped
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "so it is"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MilvusException(2, "Fail connecting"), ClientGaveUpError, "cannot be reached: Fail connecting"),
        (MilvusException(8, "Retry timeout: rate"), StoreUnavailableError, "is busy: Retry timeout: rate"),
        (MilvusException(1, "[query] Retry timeout: 5s"), ClientGaveUpError, "in time: raise `timeout_s`"),
        (MilvusException(1, "wait for loading collection timeout"), ClientGaveUpError, "in time"),
        (MilvusException(7, "disk quota"), ClientGaveUpError, r"\(code 7\): disk quota"),
        (MilvusException(1, "not ready", retriable=True), ClientGaveUpError, "not ready"),
        (MilvusException(1, "OSError: No space left on device"), StoreUnavailableError, "make space"),
        (MilvusException(1, "a bug"), StoreRequestError, r"refuses the request \(code 1\): a bug"),
        (MilvusException(100, "'photos' not found"), StoreRequestError, "the collection does not exist"),
        (MilvusException(1100, "bad"), StoreRequestError, r"\(code 1100\): bad"),
        (MilvusException(1401, "no right"), StoreRequestError, "refuses the credentials"),
        (MilvusException(1, "should create connection first"), StoreRequestError, "the Milvus client is closed"),
        (MilvusException(grpc.StatusCode.UNAVAILABLE, "gone"), ClientGaveUpError, "cannot be reached: gone"),
        (ParamError(message="limit"), StoreRequestError, "limit"),
        (DataNotMatchException(message="fields"), StoreRequestError, "fields"),
        (ConnectionConfigException(message="no"), StoreRequestError, "no"),
        (Refused(grpc.StatusCode.UNAVAILABLE), ClientGaveUpError, "cannot be reached: so it is"),
        (Refused(grpc.StatusCode.DEADLINE_EXCEEDED), ClientGaveUpError, "in time"),
        (Refused(grpc.StatusCode.RESOURCE_EXHAUSTED), StoreUnavailableError, "is busy"),
        (Refused(grpc.StatusCode.UNAUTHENTICATED), StoreRequestError, "refuses the credentials"),
        (Refused(grpc.StatusCode.PERMISSION_DENIED), StoreRequestError, "refuses the credentials"),
        (Refused(grpc.StatusCode.UNIMPLEMENTED), StoreRequestError, r"\(UNIMPLEMENTED\): so it is"),
    ],
)
def test_an_error_is_of_our_kind_and_says_what_to_do(error, kind, message):
    ours = translate(error)
    assert type(ours) is kind
    assert re.search(message, str(ours))
    assert getattr(ours, "busy", False) == ("is busy" in str(ours))


def test_no_error_is_its_own_cause():
    first, second = MilvusException(1, "a"), Refused(grpc.StatusCode.UNAVAILABLE)
    first.__cause__, second.__cause__ = second, second
    translate(first)
    translate(second)
    assert (first.__cause__, second.__cause__) == (second, None)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError("x"), KeyError("x"), TimeoutError("x")])
def test_errors_of_others_are_not_taken_for_the_clients(error):
    assert translate(error) is None


def test_credentials_that_are_refused_at_the_connection_are_told():
    error = MilvusException(2, "Fail connecting to server, illegal connection params or server unavailable")
    error.__cause__ = Refused(grpc.StatusCode.UNAUTHENTICATED)
    ours = translate(error)
    assert isinstance(ours, StoreRequestError)
    assert "refuses the credentials" in str(ours)


@pytest.fixture
def server():
    with MilvusServer() as server:
        yield server


@pytest.fixture
def client(server):
    with contextlib.closing(server.connect()) as client:
        yield client


@pytest.fixture
def remote(client):
    return MilvusStore.open(client, "photos", CONFIG, timeout_s=1)


@slow
def test_a_server_that_goes_away_is_unavailable_at_once(server, client, remote):
    remote.upsert(records(0, 3))
    server.stop()
    for call in (
        remote.count,
        lambda: remote.search(QUERY),
        lambda: remote.upsert(records(0, 3)),
        lambda: remote.delete(["1"]),
        lambda: list(remote.scroll()),
        lambda: MilvusStore.open(client, "photos", CONFIG),
    ):
        with pytest.raises(ClientGaveUpError, match="cannot be reached"):
            call()


@slow
def test_a_server_that_is_slow_is_waited_for_no_longer_than_was_said(server, remote):
    server.fail("Query", "Search", "Upsert", "Delete", hold=True)
    for call in (
        remote.count,
        lambda: remote.search(QUERY),
        lambda: remote.upsert(records(0, 1)),
        lambda: remote.delete(["1"]),
    ):
        started = time.monotonic()
        with pytest.raises(ClientGaveUpError, match="did not answer in time"):
            call()
        assert time.monotonic() - started < 20


@slow
def test_a_server_that_never_answers_holds_no_call_longer_than_was_said():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(MilvusException) as caught:  # the caller's own
            MilvusClient(uri=uri, timeout=1, dedicated=True)
    assert isinstance(translate(caught.value), StoreUnavailableError)


@slow
def test_a_busy_server_is_waited_for_and_asked_no_more_than_once_a_second(server, remote, clock):
    server.fail("Query", code=RATE_LIMIT, reason="request is rejected by limiter")
    del server.calls[:]
    clock.later = [(clock.now_s + 5, server.recover)]
    assert remote.count() == 0
    assert server.calls.count("Query") <= 5
    assert sum(clock.waited) < 20


@slow
def test_a_server_that_stays_busy_is_given_up(server, client, clock):
    store = MilvusStore.open(client, "photos", CONFIG, patience_s=10)
    server.fail("Search", code=RATE_LIMIT, reason="request is rejected by limiter")
    with pytest.raises(StoreUnavailableError, match="Milvus is busy: request is rejected by limiter") as caught:
        store.search(QUERY)
    assert caught.value.busy
    assert sum(clock.waited) == pytest.approx(10, abs=2)


@slow
def test_a_server_that_refuses_is_asked_once(server, remote, caplog):
    server.fail("Query", code=1100, reason="invalid parameter")
    del server.calls[:]
    with caplog.at_level(logging.WARNING), pytest.raises(StoreRequestError, match="invalid parameter"):
        remote.count()
    assert server.calls == ["Query"]
    assert caplog.records == []


@slow
def test_a_call_that_milvus_lite_does_not_have_is_told(store):
    client = store._client
    with pytest.raises(grpc.RpcError) as caught:  # which is no error of pymilvus
        client.add_collection_field("photos", field_name="x", data_type=DataType.INT64, nullable=True)
    ours = translate(caught.value)
    assert isinstance(ours, StoreRequestError)
    assert "UNIMPLEMENTED" in str(ours)
