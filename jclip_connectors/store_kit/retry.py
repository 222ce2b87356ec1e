"""Which failed calls are made again, how often, and after how long; the same for stores and for endpoints."""

import logging
from typing import Any

import tenacity

from jclip_connectors.errors import StoreUnavailableError

_LOG = logging.getLogger(__package__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0  # doubled from try to try, where the store does not say how long


class ClientGaveUpError(StoreUnavailableError):
    """The store is unavailable, and its client has retried already, or has waited as long as it may: no retry here."""


def retry_options(attempts: int, *, longest_told_wait_s: float = float("inf")) -> dict[str, Any]:
    """Options for `tenacity.Retrying` and `tenacity.AsyncRetrying`, but for `sleep`.

    Args:
        attempts: how often a call is made at most.
        longest_told_wait_s: where the other side asks for a longer wait, there is no retry, and the caller is told.
    """

    def worth_another_try(error: BaseException) -> bool:
        if not isinstance(error, StoreUnavailableError) or isinstance(error, ClientGaveUpError):
            return False
        return error.retry_after_s is None or error.retry_after_s <= longest_told_wait_s

    return {
        "retry": tenacity.retry_if_exception(worth_another_try),
        "stop": tenacity.stop_after_attempt(attempts),
        "wait": _wait_s,
        "before_sleep": _tell,
        "reraise": True,
    }


def _wait_s(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: what was asked for with the error, else doubled from try to try."""
    error = state.outcome.exception() if state.outcome is not None else None
    told = error.retry_after_s if isinstance(error, StoreUnavailableError) else None
    if told is not None:
        return told
    return min(_FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1), _LONGEST_WAIT_S)


def _tell(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    wait_s = state.next_action.sleep if state.next_action is not None else 0.0
    _LOG.warning("attempt %d failed, the next one is in %.2f s: %s", state.attempt_number, wait_s, error)
