"""The errors of `jclip_connectors`, the same for every store, framework and endpoint."""

from collections.abc import Mapping
from typing import Any

from jclip_connectors.config import Fingerprint

__all__ = [
    "CollectionMismatchError",
    "ConnectorError",
    "CopyError",
    "EmbedInputError",
    "EvaluationError",
    "MissingDependencyError",
    "PartialFailureError",
    "StoreRequestError",
    "StoreUnavailableError",
]

_NAMED_FAILURES = 5  # in the message; the attribute has all of them


class ConnectorError(Exception):
    """Base of every error of `jclip_connectors`."""


class MissingDependencyError(ConnectorError, ImportError):
    """A package that an adapter needs is not installed.

    Attributes:
        extra: the extra of this distribution that installs the package.
    """

    def __init__(self, package: str, *, extra: str) -> None:
        """Name the package and the command that installs it."""
        super().__init__(f"{package} is not installed: pip install 'jclip-connectors[{extra}]'")
        self.extra = extra


class EmbedInputError(ConnectorError, ValueError):
    """A text, image, vector, id, metadata or filter is invalid; the message names it."""


class EvaluationError(ConnectorError):
    """An evaluation cannot be done: data are missing, runs cannot be compared, or a harness failed."""


class CollectionMismatchError(ConnectorError):
    """A collection was made with another configuration.

    Attributes:
        stored: the fingerprint of the collection.
        requested: the fingerprint of the configuration that it was opened with.
    """

    def __init__(self, stored: Fingerprint, requested: Fingerprint, *, collection: str) -> None:
        """Name every field that differs."""
        names = [name for name in {**stored, **requested} if stored.get(name) != requested.get(name)]
        differing = ", ".join(f"`{name}` {stored.get(name)!r} (now {requested.get(name)!r})" for name in names)
        super().__init__(
            f"{collection} was made with {differing}: its vectors cannot be compared with new ones. "
            "Open it with its own configuration, or make a new collection"
        )
        self.stored = dict(stored)
        self.requested = dict(requested)


class CopyError(ConnectorError):
    """A copy of a collection is not what it should be: records are missing, differ or are refused.

    Attributes:
        differing: what differs, by the id of the record.
    """

    def __init__(self, message: str, *, differing: Mapping[str, str] | None = None) -> None:
        """Store the message and the differences."""
        super().__init__(message)
        self.differing = {} if differing is None else dict(differing)


class StoreUnavailableError(ConnectorError):
    """The store cannot be reached or is in use; the same call may succeed later.

    Attributes:
        retry_after_s: seconds to wait before a retry, as the store asked, or `None`.
        busy: whether the store says that it has too much to do (HTTP 429), so that fewer requests help.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, busy: bool = False) -> None:
        """Store the message and the delay."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.busy = busy


class StoreRequestError(ConnectorError):
    """The store refuses the request; the same call will fail again."""


class PartialFailureError(ConnectorError):
    """Some items of a bulk call failed; the other items succeeded and need no retry.

    Attributes:
        failed: the error of each failed item, by position.
        kept: the result of each successful item, by position (`None` if the call returns nothing).
    """

    def __init__(self, what: str, *, failed: Mapping[int, Exception], kept: Mapping[int, Any]) -> None:
        """Make a message that counts and names the failures; `what` is the plural of the items."""
        named = "; ".join(f"{position}: {error}" for position, error in list(failed.items())[:_NAMED_FAILURES])
        more = f"; and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
        super().__init__(f"{len(failed)} of {len(failed) + len(kept)} {what} failed: {named}{more}")
        self.failed = dict(failed)
        self.kept = dict(kept)

    @property
    def unavailable(self) -> dict[int, StoreUnavailableError]:
        """The failures that the same call may not meet again, by position."""
        return {at: error for at, error in self.failed.items() if isinstance(error, StoreUnavailableError)}

    @property
    def refused(self) -> dict[int, Exception]:
        """The failures that the same call will meet again, by position."""
        return {at: error for at, error in self.failed.items() if not isinstance(error, StoreUnavailableError)}
