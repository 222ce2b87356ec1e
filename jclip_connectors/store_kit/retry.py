"""The retry policy of endpoints: which calls are retried, how often and after which delay."""

import logging
from typing import Any

import tenacity

from jclip_connectors.errors import StoreUnavailableError

_LOG = logging.getLogger(__package__)
_LONGEST_TOTAL_S = 120.0  # from the first attempt to the last one, whatever waits the store asks for
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0  # doubled after each attempt, unless the store asks for a delay


def retry_options(attempts: int, *, longest_told_wait_s: float = float("inf")) -> dict[str, Any]:
    """Options for `tenacity.Retrying` and `tenacity.AsyncRetrying`, except `sleep`.

    Args:
        attempts: the largest number of attempts for a call.
        longest_told_wait_s: if the server asks for a longer delay, the error is raised without a retry.
    """

    def worth_another_try(error: BaseException) -> bool:
        if not isinstance(error, StoreUnavailableError):
            return False
        return error.retry_after_s is None or error.retry_after_s <= longest_told_wait_s

    return {
        "retry": tenacity.retry_if_exception(worth_another_try),
        "stop": tenacity.stop_any(tenacity.stop_after_attempt(attempts), tenacity.stop_before_delay(_LONGEST_TOTAL_S)),
        "wait": _wait_s,
        "before_sleep": _tell,
        "reraise": True,
    }


def _wait_s(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: as the server asks, or doubled after each attempt."""
    error = state.outcome.exception() if state.outcome is not None else None
    told = error.retry_after_s if isinstance(error, StoreUnavailableError) else None
    if told is not None:
        return told
    return min(_FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1), _LONGEST_WAIT_S)


def _tell(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    wait_s = state.next_action.sleep if state.next_action is not None else 0.0
    _LOG.warning("attempt %d failed, retrying in %.2f s: %s", state.attempt_number, wait_s, error)
