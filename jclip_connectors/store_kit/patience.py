"""How long a store is waited for that cannot be reached, or has too much to do.

Source of the rule of one request a second: a busy server answers each request that it refuses as well.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError, StoreUnavailableError
from jclip_connectors.port import Record

if TYPE_CHECKING:
    from jclip_connectors.store_kit.flows import Flow  # which imports this module

_LOG = logging.getLogger(__package__)
_BUSY_S = 60.0  # a store that says that it is busy, if nobody has said how long to wait
_FIRST_QUICK_WAIT_S = 0.25  # doubled after each attempt
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0  # doubled, unless the store asks for a delay
_SPACING_S = 1.0  # between two requests to a store that is busy
_PAUSE_S = 60.0  # without any request, after which a failure is no part of the former outage

Waits: TypeAlias = Callable[[StoreUnavailableError, float], None]  # is told of each wait, in seconds


class ClientGaveUpError(StoreUnavailableError):
    """The store is unavailable, and its client has already retried or timed out: there are no quick tries."""


class ConnectionLostError(StoreUnavailableError):
    """The connection that the caller has made is closed: no try on it can succeed."""


@runtime_checkable
class Patient(Protocol):
    """A store that waits for its database."""

    patience: "Patience"


class Patience:
    """How long a store is waited for; all threads and tasks that use the store share the waiting.

    A store that is busy gets at most one request a second until it has answered one, and none before the delay that it
    has asked for. The time without any success counts, of all calls.
    """

    def __init__(self, limit_s: float | None = None, *, on_wait: Waits | None = None) -> None:
        """Nothing has failed yet.

        Args:
            limit_s: how long a store may be without success. `None`: a store that says that it is busy is waited for
                up to 60 s, any other failure is tried again a few times within two seconds.
            on_wait: called before each wait.
        """
        self._limit_s = limit_s
        self._on_wait = on_wait
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._trouble_s: float | None = None  # since when nothing has succeeded
        self._active_s = 0.0  # when something was tried, or will be
        self._sent_s = -math.inf
        self._told_s: float | None = None  # when the store has said that it is busy
        self._not_before_s = -math.inf

    def delay_s(self) -> float:
        """Seconds until a request may be made; after 0.0 it must be made."""
        with self._lock:
            now = self.now_s()
            if self._told_s is not None and not self._given_up.is_set():
                at = max(self._not_before_s, self._sent_s + _SPACING_S)
                if at > now:
                    return at - now
            if self._trouble_s is not None and now - self._active_s > _PAUSE_S:
                self._trouble_s = None
            self._sent_s = now
            return 0.0

    def succeeded(self, sent_s: float) -> None:
        """A request that was made at `sent_s` has succeeded."""
        with self._lock:
            self._trouble_s = None
            if self._told_s is not None and sent_s >= self._told_s:
                self._told_s = None

    def failed(self, error: StoreUnavailableError, *, tries: int, attempts: int, hold: bool = False) -> float | None:
        """Seconds to wait before a request is made again; `None` if that is not worth it.

        Args:
            error: of the last try.
            tries: how often this request was made.
            attempts: the number of quick tries.
            hold: keep back every request meanwhile, as for a store that is busy.
        """
        with self._lock:
            now = self.now_s()
            if self._trouble_s is None:
                self._trouble_s = now
            self._active_s = now
            wait_s = self._wait_s(error, tries, attempts, now)
            if wait_s is None or self._given_up.is_set():
                return None
            self._active_s = now + wait_s
            if error.busy or hold:
                self._told_s = now
                self._not_before_s = max(self._not_before_s, now + wait_s)
        _LOG.warning("attempt %d failed, retrying in %.2f s: %s", tries, wait_s, error)
        if self._on_wait is not None:
            self._on_wait(error, wait_s)
        return wait_s

    def give_up(self) -> None:
        """Wait no longer, in any thread: what fails from now on is an error."""
        self._given_up.set()

    def wait(self, seconds: float) -> None:
        """Wait, in a blocking program, but no longer than until it is given up."""
        _pause(self._given_up, seconds)

    def _wait_s(self, error: StoreUnavailableError, tries: int, attempts: int, now: float) -> float | None:
        if isinstance(error, ConnectionLostError):
            return None
        told = error.retry_after_s
        limit_s = self._limit_s
        if limit_s is None:
            limit_s = _BUSY_S if error.busy else 0.0
        if not error.busy and not isinstance(error, ClientGaveUpError) and tries < attempts:
            return _FIRST_QUICK_WAIT_S * 2.0 ** (tries - 1) if told is None else told
        slow = tries if error.busy else max(tries - attempts + 1, 1)
        wait_s = min(_FIRST_WAIT_S * 2.0 ** min(slow - 1, 10), _LONGEST_WAIT_S) if told is None else told
        left_s = (now if self._trouble_s is None else self._trouble_s) + limit_s - now
        if told is None and left_s >= _FIRST_WAIT_S:
            wait_s = min(wait_s, left_s)  # a last try at the end
        return wait_s if limit_s > 0 and wait_s <= left_s else None

    def now_s(self) -> float:
        """The clock."""
        return time.monotonic()


def _pause(end: threading.Event, seconds: float) -> None:
    end.wait(seconds)


def check_patience(patience_s: object) -> float | None:
    """Check the option `patience_s` of a store.

    Raises:
        EmbedInputError: not a number of seconds of at least 0, and not `None`.
    """
    if patience_s is None:
        return None
    if isinstance(patience_s, bool) or not isinstance(patience_s, int | float) or not 0 <= patience_s < math.inf:
        raise EmbedInputError(f"`patience_s` is {patience_s!r}; use a number of seconds of at least 0, or None")
    return float(patience_s)


def upsert_patiently(
    upsert: "Callable[[Sequence[Record]], Flow[None]]", records: Sequence[Record], patience: Patience
) -> "Flow[None]":
    """Write records, and those again that the store could not take for a reason that passes, such as a full disk.

    Raises:
        PartialFailureError: the store refused some, or the patience has ended before it took all; the positions are
            those in `records`.
        ConnectorError: no record was written.
    """
    todo = list(range(len(records)))
    failed: dict[int, Exception] = {}
    tries = 0
    while todo:
        tries += 1
        now: dict[int, Exception] = {}
        try:
            yield from upsert([records[at] for at in todo])
        except PartialFailureError as error:
            now = {todo[at]: why for at, why in error.failed.items()}
        except ConnectorError as error:
            if tries == 1:
                raise
            now = dict.fromkeys(todo, error)
        failed = {at: why for at, why in failed.items() if at not in todo} | now
        passing = {at: why for at, why in sorted(now.items()) if isinstance(why, StoreUnavailableError)}
        todo = list(passing)
        # A call that failed was waited for; this is for answers that are no error of the call.
        if todo and patience.failed(passing[todo[0]], tries=tries, attempts=1, hold=True) is None:
            break
    if failed:
        kept = {at: None for at in range(len(records)) if at not in failed}
        raise PartialFailureError("records", failed=dict(sorted(failed.items())), kept=kept)
