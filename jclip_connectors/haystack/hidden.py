"""What is stored beside the metadata of a document, so that Haystack's filters and documents keep their meaning.

Stores filter by top-level keys, and compare numbers only. So nested values and dates have twins among the metadata,
under keys with a reserved prefix, which are taken out again when a document is read.

Dates are twice there, in microseconds: by their own clock, and, of those with a time zone, as a point in time. Haystack
compares a date without a zone as if it had the zone of the other.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "_haystack"
OWN = PREFIX  # an object: what the record of a document does not say
UNEMBEDDED = f"{PREFIX}_unembedded"  # the key of documents without a vector, which no search may find
MAX_DEPTH = 20  # of nested values that filters reach
_OPERATORS = ("and", "or", "not")  # no names of fields in the portable grammar
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True)
class Moment:
    """A date or time.

    Attributes:
        clock: microseconds from 1970 to it, by its own clock.
        instant: microseconds from 1970 to it in UTC; `None` without a time zone.
    """

    clock: int
    instant: int | None


def read_moment(text: str) -> Moment | None:
    """The date that a text is, in ISO 8601 with at least YYYY-MM-DD; `None` for other texts."""
    if len(text) < 10 or text[4] != "-" or text[7] != "-" or text[10:11] not in ("", "T", "t", " "):
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    clock = (moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    offset = moment.utcoffset()
    return Moment(clock, None if offset is None else clock - offset // _MICROSECOND)


def field_of(path: Sequence[str]) -> str:
    """The key under which the value at a path is filtered."""
    if len(path) == 1 and path[0] not in _OPERATORS:
        return path[0]
    return f"{PREFIX}_at.{'.'.join(path)}"


def clock_of(path: Sequence[str]) -> str:
    """The key of a date by its own clock."""
    return f"{PREFIX}_clock.{'.'.join(path)}"


def instant_of(path: Sequence[str]) -> str:
    """The key of a date with a zone as a point in time."""
    return f"{PREFIX}_instant.{'.'.join(path)}"


def with_twins(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with the twins of its nested values and dates."""
    return {**metadata, **dict(_twins(metadata, ()))}


def without_hidden(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as it was given."""
    return {key: value for key, value in metadata.items() if not key.startswith(PREFIX)}


def _twins(values: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if "." in key or not key:
            continue  # Haystack's filters do not reach it either
        path = (*above, key)
        if field_of(path) != key or above:
            # An object has no value of its own, but is there.
            yield field_of(path), [] if isinstance(value, Mapping) else value
        moment = read_moment(value) if isinstance(value, str) else None
        if moment is not None:
            yield clock_of(path), moment.clock
            if moment.instant is not None:
                yield instant_of(path), moment.instant
        if isinstance(value, Mapping) and len(path) < MAX_DEPTH:
            yield from _twins(value, path)
