"""Where API keys come from, and that they stay there."""

import pytest

from core_encoder.errors import ConfigError
from jclip_connectors.server.api_keys import KEYS_VARIABLE, ApiKeys, read_api_keys
from jclip_connectors.server.limits import ServerLimits


def test_keys_are_read_from_the_environment_and_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text("third\n\n fourth \n")
    assert read_api_keys({KEYS_VARIABLE: "first, second"}, file=file) == ("first", "second", "third", "fourth")


def test_without_either_there_are_no_keys():
    assert read_api_keys({}) == ()


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_a_file_without_keys_does_not_open_the_server(tmp_path, content):
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(ConfigError, match="holds no API key"):
        read_api_keys({}, file=file)


def test_a_variable_without_keys_does_not_open_the_server():
    with pytest.raises(ConfigError, match=f"{KEYS_VARIABLE} holds no API key"):
        read_api_keys({KEYS_VARIABLE: " , "})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.*FileNotFoundError"):
        read_api_keys({}, file=tmp_path / "none")


@pytest.mark.parametrize("key", ["", " ", "key\n"])
def test_a_key_that_no_header_can_hold_is_refused(key):
    with pytest.raises(ConfigError, match="white space"):
        ApiKeys([key])


def test_no_attribute_holds_a_key():
    assert "secret-key" not in repr(ApiKeys(["secret-key"]).__dict__)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, None])
def test_a_limit_cannot_be_switched_off_by_accident(value):
    with pytest.raises(ConfigError, match="max_items"):
        ServerLimits(max_items=value)
