"""Translation of weaviate-client's errors.

The client's own errors lack the status of a gRPC call, but their cause is the error of the call, which has it. The
client itself retries only calls with the status UNAVAILABLE, for up to a minute.
"""

from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
import httpx
from weaviate import exceptions

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.patience import ClientGaveUpError

_TOO_MANY_REQUESTS = 429
_OVERLOADED = frozenset({429, 500, 502, 503, 504})
# Refusals that pass by themselves: the server stops or starts, or its disk was full.
_PASSING = ("resolve node name", "store is read-only")
_CREDENTIALS = "check the client's API key"
_UNREACHABLE = (
    exceptions.WeaviateConnectionError,
    exceptions.WeaviateGRPCUnavailableError,
    exceptions.WeaviateStartUpError,
    httpx.TransportError,
)


class AllRefusedError(StoreRequestError):
    """Every object of a batch was refused, each for its own reason."""


class MissingCollectionError(StoreRequestError):
    """The server has no such collection."""


class MessageTooLargeError(StoreRequestError):
    """A request or an answer is larger than a message may be: with fewer objects it may work."""


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of weaviate-client; `None` for any other error."""
    if not isinstance(error, exceptions.WeaviateBaseError | httpx.TransportError | grpc.RpcError):
        return None
    for cause in _causes(error):
        if isinstance(cause, grpc.RpcError):
            return _of_call(cause)
    if isinstance(error, exceptions.WeaviateInsertManyAllFailedError):
        if _passes(str(error)):
            return refusal(str(error))
        return AllRefusedError(f"Weaviate refused it: {error}")
    if isinstance(error, exceptions.WeaviateClosedClientError):
        return StoreRequestError("the Weaviate client is not connected: call its `connect()` first")
    if isinstance(error, exceptions.WeaviateTimeoutError | httpx.TimeoutException):
        return ClientGaveUpError(
            "Weaviate did not answer in time: raise the client's `Timeout` (of jclip: --timeout), or retry later"
        )
    if isinstance(error, _UNREACHABLE):
        return StoreUnavailableError(f"Weaviate cannot be reached: {error}")
    return _of_status(error, getattr(error, "status_code", None))


def _of_status(error: Exception, status: int | None) -> ConnectorError:
    if status in _OVERLOADED:
        return StoreUnavailableError(
            f"Weaviate is overloaded or failing (HTTP {status}): {error}", busy=status == _TOO_MANY_REQUESTS
        )
    if status in (401, 403):
        return StoreRequestError(f"Weaviate refuses the credentials (HTTP {status}): {_CREDENTIALS}")
    if status == 404:
        return MissingCollectionError(f"Weaviate has no such collection (HTTP 404): {error}")
    kind = StoreUnavailableError if _passes(str(error)) else StoreRequestError
    return kind(f"Weaviate refuses the request: {error}")


def refusal(reason: str) -> ConnectorError:
    """The error of one object that the server refused."""
    kind = StoreUnavailableError if _passes(reason) else StoreRequestError
    return kind(f"Weaviate refused it: {reason}")


def _of_call(error: grpc.RpcError) -> ConnectorError:
    code, details = error.code(), error.details()
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return ClientGaveUpError(f"Weaviate cannot be reached: {details}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ClientGaveUpError(
                "Weaviate did not answer in time: raise the client's `Timeout` (of jclip: --timeout), or retry later"
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in (details or ""):
            return MessageTooLargeError(f"the message is too long for Weaviate: {details}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.INTERNAL | grpc.StatusCode.ABORTED:
            return StoreUnavailableError(
                f"Weaviate is overloaded or failing ({code.name}): {details}",
                busy=code is grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return StoreRequestError(f"Weaviate refuses the credentials ({code.name}): {_CREDENTIALS}")
        case _:
            kind = StoreUnavailableError if _passes(details) else StoreRequestError
            return kind(f"Weaviate refuses the request ({code.name}): {details}")


def _passes(reason: str | None) -> bool:
    return any(words in (reason or "") for words in _PASSING)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
