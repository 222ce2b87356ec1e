"""Translation of qdrant-client's errors. The client itself never retries."""

import json

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.patience import ClientGaveUpError

_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_CALLS = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
_TOO_MANY_REQUESTS = 429
_LONGEST_WAIT_S = 30.0  # longer delays that a failing server asks for need more than quick tries
_CREDENTIALS = "Qdrant refuses the credentials ({}): check the client's API key and its permissions"
_SHOWN_CHARS = 500


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of qdrant-client; `None` for any other error."""
    match error:
        case ResourceExhaustedResponse():
            return StoreUnavailableError(
                f"Qdrant is busy and asks to wait {error.retry_after_s} s",
                retry_after_s=float(error.retry_after_s),
                busy=True,
            )
        case ResponseHandlingException():
            return _of_transport(error.source)
        case UnexpectedResponse():
            return _of_status(error)
        case grpc.RpcError():
            return _of_call(error)
        case ApiException() | QdrantException():
            return StoreRequestError(f"Qdrant's client refuses the request: {error}")
        case ValueError() | RuntimeError() | NotImplementedError():  # from the local mode and the client's own checks
            return StoreRequestError(f"Qdrant refuses the request: {error}")
        case _:
            return None


def _of_transport(source: Exception) -> ConnectorError:
    """Translate a connection error; most texts are left out, because they can quote a header with a key."""
    if isinstance(source, httpx.TimeoutException):
        return StoreUnavailableError(
            "Qdrant did not answer in time: raise the client's `timeout` (of jclip: --timeout), or retry later"
        )
    if isinstance(source, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError):
        return StoreUnavailableError(f"Qdrant cannot be reached: {source}")
    if isinstance(source, RuntimeError):
        return StoreRequestError("the Qdrant client is closed: make a new client")
    if isinstance(source, ValueError):
        return StoreRequestError("the client cannot read the answer: check that this is a supported Qdrant server")
    return StoreRequestError(f"Qdrant's client cannot send the request: {type(source).__name__}")


def _of_status(error: UnexpectedResponse) -> ConnectorError:
    status = error.status_code
    if status in (401, 403):
        return StoreRequestError(_CREDENTIALS.format(f"HTTP {status}"))
    if status in _BUSY:
        message = f"Qdrant is overloaded or failing (HTTP {status}): {_told(error)}"
        told_s = _retry_after_s(error)
        kind = ClientGaveUpError if told_s is not None and told_s > _LONGEST_WAIT_S else StoreUnavailableError
        return kind(message, retry_after_s=told_s, busy=status == _TOO_MANY_REQUESTS)
    if status == 413:
        return StoreRequestError("the request is too large (HTTP 413): raise the server's `max_request_size_mb`")
    return StoreRequestError(f"Qdrant refuses the request (HTTP {status}): {_told(error)}")


def _retry_after_s(error: UnexpectedResponse) -> float | None:
    told = error.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else None


def _told(error: UnexpectedResponse) -> str:
    try:
        text = str(json.loads(error.content)["status"]["error"])
    except (ValueError, TypeError, KeyError):
        text = error.content.decode(errors="replace")
    return text[:_SHOWN_CHARS]


def _of_call(error: grpc.RpcError) -> ConnectorError:
    code, details = error.code(), error.details()
    if code in _BUSY_CALLS:
        return StoreUnavailableError(
            f"Qdrant cannot be reached or is busy ({code.name}): {details}",
            busy=code is grpc.StatusCode.RESOURCE_EXHAUSTED,
        )
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return StoreRequestError(_CREDENTIALS.format(code.name))
    return StoreRequestError(f"Qdrant refuses the request ({code.name}): {details}")
