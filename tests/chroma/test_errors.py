"""chromadb's errors as ours, on a real server behind a proxy that can fail."""

from typing import Any

import httpx
import pytest
from chromadb import errors

from jclip_connectors.chroma import ChromaStore
from jclip_connectors.chroma.errors import MissingCollectionError, translate
from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from tests.chroma.parts import CONFIG, QUERY, records


def answered(status, text="out of order"):
    """The error that chromadb raises for an answer which it cannot read."""
    error = Exception(text)
    request = httpx.Request("GET", "http://127.0.0.1")
    error.__context__ = httpx.HTTPStatusError(text, request=request, response=httpx.Response(status, request=request))
    return error


@pytest.mark.parametrize(
    ("error", "kind", "named"),
    [
        (httpx.ConnectError("refused"), StoreUnavailableError, "cannot be reached: refused"),
        (httpx.RemoteProtocolError(""), StoreUnavailableError, "cannot be reached: RemoteProtocolError"),
        (httpx.ReadTimeout("timed out"), StoreUnavailableError, "did not answer in time: timed out"),
        (errors.RateLimitError("slowly"), StoreUnavailableError, "is busy: slowly"),
        (errors.InternalError("(code: 13) database or disk is full"), StoreUnavailableError, "disk is full"),
        (errors.InternalError("(code: 5) database is locked"), StoreUnavailableError, "database is locked"),
        (errors.InternalError("what else"), StoreRequestError, "refuses the request: what else"),
        (errors.NotFoundError("Collection [x] does not exist"), MissingCollectionError, r"no such collection.*\[x\]"),
        (errors.AuthorizationError("token 123"), StoreRequestError, "refuses the credentials: check"),
        (errors.InvalidDimensionException("8, got 9"), StoreRequestError, "8, got 9"),
        (answered(503), StoreUnavailableError, r"busy or failing \(HTTP 503\): out of order"),
        (answered(429), StoreUnavailableError, r"HTTP 429"),
        (answered(401, "token 123"), StoreRequestError, r"refuses the credentials \(HTTP 401\)"),
        (answered(413), StoreRequestError, r"refuses the request \(HTTP 413\): out of order"),
        (Exception("strange"), StoreRequestError, "refuses the request: strange"),
        (ValueError("Expected IDs\nand more"), StoreRequestError, "chromadb refuses the request: Expected IDs$"),
    ],
)
def test_an_error_of_chromadb_becomes_one_of_ours(error, kind, named):
    translated: Any = translate(error)
    assert type(translated) is kind
    with pytest.raises(kind, match=named):
        raise translated
    assert "123" not in str(translated)


def test_busy_is_what_says_so():
    busy: Any = [translate(error) for error in (errors.RateLimitError("x"), answered(429), answered(503))]
    assert [error.busy for error in busy] == [True, True, False]


@pytest.mark.parametrize("error", [KeyError("x"), OSError("x"), AttributeError("x"), RuntimeError("x")])
def test_an_error_of_something_else_stays_what_it_is(error):
    assert translate(error) is None


@pytest.mark.usefixtures("quick")
def test_a_call_is_made_three_times_where_the_server_cannot_be_reached(watched, name):
    store = ChromaStore.open(watched, name, CONFIG)
    store.upsert(records(0, 2))

    def fail(*_):
        raise httpx.ConnectError("refused")

    watched.calls.clear()
    watched.fail = fail
    with pytest.raises(StoreUnavailableError, match="cannot be reached: refused"):
        store.search(QUERY)
    assert [method for _, method, _ in watched.calls] == ["query"] * 3
