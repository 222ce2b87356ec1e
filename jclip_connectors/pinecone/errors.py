"""Translation of the errors of Pinecone's SDK. No message contains a key."""

from pinecone import (
    ApiError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PineconeConnectionError,
    PineconeError,
    PineconeTimeoutError,
    ServiceError,
    UnauthorizedError,
)

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError

_ABOUT_ITEMS = frozenset({400, 413, 422})  # these statuses may be about the items in the request
_TOO_MANY_REQUESTS = 429
_BUSY = frozenset({408, 425, 429})  # and every 5xx


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of the SDK, which has already retried; `None` for any other error."""
    if isinstance(error, ApiError):
        return _of_answer(error)
    if isinstance(error, PineconeTimeoutError):
        return StoreUnavailableError(f"Pinecone did not answer in time: {error.message}")
    if isinstance(error, PineconeConnectionError):
        return StoreUnavailableError(f"Pinecone cannot be reached: {error.message}")
    if isinstance(error, PineconeError):
        return StoreRequestError(f"Pinecone's SDK refuses the request: {error}")
    if isinstance(error, RuntimeError) and "client has been closed" in str(error):
        return StoreRequestError("the store is closed: open it again")
    return None


def is_missing(error: ConnectorError) -> bool:
    """Whether the requested index, namespace or item does not exist."""
    return isinstance(error.__cause__, NotFoundError)


def is_taken(error: ConnectorError) -> bool:
    """Whether another process has already created the index."""
    return isinstance(error.__cause__, ConflictError)


def is_about_items(error: ConnectorError) -> bool:
    """Whether the error may be about the items in the request: fewer or other items may be accepted."""
    cause = error.__cause__
    if isinstance(cause, ApiError):
        return cause.status_code in _ABOUT_ITEMS
    return isinstance(error, StoreRequestError) and not isinstance(cause, RuntimeError)


def _of_answer(error: ApiError) -> ConnectorError:
    if isinstance(error, UnauthorizedError | ForbiddenError):
        # The SDK's message may quote the request's headers.
        return StoreRequestError(
            f"Pinecone refuses the API key or its permissions (status {error.status_code}): check PINECONE_API_KEY"
        )
    message = f"Pinecone answered {error.status_code}: {error.message}"
    if isinstance(error, ServiceError) or error.status_code in _BUSY:
        return StoreUnavailableError(
            message, retry_after_s=_retry_after_s(error), busy=error.status_code == _TOO_MANY_REQUESTS
        )
    return StoreRequestError(message)


def _retry_after_s(error: ApiError) -> float | None:
    told = (error.headers or {}).get("retry-after", "")
    return float(told) if told.replace(".", "", 1).isdigit() else None
