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
