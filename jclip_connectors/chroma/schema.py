"""What a collection in Chroma is called, what it says about itself, and the names of its fields."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError

MODALITY, PAYLOAD, TERMS, PARENT, VERSION = "modality", "payload", "terms", "parent", "version"
_ABOUT = "jclip"  # in the metadata of a collection
_TILES = ".tiles"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*[a-zA-Z0-9]")
_SHORTEST_NAME, _LONGEST_NAME = 3, 512 - len(_TILES)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a collection says about itself.

    Attributes:
        fingerprint: of the configuration that it was made with.
        dimensions: E; `None` if it was not known when the collection was made.
        tiles: it has the tiles of another collection.
    """

    fingerprint: Fingerprint
    dimensions: int | None
    tiles: bool = False


def check_name(name: object) -> str:
    """Check the name of a collection.

    Raises:
        EmbedInputError: Chroma does not accept the name.
    """
    fits = isinstance(name, str) and _SHORTEST_NAME <= len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None
    if not isinstance(name, str) or not fits:
        raise EmbedInputError(
            f"`collection_name` is {name!r}; use {_SHORTEST_NAME} to {_LONGEST_NAME} letters of English, digits, dots, "
            "hyphens and underscores, with a letter or digit at both ends"
        )
    return name


def tiles_name(name: str) -> str:
    """The name of the collection that keeps the tiles."""
    return name + _TILES


def describe(stored: Stored) -> dict[str, Any]:
    """The metadata of a new collection."""
    about = {"fingerprint": dict(stored.fingerprint), "dimensions": stored.dimensions, "tiles": stored.tiles}
    return {_ABOUT: json.dumps(about)}


def read_description(metadata: Mapping[str, Any] | None, name: str, *, tiles: bool = False) -> Stored:
    """Read what `describe` has written.

    Raises:
        StoreRequestError: another program made the collection, or it has records instead of tiles, or tiles instead of
            records.
    """
    about = (metadata or {}).get(_ABOUT)
    if not isinstance(about, str):
        raise StoreRequestError(
            f"the collection {name!r} was not made by this package, which leaves it as it is: use another name"
        )
    read = json.loads(about)
    stored = Stored(fingerprint=read["fingerprint"], dimensions=read["dimensions"], tiles=read["tiles"])
    if stored.tiles != tiles:
        whose = name.removesuffix(_TILES)
        has = f"the tiles of the collection {whose!r}" if stored.tiles else f"records, and no tiles of {whose!r}"
        raise StoreRequestError(f"the collection {name!r} has {has}: use another name")
    return stored
