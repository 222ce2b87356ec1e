"""How long the waits between attempts are."""

import pytest
import tenacity

from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.store_kit.retry import retry_options


def test_waits_double_until_they_are_eight_seconds():
    waited: list[float] = []
    calls = []

    def call():
        calls.append(1)
        raise StoreUnavailableError("busy")

    with pytest.raises(StoreUnavailableError):
        tenacity.Retrying(sleep=waited.append, **retry_options(9))(call)
    assert len(calls) == 9
    assert waited == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_the_waits_that_a_store_asks_for_are_made_and_end_after_two_minutes():
    waited: list[float] = []
    now = [0.0]

    def sleep(seconds):
        waited.append(seconds)
        now[0] += seconds

    def call():
        raise StoreUnavailableError("busy", retry_after_s=50.0)

    retrying = tenacity.Retrying(sleep=sleep, **retry_options(9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tenacity.time.monotonic", lambda: now[0])
        with pytest.raises(StoreUnavailableError) as caught:
            retrying(call)
    assert waited == [50.0, 50.0]
    assert caught.value.retry_after_s == 50.0
