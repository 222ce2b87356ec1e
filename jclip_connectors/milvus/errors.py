"""Translation of the errors of pymilvus, of gRPC, and of Milvus Lite.

The client itself tries again until a call's timeout, at a server that is busy or cannot be reached. Source of the
codes: pkg/util/merr/errors.go of Milvus, and milvus_lite/adapter/grpc/errors.py of Milvus Lite 3.2.
"""

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
from pymilvus.exceptions import MilvusException

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.patience import ClientGaveUpError

_NOT_CONNECTED = 2
_RATE_LIMIT = 8
_OVERLOADED = frozenset({3, 4, 7, 9})  # memory, requests, disk, a quota
_NO_COLLECTION = 100
_NOT_LOADED = 101
_NO_INDEX = 700
_NO_LOGIN = frozenset({1400, 1401})
_IN_TIME = "Milvus did not answer in time: raise `timeout_s` (of jclip: --timeout), or retry later"
_TIMED_OUT = ("Retry timeout", "loading collection timeout")  # the client's own words, without a code
_CLOSED = ("should create connection first", "closed channel")
_CREDENTIALS = (
    "Milvus refuses the credentials ({}): check the client's `token` (of jclip: MILVUS_TOKEN), and what it may do"
)
_SHOWN_CHARS = 500


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of pymilvus or gRPC; `None` for any other error."""
    _end_circle(error)
    match error:
        case MilvusException(code=grpc.StatusCode() as code):
            return _of_call(code, error.message)
        case MilvusException():
            return _of_code(error)
        case grpc.RpcError():
            return _of_call(error.code(), error.details())
        case _:
            return None


def _end_circle(error: BaseException) -> None:
    """Let no error be its own cause, as pymilvus makes them: whoever follows the causes would never end."""
    each: BaseException | None = error
    while each is not None:
        if each.__cause__ is each:
            each.__cause__ = None
        each = each.__cause__


def is_missing(error: ConnectorError) -> bool:
    """Whether the collection does not exist."""
    return _has_code(error, _NO_COLLECTION)


def is_not_loaded(error: ConnectorError) -> bool:
    """Whether the collection is not in memory, so that nothing can be searched."""
    return _has_code(error, _NOT_LOADED)


def is_not_indexed(error: ConnectorError) -> bool:
    """Whether the collection has no index, without which it cannot be brought into memory."""
    return _has_code(error, _NO_INDEX)


def _has_code(error: ConnectorError, code: int) -> bool:
    return isinstance(error.__cause__, MilvusException) and error.__cause__.code == code


def _of_code(error: MilvusException) -> ConnectorError:
    code, told = error.code, str(error.message)[:_SHOWN_CHARS]
    cause = error.__cause__
    if code == _NOT_CONNECTED and isinstance(cause, grpc.RpcError) and _is_login(cause.code()):
        return _of_call(cause.code(), None)
    if code == _RATE_LIMIT:  # before the text, which may say that it was so until the timeout
        return StoreUnavailableError(f"Milvus is busy: {told}", busy=True)
    known = _of_text(told)
    if known is not None:
        return known
    if code == _NO_COLLECTION:
        return StoreRequestError(f"the collection does not exist: {told}; open it again to make it")
    if code == _NOT_CONNECTED:
        return ClientGaveUpError(f"Milvus cannot be reached: {told}")
    if code in _NO_LOGIN:
        return StoreRequestError(_CREDENTIALS.format(f"code {code}"))
    if code in _OVERLOADED or error.retriable:
        return ClientGaveUpError(f"Milvus takes no requests of this kind now (code {code}): {told}")
    return StoreRequestError(f"Milvus refuses the request (code {code}): {told}")


def _of_text(told: str) -> ConnectorError | None:
    """Our error for what the client, or Milvus Lite, says without a code of its own."""
    if any(words in told for words in _CLOSED):
        return StoreRequestError("the Milvus client is closed: make a new client, or open the store again")
    if any(words in told for words in _TIMED_OUT):
        return ClientGaveUpError(f"{_IN_TIME}: {told}")
    if "No space left" in told:
        return StoreUnavailableError(f"Milvus Lite cannot write: {told}; make space and try again")
    return None


def _is_login(code: grpc.StatusCode) -> bool:
    return code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def _of_call(code: grpc.StatusCode, details: str | None) -> ConnectorError:
    told = str(details)[:_SHOWN_CHARS]
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return ClientGaveUpError(_IN_TIME)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return StoreUnavailableError(f"Milvus is busy ({code.name}): {told}", busy=True)
        case grpc.StatusCode.UNAVAILABLE:
            return ClientGaveUpError(f"Milvus cannot be reached: {told}")
    if _is_login(code):
        return StoreRequestError(_CREDENTIALS.format(code.name))
    return StoreRequestError(f"Milvus refuses the request ({code.name}): {told}")
