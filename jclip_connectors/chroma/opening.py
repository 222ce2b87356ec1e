"""Opening or making a collection in Chroma, and reading its fingerprint."""

import dataclasses
import functools
import logging
from typing import Any

from jclip_connectors.chroma.clients import Collections
from jclip_connectors.chroma.errors import MissingCollectionError, is_taken
from jclip_connectors.chroma.operations import ChromaFlows
from jclip_connectors.chroma.schema import Stored, check_name, describe, read_description, tiles_name
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.store_kit.clients import check_config
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, resolve_dimensions

_LOG = logging.getLogger(__package__)
_MOST_DIMENSIONS = 65_536
# Given at every call: otherwise chromadb takes a model of its own, which it downloads.
_NO_MODEL: dict[str, Any] = {"embedding_function": None}


def open_flow(
    name: str, config: EmbeddingConfig, *, candidates: int, dimensions: int | None
) -> Flow[tuple[Collections, ChromaFlows]]:
    """Check the options, and find the collections or make them."""
    check_config(config)
    check_name(name)
    check_count(candidates, name="candidates")
    length = resolve_dimensions(config, dimensions, most=_MOST_DIMENSIONS)
    tiled = config.tiling is not None
    new = Stored(fingerprint=config.fingerprint(), dimensions=length)
    records = yield from _find(name)
    if records is not None:
        _check(read_description(records.metadata, name), new, name)
    tiles = (yield from _tiles(tiles_name(name), dataclasses.replace(new, tiles=True))) if tiled else None
    if records is None:  # last, so that nothing of ours is left where the name of the tiles is taken
        records = yield from _make(name, new)
    stored = read_description(records.metadata, name)
    _check(stored, new, name)
    known = stored.dimensions
    if known is None:
        known = records.get_model().dimension  # of its first record
    if None not in (length, known) and length != known:
        raise EmbedInputError(
            f"`dimensions` is {length}, but the collection {name!r} was made with {known}: leave it out, or make a new "
            "collection"
        )
    flows = ChromaFlows(name, stored, dimensions=length if known is None else known, tiled=tiled, candidates=candidates)
    return Collections(records=records, tiles=tiles), flows


def find_flow(name: str) -> Flow[Fingerprint | None]:
    """The fingerprint of a collection; `None` if it does not exist."""
    records = yield from _find(check_name(name))
    return None if records is None else read_description(records.metadata, name).fingerprint


def _check(stored: Stored, new: Stored, name: str) -> None:
    check_fingerprint(stored.fingerprint, new.fingerprint, collection=f"the collection {name!r}")


def _find(name: str) -> Flow[Any]:
    try:
        return (yield lambda client: client.get_collection(name, **_NO_MODEL))
    except MissingCollectionError:
        return None


def _tiles(name: str, new: Stored) -> Flow[Any]:
    """The collection of tiles, which may be another process's."""
    found = yield from _find(name)
    if found is None:
        found = yield from _make(name, new)
    _check(read_description(found.metadata, name, tiles=True), new, name)
    return found


def _make(name: str, new: Stored) -> Flow[Any]:
    options = {"metadata": describe(new), "configuration": {"hnsw": {"space": "cosine"}}, **_NO_MODEL}
    try:
        made = yield functools.partial(_create, name=name, **options)
    except StoreRequestError as error:
        if not is_taken(error):
            raise
        made = yield from _find(name)  # another process has made it meanwhile
        if made is None:
            raise
        return made
    _LOG.debug("made the collection %r", name)
    return made


def _create(client: Any, **options: Any) -> Any:  # noqa: ANN401 (chromadb's)
    return client.create_collection(**options)
