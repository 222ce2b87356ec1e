"""A server that is away, slow, busy or broken."""

import grpc  # type: ignore[import-untyped]  # no stubs
import pytest

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.testing.store_contract import PLAIN, image, vector
from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles.weaviate_server import WeaviateDouble
from tests.weaviate.harness import CALLS, EXHAUSTED, INTERNAL, UNAVAILABLE, asked, every_call


@every_call
@pytest.mark.parametrize("code", [INTERNAL, EXHAUSTED])
def test_a_busy_server_is_asked_again_and_then_answers(server, photos, method, call, code):
    server.fail(method, code, times=2)
    server.calls.clear()
    call(photos)
    assert asked(server) == [method] * 3


@every_call
def test_a_server_that_stays_busy_is_waited_for_a_minute(server, photos, method, call, waits):
    server.fail(method, EXHAUSTED, times=10, details="too many requests")
    server.calls.clear()
    with pytest.raises(StoreUnavailableError, match=r"overloaded or failing .RESOURCE_EXHAUSTED.: too many requests"):
        call(photos)
    assert asked(server) == [method] * 7
    assert waits == [1, 2, 4, 8, 16, 29]


@every_call
def test_what_the_client_has_tried_often_enough_is_not_tried_again(server, photos, method, call, waits):
    server.fail(method, UNAVAILABLE, times=100)
    server.calls.clear()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        call(photos)
    assert len(server.calls) <= 6
    assert len(waits) <= 6


def test_a_server_that_is_away_for_a_moment_is_waited_for_by_the_client(server, photos, waits):
    server.fail("Search", UNAVAILABLE, times=2)
    assert photos.search(vector(1)) == []
    assert waits == [1, 2]


@every_call
def test_a_slow_server_is_unavailable_once_and_not_thrice(server, method, call):
    server.delay(method, 20)
    with server.connect(timeout_s=1) as hasty:
        store = WeaviateStore.open(hasty, "Photos", PLAIN)
        server.calls.clear()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            call(store)
    assert asked(server) == [method]


@pytest.mark.parametrize("call", [call for _, call in CALLS.values()], ids=CALLS)
def test_a_server_that_is_gone_is_unavailable(call):
    with WeaviateDouble() as server, server.connect() as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        server.__exit__()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            call(store)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            WeaviateStore.open(client, "Photos", PLAIN)
        server.__enter__()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_when_a_collection_is_opened(server, client, status):
    for call in ("GET /v1/meta", "GET /v1/schema/Photos", "POST /v1/schema"):
        server.fail(call, status, times=2)
    assert WeaviateStore.open(client, "Photos", PLAIN).count() == 0


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_stays_busy_cannot_be_opened(server, client, status):
    server.fail("GET /v1/meta", status, times=7, details="slow down")
    with pytest.raises(StoreUnavailableError, match=f"HTTP {status}.*slow down"):
        WeaviateStore.open(client, "Photos", PLAIN)


def test_a_slow_server_cannot_be_opened(server):
    with server.connect(timeout_s=0.5) as hasty:
        server.delay("GET /v1/meta", 20)
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            WeaviateStore.open(hasty, "Photos", PLAIN)


def test_a_message_that_is_too_long_is_refused_and_not_tried_again(server, photos):
    details = "Sent message larger than max (120 vs. 100)"
    server.fail("BatchObjects", EXHAUSTED, times=3, details=details)
    server.calls.clear()
    with pytest.raises(StoreRequestError, match="too long"):
        photos.upsert([image("a")])
    assert asked(server) == ["BatchObjects"]


def test_what_the_server_refuses_is_not_tried_again(server, photos):
    server.fail("Search", grpc.StatusCode.UNKNOWN, times=3, details="shard is read only")
    server.calls.clear()
    with pytest.raises(StoreRequestError, match=r"refuses the request .UNKNOWN.: shard is read only"):
        photos.search(vector(1))
    assert asked(server) == ["Search"]


def test_a_client_that_is_closed_is_named(server):
    with server.connect() as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
    for call in (store.count, lambda: store.upsert([image("a")]), lambda: WeaviateStore.open(client, "Photos", PLAIN)):
        with pytest.raises(StoreRequestError, match="not connected"):
            call()
