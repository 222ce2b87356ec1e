"""API keys: what they open, and that no message, log or repr shows one."""

import grpc  # type: ignore[import-untyped]  # no stubs
import pytest

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.testing.store_contract import PLAIN, ids_of, image, vector
from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles.weaviate_server import WeaviateDouble
from tests.weaviate.harness import asked, every_call

KEY = "secret-3f1c"


@pytest.fixture
def guarded():
    with WeaviateDouble(api_key=KEY) as server:
        yield server
        assert server.surprises == []


def test_the_right_key_opens_everything(guarded):
    with guarded.connect(api_key=KEY) as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        store.upsert([image("a")])
        assert ids_of(store.search(vector(1))) == ["a"]
        assert KEY not in repr(store) + repr(vars(store)) + str(store.fingerprint)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_an_error_without_the_key(guarded, caplog, status):
    caplog.set_level(0)
    with guarded.connect(api_key=KEY) as client:
        guarded.fail("GET /v1/meta", status)
        refusal = f"refuses the credentials .HTTP {status}.: check the client's API key"
        with pytest.raises(StoreRequestError, match=refusal) as caught:
            WeaviateStore.open(client, "Photos", PLAIN)
    assert KEY not in str(caught.value) + repr(caught.value) + caplog.text


@every_call
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED])
def test_a_key_that_is_withdrawn_is_an_error_without_the_key(guarded, caplog, method, call, code):
    caplog.set_level(0)
    with guarded.connect(api_key=KEY) as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        guarded.fail(method, code, times=3)
        guarded.calls.clear()
        with pytest.raises(StoreRequestError, match=f"refuses the credentials .{code.name}.") as caught:
            call(store)
    assert asked(guarded) == [method]
    assert KEY not in str(caught.value) + repr(caught.value) + caplog.text
