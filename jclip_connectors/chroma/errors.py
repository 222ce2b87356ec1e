"""Translation of chromadb's errors. chromadb itself never retries."""

import httpx
from chromadb import errors

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError

_CREDENTIALS = "check the key and the permissions of the client"
_SHOWN_CHARS = 500
# Of the embedded engine, which has one class for all errors inside it: the disk is full, or another process writes.
_PASSING = ("database or disk is full", "No space left", "database is locked", "database table is locked", "timed out")
_CLOSED = ("has no attribute 'bindings'", "client has been closed")  # the folder's client, and a server's
_TAKEN = ("already exists", "UNIQUE constraint")


class MissingCollectionError(StoreRequestError):
    """There is no such collection."""


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of chromadb or of its HTTP client; `None` for any other error."""
    told = _told(error)
    match error:
        case httpx.TimeoutException():
            return StoreUnavailableError(f"Chroma did not answer in time: {told or type(error).__name__}")
        case httpx.TransportError():
            return StoreUnavailableError(f"Chroma cannot be reached: {told or type(error).__name__}")
        case errors.ChromaError():
            return _of_chroma(error, told)
        case AttributeError() | RuntimeError() if any(words in told for words in _CLOSED):
            return StoreRequestError("the Chroma client is closed: make another one")
        case ValueError() | TypeError() | OverflowError():
            return StoreRequestError(f"chromadb refuses the request: {told}")
        case _ if type(error) is Exception:  # an answer that chromadb cannot read
            return _of_answer(error, told)
        case _:
            return None


def is_taken(error: ConnectorError) -> bool:
    """Whether another process has made the collection meanwhile."""
    return isinstance(error.__cause__, errors.ChromaError) and any(words in str(error) for words in _TAKEN)


def _of_chroma(error: errors.ChromaError, told: str) -> ConnectorError:
    match error:
        case errors.NotFoundError():
            return MissingCollectionError(
                f"Chroma has no such collection or database: {told}; if it was deleted, open it again"
            )
        case errors.RateLimitError():
            return StoreUnavailableError(f"Chroma is busy: {told}", busy=True)
        case errors.ChromaAuthError() | errors.AuthorizationError():
            return StoreRequestError(f"Chroma refuses the credentials: {_CREDENTIALS}")
        case _:
            kind = StoreUnavailableError if any(words in told for words in _PASSING) else StoreRequestError
            return kind(f"Chroma refuses the request: {told}")


def _of_answer(error: Exception, told: str) -> ConnectorError:
    cause = error.__context__
    status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None
    if status in (401, 403):
        return StoreRequestError(f"Chroma refuses the credentials (HTTP {status}): {_CREDENTIALS}")
    if status == 429 or (status is not None and status >= 500):
        return StoreUnavailableError(f"Chroma is busy or failing (HTTP {status}): {told}", busy=status == 429)
    return StoreRequestError(f"Chroma refuses the request{'' if status is None else f' (HTTP {status})'}: {told}")


def _told(error: Exception) -> str:
    """The first line of the message."""
    return str(error).partition("\n")[0][:_SHOWN_CHARS]
