"""What a URL says of a store, and the place that it names: for the `url.py` of each store."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.flows import Flow, run

DEFAULT_COLLECTION = "jclip"  # in a folder, where the URL names none
DEFAULTS: Mapping[str, Any] = MappingProxyType({})  # of `search`: the store's own


class OpenStore(Protocol):
    """Opens a collection."""

    def __call__(
        self, config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        """Open the collection for a configuration, or make it for vectors of the given length.

        Args:
            config: the configuration.
            dimensions: the length of the vectors; without it, the collection must exist.
            search: options of the store's own `open` that change how it searches.
        """


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of an existing or new collection.

    Attributes:
        name: for messages; without credentials.
        fingerprint: reads the collection's fingerprint; `None` if there is no collection yet.
        open: opens the collection.
        folder: the folder of an embedded collection.
        search_options: the options of the store's `open` that change how it searches.
        client: the database's client, if it has one.
        collection: what the database calls the collection.
    """

    name: str
    fingerprint: Callable[[], Fingerprint | None]
    open: OpenStore
    folder: Path | None = None
    search_options: tuple[str, ...] = ()
    client: Any = None
    collection: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerUrl:
    """The URL of a collection on a server, `SCHEME://HOST:PORT/PATH?NAME=N`; it has no credentials.

    Attributes:
        scheme: what the URL begins with.
        address: host and port as they are written.
        host: the host.
        port: the port, if the URL has one.
        path: what follows the host, percent-encoded.
        options: names and texts after the question mark, without the timeout.
        timeout_s: how long each answer is waited for, in seconds, if that is given.
        argument: how messages call the URL.
    """

    scheme: str
    address: str
    host: str
    port: int | None
    path: str
    options: tuple[tuple[str, str], ...]
    timeout_s: float | None
    argument: str

    @property
    def name(self) -> str:
        """The URL for messages, without options, which may be secret."""
        return repr(f"{self.scheme}://{self.address}{self.path}")

    def collection(self) -> str:
        """The name of the collection, which is the whole path.

        Raises:
            EmbedInputError: the path is empty or has several parts.
        """
        name = unquote(self.path.strip("/"))
        if not name or "/" in name:
            raise EmbedInputError(
                f"{self.argument} names no collection; write {self.scheme}://{self.address}/COLLECTION"
            )
        return name

    def numbers(self, defaults: Mapping[str, int] = DEFAULTS) -> dict[str, int]:
        """The numbers after the question mark, with defaults.

        Raises:
            EmbedInputError: an option has no default here, or is no number. The message does not repeat it.
        """
        numbers = dict(defaults)
        for name, text in self.options:
            if name not in defaults or not text.isdecimal():
                allowed = ", ".join(["timeout=SECONDS", *(f"{key}=N" for key in defaults)])
                raise EmbedInputError(
                    f"{self.argument} has an unknown option or a bad value ({allowed}); "
                    "give keys as environment variables"
                )
            numbers[name] = int(text)
        return numbers


@dataclass(frozen=True, kw_only=True)
class FolderUrl:
    """The URL of a collection in a folder, `SCHEME:PATH` or `SCHEME:PATH#COLLECTION`.

    Attributes:
        scheme: what the URL begins with.
        text: what follows the colon.
        read_only: the collection is only read, and may be open elsewhere.
        argument: how messages call the URL.
    """

    scheme: str
    text: str
    read_only: bool
    argument: str

    @property
    def name(self) -> str:
        """The URL for messages."""
        return repr(f"{self.scheme}:{self.text}")

    def folder(self) -> Path:
        """The folder, where all of the URL is its path.

        Raises:
            EmbedInputError: the URL names none.
        """
        return self._folder(self.text)

    def folder_and_collection(self) -> tuple[Path, str]:
        """The folder, and the name behind `#`: `jclip` if there is none.

        Raises:
            EmbedInputError: the URL names no folder, or nothing behind `#`.
        """
        path, mark, collection = self.text.rpartition("#")
        if not mark:
            return self._folder(self.text), DEFAULT_COLLECTION
        if not collection:
            raise EmbedInputError(f"{self.argument} names no collection; write {self.scheme}:PATH#COLLECTION")
        return self._folder(path), collection

    def _folder(self, path: str) -> Path:
        if not path:
            raise EmbedInputError(f"{self.argument} names no folder; write {self.scheme}:PATH")
        return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser fails for a user that does not exist)


@dataclass(frozen=True, kw_only=True)
class StoreScheme:
    """What opens the URLs of a scheme; a package with a store of its own names one as its entry point.

    Both functions register with the stack what is to be closed when the store is no longer used.

    Attributes:
        server: for `SCHEME://HOST/...`; `None` if there are no such URLs.
        folder: for `SCHEME:PATH`; `None` if there are no such URLs.
    """

    server: Callable[[ServerUrl, ExitStack], Place] | None = None
    folder: Callable[[FolderUrl, ExitStack], Place] | None = None


_Client = TypeVar("_Client")


def connect(make: Callable[[], _Client], translate: Callable[[Exception], ConnectorError | None]) -> _Client:
    """Make a database's client, once.

    Raises:
        ConnectorError: what `translate` makes of the SDK's error.
    """
    client: _Client = run(_one(lambda _: make()), None, translate=translate, attempts=1)
    return client


def _one(call: Callable[[Any], _Client]) -> Flow[_Client]:
    client: _Client = yield call
    return client
