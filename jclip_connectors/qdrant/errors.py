"""qdrant-client's errors as ours. The client itself tries nothing again."""

import json

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.retry import ClientGaveUpError

_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_CALLS = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
_LONGEST_WAIT_S = 30.0  # a server that asks for more is not waited for
_CREDENTIALS = "Qdrant refuses the credentials ({}): check the API key that the client was made with, and its rights"
_SHOWN_CHARS = 500


def translate(error: Exception) -> ConnectorError | None:
    """Our error for one of qdrant-client's, `None` for any other error."""
    match error:
        case ResourceExhaustedResponse():
            kind = StoreUnavailableError if error.retry_after_s <= _LONGEST_WAIT_S else ClientGaveUpError
            return kind(
                f"Qdrant is busy and asks to wait {error.retry_after_s} s", retry_after_s=float(error.retry_after_s)
            )
        case ResponseHandlingException():
            return _of_transport(error.source)
        case UnexpectedResponse():
            return _of_status(error)
        case grpc.RpcError():
            return _of_call(error)
        case ApiException() | QdrantException():
            return StoreRequestError(f"Qdrant's client refuses this: {error}")
        case ValueError() | RuntimeError() | NotImplementedError():  # of the local mode, and of the client's own checks
            return StoreRequestError(f"Qdrant refuses this: {error}")
        case _:
            return None


def _of_transport(source: Exception) -> ConnectorError:
    """The text of most such errors is left out: it can quote a header, and so a key."""
    if isinstance(source, httpx.TimeoutException):
        return StoreUnavailableError("Qdrant has not answered in time; the client's `timeout` says how long it waits")
    if isinstance(source, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError):
        return StoreUnavailableError(f"Qdrant cannot be reached: {source}")
    if isinstance(source, RuntimeError):
        return StoreRequestError("the Qdrant client is closed: make another one")
    if isinstance(source, ValueError):
        return StoreRequestError("Qdrant's answer is not what its client expects: is it a Qdrant server, of that age?")
    return StoreRequestError(f"Qdrant's client cannot send this: {type(source).__name__}")


def _of_status(error: UnexpectedResponse) -> ConnectorError:
    status = error.status_code
    if status in (401, 403):
        return StoreRequestError(_CREDENTIALS.format(f"HTTP {status}"))
    if status in _BUSY:
        return StoreUnavailableError(f"Qdrant is busy or broken (HTTP {status}): {_told(error)}")
    if status == 413:
        return StoreRequestError("Qdrant refuses so large a request (HTTP 413): raise its `max_request_size_mb`")
    return StoreRequestError(f"Qdrant refuses this (HTTP {status}): {_told(error)}")


def _told(error: UnexpectedResponse) -> str:
    try:
        text = str(json.loads(error.content)["status"]["error"])
    except (ValueError, TypeError, KeyError):
        text = error.content.decode(errors="replace")
    return text[:_SHOWN_CHARS]


def _of_call(error: grpc.RpcError) -> ConnectorError:
    code, details = error.code(), error.details()
    if code in _BUSY_CALLS:
        return StoreUnavailableError(f"Qdrant cannot be reached or is busy ({code.name}): {details}")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return StoreRequestError(_CREDENTIALS.format(code.name))
    return StoreRequestError(f"Qdrant refuses this ({code.name}): {details}")
