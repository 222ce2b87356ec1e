"""Collections that URLs name: open once in a process, however many document stores of pipelines use them.

A collection in a folder has one writer, and a saved pipeline has a document store in its writer and in each retriever.
"""

import weakref
from contextlib import ExitStack
from weakref import WeakValueDictionary

from core_encoder.forks import ForkSafeLock
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.validation import check_fingerprint
from jclip_connectors.store_urls import connected


class Collection:
    """An open collection, which is closed when nothing refers to it any more."""

    def __init__(self, url: str, config: EmbeddingConfig | None, *, read_only: bool) -> None:
        """Open the collection; see `open_collection`."""
        with ExitStack() as stack:
            place = stack.enter_context(connected(url, read_only=read_only, argument="`url`"))
            if config is None:
                stored = place.fingerprint()
                if stored is None:
                    raise EmbedInputError(f"there is no collection {place.name}: give a `config` to make one")
                config = EmbeddingConfig.from_fingerprint(stored)
            self.store: VectorStore = place.open(config, config.embedding_dim)
            weakref.finalize(self, stack.pop_all().close)


_open: WeakValueDictionary[tuple[str, bool], Collection] = WeakValueDictionary()
_opening = ForkSafeLock()


def open_collection(url: str, config: EmbeddingConfig | None, *, read_only: bool) -> Collection:
    """The collection that a URL names, which another document store may have opened.

    Args:
        url: a URL of a store.
        config: the configuration of the vectors; `None` is that of the collection.
        read_only: whether a collection in a folder is only read.

    Raises:
        EmbedInputError: the URL has no known form, or there is no collection and no configuration.
        CollectionMismatchError: the collection was made with another configuration.
        StoreUnavailableError: the database cannot be reached, or the collection is in use.
    """
    with _opening:
        found = _open.get((url, read_only))
        if found is None:
            found = _open[url, read_only] = Collection(url, config, read_only=read_only)
        elif config is not None:
            check_fingerprint(found.store.fingerprint, config.fingerprint(), collection=f"the collection {url!r}")
        return found
