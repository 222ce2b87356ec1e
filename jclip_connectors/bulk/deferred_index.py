"""A search index that is built once, after a load: told, and undone after a failure, an interrupt or a kill.

What the index had before is beside the marks of the store, so that the next load gives it back after a kill.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.port import VectorStore

_LOG = logging.getLogger(__package__)


@runtime_checkable
class DefersIndex(Protocol):
    """A store whose search index can be left out for a while; see `QdrantStore`."""

    def index_links(self) -> int:
        """How many links a vector has in the index; 0 without an index."""

    def usual_index_links(self) -> int:
        """How many links it has where nothing else was said."""

    def set_index_links(self, links: int) -> None:
        """Change how many links it has."""


@contextmanager
def deferred_index(store: VectorStore, folder: VectorFolder, note: str, *, defer: bool) -> Iterator[None]:
    """Leave the search index out while records are written, and build it then.

    Args:
        store: where the records are written to.
        folder: has the note.
        note: the name of the file that keeps the former number of links.
        defer: whether to leave it out; otherwise only what an earlier load has left is undone.

    Raises:
        EmbedInputError: the index of this store cannot be left out.
    """
    if not isinstance(store, DefersIndex):
        if defer:
            raise EmbedInputError("`defer_index` is True, but this store builds no index that can wait: leave it out")
        yield
        return
    former = _former(store, folder, note)
    if former is None and not defer:
        yield
        return
    if defer:
        links = store.index_links() if former is None else former
        folder.put(note, json.dumps({"m": links}).encode())
        store.set_index_links(0)
        _LOG.warning(
            "the search index is left out while records are written (m=0); it is built at the end (m=%d)", links
        )
    else:
        links = int(former or 0)
    try:
        yield
    finally:
        _give_back(store, folder, note, links)


def _former(store: DefersIndex, folder: VectorFolder, note: str) -> int | None:
    """What a load that was killed has found, or `None`."""
    try:
        kept: int = json.loads(folder.read(note))["m"]
    except FileNotFoundError:
        return None if store.index_links() else store.usual_index_links()
    return kept


def _give_back(store: DefersIndex, folder: VectorFolder, note: str, links: int) -> None:
    try:
        store.set_index_links(links)
    except ConnectorError as error:
        # Not raised: the error that has ended the load, if any, says more.
        _LOG.error("the search index is still left out (m=0); the next load gives it back: %s", error)
        return
    folder.remove(note)
    _LOG.warning("the search index is built again (m=%d), in the background", links)
