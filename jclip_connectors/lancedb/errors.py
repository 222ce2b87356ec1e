"""Translation of LanceDB's errors, which have no classes of their own: their texts tell what happened.

LanceDB itself tries a commit again that another writer was faster than. Messages end before the places in the source of
the engine that it names.
"""

import re
from collections.abc import Callable

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.patience import ClientGaveUpError

_SHOWN_CHARS = 500
_SOURCE = re.compile(r",? ?\(?(/[^\s,]+\.rs:\d+|[^\s,]+/src/[^\s,]+\.rs:\d+).*", re.DOTALL)
_RUST_PATHS = re.compile(r"(lance error: |LanceError\(IO\): |External error: |Wrapped error: |Generic N/A error: )")

_CONFLICT = ("commit conflict", "concurrent writers", "concurrent writes", "retryable", "contention")
_FULL = ("os error 28", "os error 122", "no space left")
_FILES = ("os error 23", "os error 24", "os error 11", "os error 4)")
_FORBIDDEN = ("permission denied", "read-only file system", "os error 13", "os error 30")
_ELSEWHERE = ("generic s3 error", "generic gcs error", "generic microsoftazure error", "error sending request")

_KINDS: tuple[tuple[tuple[str, ...], Callable[[str], ConnectorError]], ...] = (
    (_CONFLICT, lambda told: StoreUnavailableError(f"LanceDB has too many writers at once: {told}")),
    (_FULL, lambda told: StoreUnavailableError(f"LanceDB cannot write, the disk is full: {told}")),
    (_FILES, lambda told: StoreUnavailableError(f"LanceDB cannot open its files now: {told}")),
    (_FORBIDDEN, lambda told: StoreRequestError(f"LanceDB may not write or read its files: {told}")),
    (_ELSEWHERE, lambda told: ClientGaveUpError(f"LanceDB cannot reach its files: {told}")),
    (("connection is closed",), lambda _: StoreRequestError("the connection to LanceDB is closed: connect again")),
    (("table '",), lambda told: StoreRequestError(f"LanceDB refuses the request: {told}")),
    # Another program has removed old versions, or the table, between two requests for files.
    (("not found",), lambda told: StoreUnavailableError(f"a file of LanceDB is gone: {told}")),
)


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of lancedb; `None` for any other error."""
    if not isinstance(error, ValueError | RuntimeError | OSError | NotImplementedError):
        return None
    told = _told(error)
    lower = told.lower()
    for words, ours in _KINDS:
        if any(word in lower for word in words):
            return ours(told)
    return StoreRequestError(f"LanceDB refuses the request: {told}")


def _told(error: Exception) -> str:
    """The message, without the engine's own places."""
    return _RUST_PATHS.sub("", _SOURCE.sub("", str(error)))[:_SHOWN_CHARS]
