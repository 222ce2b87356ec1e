"""What the tests of the Weaviate store share."""

import threading

import grpc  # type: ignore[import-untyped]  # no stubs
import pytest

from jclip_connectors.testing.store_contract import image, vector

UNAVAILABLE, INTERNAL = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def at_once(*works):
    results, errors = [], []

    def run(work):
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 (told to the test)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, errors


CALLS = {
    "search": ("Search", lambda store: store.search(vector(1))),
    "get": ("Search", lambda store: store.get(["a"])),
    "scroll": ("Search", lambda store: store.scroll()),
    "count": ("Aggregate", lambda store: store.count()),
    "delete": ("BatchDelete", lambda store: store.delete(["a"])),
    "upsert": ("BatchObjects", lambda store: store.upsert([image("a")])),
}


def asked(server):
    """The calls, without those that each write makes first, and those that it makes before it tries again."""
    beside = {"GET /v1/schema/Photos"} | ({"BatchDelete"} if "BatchObjects" in server.calls else set())
    return [call for call in server.calls if call not in beside]


every_call = pytest.mark.parametrize(("method", "call"), CALLS.values(), ids=CALLS)
