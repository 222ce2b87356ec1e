"""Limits that an operator gives as texts."""

import pytest

from core_encoder.errors import ConfigError
from jclip_connectors.server.limits import ServerLimits, read_limits


def test_what_is_not_named_keeps_its_default():
    assert read_limits([]) == ServerLimits()
    assert read_limits(["max_items=64", "max_wait_s=5"]) == ServerLimits(max_items=64, max_wait_s=5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["max_item=64"], "max_items"),
        (["64"], "sets no limit"),
        (["max_items"], "integer from 1 up, not ''"),
        (["max_items=0"], "integer from 1 up"),
        (["max_items=-1"], "integer from 1 up"),
        (["max_items=1e3"], "integer from 1 up, not '1e3'"),
        (["max_items=" + "9" * 5000], "integer from 1 up"),
        (["max_items=٣"], "integer from 1 up"),
        (["max_items=1", "max_items=2"], "set twice"),
    ],
)
def test_what_would_not_limit_is_refused_by_its_name(settings, words):
    with pytest.raises(ConfigError, match=words):
        read_limits(settings)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "5"])
def test_a_limit_is_a_positive_integer(value):
    with pytest.raises(ConfigError, match="max_items"):
        ServerLimits(max_items=value)
