"""Collections that URLs name: open once in a process, however many document stores of pipelines use them.

A collection in a folder has one writer, and a saved pipeline has a document store in its writer and in each retriever.

A collection that no document store uses any more is closed at once if the last of them was closed; if they were only
forgotten, when another collection is opened or closed here, or when the process ends. The garbage collector closes
none: it runs in any thread at any time, also while another thread opens the same collection.
"""

import atexit
import os
from contextlib import ExitStack
from weakref import WeakSet

from core_encoder.forks import ForkSafeLock
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.validation import check_fingerprint
from jclip_connectors.store_urls import check_no_secret, collection_identity, connected, is_store_url


class Collection:
    """An open collection.

    Attributes:
        store: its store.
        users: the document stores that use it.
    """

    def __init__(self, url: str, config: EmbeddingConfig | None, *, read_only: bool) -> None:
        """Open the collection; see `open_collection`."""
        self.users: WeakSet[object] = WeakSet()
        self._process = os.getpid()
        with ExitStack() as stack:
            place = stack.enter_context(connected(url, read_only=read_only, argument="`url`"))
            if config is None:
                stored = place.fingerprint()
                if stored is None:
                    raise EmbedInputError(f"there is no collection {place.name}: give a `config` to make one")
                config = EmbeddingConfig.from_fingerprint(stored)
            self.store: VectorStore = place.open(config, config.embedding_dim)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close the store and its connections, which belong to the process that opened them."""
        if self._process == os.getpid():
            self._stack.close()


_open: dict[tuple[str, bool], Collection] = {}
_lock = ForkSafeLock()


def check_url(url: object) -> None:
    """Refuse what a saved pipeline must not hold; what else a URL may be is known when it is opened.

    Raises:
        EmbedInputError: not a string, or a URL with a secret, which the message does not repeat.
    """
    if not isinstance(url, str):
        raise EmbedInputError(f"`url` is {type(url).__name__}, not a string like 'edge:photos.jclip'")
    check_no_secret(url, argument="`url`")


def open_collection(user: object, url: str, config: EmbeddingConfig | None, *, read_only: bool) -> Collection:
    """The collection that a URL names, which another document store may have opened.

    Args:
        user: the document store that uses it, until `leave_collection`.
        url: a URL of a store.
        config: the configuration of the vectors; `None` is that of the collection.
        read_only: whether a collection in a folder is only read.

    Raises:
        EmbedInputError: the URL has no known form, or there is no collection and no configuration.
        CollectionMismatchError: the collection was made with another configuration.
        StoreUnavailableError: the database cannot be reached, or the collection is in use.
    """
    key = (collection_identity(url) if is_store_url(url) else url, read_only)  # the latter is refused below
    with _lock:
        found = _open.get(key)
        if found is None:
            _close_unused()
            found = _open[key] = Collection(url, config, read_only=read_only)
        elif config is not None:
            check_fingerprint(found.store.fingerprint, config.fingerprint(), collection=f"the collection {url!r}")
        found.users.add(user)
        return found


def leave_collection(user: object, collection: Collection) -> None:
    """Close a collection if `user` was the last one."""
    with _lock:
        collection.users.discard(user)
        _close_unused()


def _close_unused() -> None:
    for key in [key for key, collection in _open.items() if not collection.users]:
        _open.pop(key).close()


@atexit.register
def _close_all() -> None:
    while _open:
        _open.popitem()[1].close()
