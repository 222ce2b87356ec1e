"""weaviate-client's errors as ours.

The client loses the status of a gRPC call on the way to its own errors, but each still has the call's error as its
cause: that one decides. Of the calls it makes, the client itself tries again those that were answered UNAVAILABLE, for
up to a minute, and no others.
"""

from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
import httpx
from weaviate import exceptions

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.retry import ClientGaveUpError

_OVERLOADED = frozenset({429, 500, 502, 503, 504})
_CREDENTIALS = "check the API key that the client was made with"
_UNREACHABLE = (
    exceptions.WeaviateConnectionError,
    exceptions.WeaviateGRPCUnavailableError,
    exceptions.WeaviateStartUpError,
    httpx.TransportError,
)


class AllRefusedError(StoreRequestError):
    """Each object of a batch was refused, for reasons of its own."""


def translate(error: Exception) -> ConnectorError | None:
    """Our error for one of weaviate-client's, `None` for any other error."""
    if not isinstance(error, exceptions.WeaviateBaseError | httpx.TransportError | grpc.RpcError):
        return None
    for cause in _causes(error):
        if isinstance(cause, grpc.RpcError):
            return _of_call(cause)
    if isinstance(error, exceptions.WeaviateInsertManyAllFailedError):
        return AllRefusedError(f"Weaviate refuses it: {error}")
    if isinstance(error, exceptions.WeaviateClosedClientError):
        return StoreRequestError("the Weaviate client is not connected: call its `connect()` first")
    if isinstance(error, exceptions.WeaviateTimeoutError | httpx.TimeoutException):
        return ClientGaveUpError("Weaviate has not answered in time; the client's `Timeout` says how long it waits")
    if isinstance(error, _UNREACHABLE):
        return StoreUnavailableError(f"Weaviate cannot be reached: {error}")
    status = getattr(error, "status_code", None)
    if status in _OVERLOADED:
        return StoreUnavailableError(f"Weaviate is overloaded or broken (HTTP {status}): {error}")
    if status in (401, 403):
        return StoreRequestError(f"Weaviate refuses the credentials (HTTP {status}): {_CREDENTIALS}")
    return StoreRequestError(f"Weaviate refuses this: {error}")


def _of_call(error: grpc.RpcError) -> ConnectorError:
    code, details = error.code(), error.details()
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return ClientGaveUpError(f"Weaviate cannot be reached: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ClientGaveUpError("Weaviate has not answered in time; the client's `Timeout` says how long it waits")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in (details or ""):
            return StoreRequestError(f"the message is too long for Weaviate: {details}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.INTERNAL | grpc.StatusCode.ABORTED:
            return StoreUnavailableError(f"Weaviate is overloaded or broken ({code.name}): {details}")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return StoreRequestError(f"Weaviate refuses the credentials ({code.name}): {_CREDENTIALS}")
        case _:
            return StoreRequestError(f"Weaviate refuses this ({code.name}): {details}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
