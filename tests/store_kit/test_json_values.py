"""Values of a program as metadata: each becomes JSON, or the error says what to write."""

import enum
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from uuid import UUID

import numpy as np
import pytest
from pydantic import AnyUrl, HttpUrl

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_kit.json_values import as_metadata


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2024, 1, 31, 12, 30), "2024-01-31T12:30:00"),
        (datetime(2024, 1, 31, 12, 30, tzinfo=UTC), "2024-01-31T12:30:00+00:00"),
        (date(2024, 1, 31), "2024-01-31"),
        (time(12, 30), "12:30:00"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (PurePosixPath("a/b.jpg"), "a/b.jpg"),
        (Path("b.jpg"), "b.jpg"),
        (AnyUrl("https://example.com/a"), "https://example.com/a"),
        (HttpUrl("https://example.com/a"), "https://example.com/a"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(3.5), 3.5),
        (np.array([], dtype=np.float32), []),
        (np.datetime64("2024-01-31T12:30:00.000000001"), "2024-01-31T12:30:00.000000001"),
        (np.array(["2024-01-31"], dtype="datetime64[D]"), ["2024-01-31"]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ([1, [date(2024, 1, 31)]], [1, ["2024-01-31"]]),
        ({"a": [{"day": date(2024, 1, 31)}]}, {"a": [{"day": "2024-01-31"}]}),
        (None, None),
        (2**70, 2**70),
    ],
)
def test_a_value_with_one_form_in_json_gets_it(value, expected):
    metadata = as_metadata({"key": value}, name="`metadata`")
    assert metadata == {"key": expected}
    assert json.loads(json.dumps(metadata)) == metadata
    assert type(metadata["key"]) is type(expected)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Decimal("1.10"), r"`metadata`\['key'\] is not JSON: it is Decimal; write float\(\.\.\.\)"),
        ({1, 2}, r"`metadata`\['key'\] is not JSON: it is set; write sorted"),
        (frozenset(), r"it is frozenset; write sorted"),
        (timedelta(1), r"it is timedelta; write its total_seconds"),
        (np.timedelta64(1, "s"), r"a timedelta of numpy; write its seconds"),
        (b"a", r"it is bytes; write text"),
        (np.complex64(1), r"it is complex; write its real"),
        ([{"a": {1}}], r"`metadata`\['key'\]\[0\]\['a'\] is not JSON"),
        (float("nan"), r"`metadata`\['key'\] is not JSON"),
        (np.float32("inf"), r"`metadata`\['key'\] is not JSON"),
        (object(), r"`metadata`\['key'\] is not JSON"),
        ({1: 2}, r"keys must be strings"),
        ((1, 2), r"a tuple must be a list"),
    ],
)
def test_for_any_other_value_the_error_names_the_key_and_says_what_to_write(value, advice):
    with pytest.raises(EmbedInputError, match=advice):
        as_metadata({"key": value}, name="`metadata`")


def test_metadata_that_contains_itself_is_refused():
    endless: dict[str, object] = {}
    endless["a"] = endless
    with pytest.raises(EmbedInputError, match="is not JSON"):
        as_metadata(endless, name="`metadata`")


@pytest.mark.parametrize("metadata", [[("a", 1)], "a", None, {1: "a"}])
def test_metadata_that_is_no_object_is_refused(metadata):
    with pytest.raises(EmbedInputError, match=r"`metadata` (is|has the key)"):
        as_metadata(metadata, name="`metadata`")


def test_the_given_object_is_not_changed_and_not_shared():
    given = {"list": [1], "day": date(2024, 1, 31)}
    converted = as_metadata(given, name="`metadata`")
    converted["list"].append(2)  # type: ignore[attr-defined]
    assert given == {"list": [1], "day": date(2024, 1, 31)}
