"""The places that `chroma:PATH#COLLECTION` and `chroma://HOST:PORT/COLLECTION` name, and `chromas://` with TLS.

The key of a server is `CHROMA_API_KEY`; `CHROMA_TENANT` and `CHROMA_DATABASE` name others than the default ones.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chromadb.api.client import Client
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT

from jclip_connectors.chroma.clients import ServerClient, folder_client
from jclip_connectors.chroma.errors import translate
from jclip_connectors.chroma.schema import check_name
from jclip_connectors.chroma.store import ChromaStore, stored_fingerprint
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.keys import read_key
from jclip_connectors.store_kit.places import DEFAULTS, FolderUrl, Place, ServerUrl, StoreScheme, connect

_FILE = "chroma.sqlite3"  # of every folder of Chroma
_KEY_HEADER = "X-Chroma-Token"


def _on_server(url: ServerUrl, stack: ExitStack) -> Place:
    collection = url.collection()
    url.numbers()
    secure = url.scheme == "chromas"
    key = read_key(os.environ, "CHROMA_API_KEY")

    def make() -> ServerClient:
        return ServerClient(
            url.host,
            url.port or (443 if secure else 8000),
            secure=secure,
            headers={} if key is None else {_KEY_HEADER: key},
            timeout_s=url.timeout_s,
            tenant=os.environ.get("CHROMA_TENANT", DEFAULT_TENANT),
            database=os.environ.get("CHROMA_DATABASE", DEFAULT_DATABASE),
        )

    client = connect(make, translate)
    stack.callback(client.close)
    return _place(url.name, collection, lambda: client, lambda: stored_fingerprint(client, collection))


def _in_folder(url: FolderUrl, stack: ExitStack) -> Place:
    folder, collection = url.folder_and_collection()
    check_name(collection)
    _check_folder(folder)
    opened: list[Client] = []

    def client() -> Client:
        """The client, which makes the folder."""
        if not opened:
            opened.append(connect(lambda: folder_client(folder), translate))
            stack.callback(opened[0].close)
        return opened[0]

    def fingerprint() -> Fingerprint | None:
        return stored_fingerprint(client(), collection) if (folder / _FILE).exists() else None

    return dataclasses.replace(_place(url.name, collection, client, fingerprint), folder=folder)


def _place(
    name: str, collection: str, client: Callable[[], Client], fingerprint: Callable[[], Fingerprint | None]
) -> Place:
    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        return ChromaStore.open(client(), collection, config, dimensions=dimensions, **search)

    return Place(
        name=name, fingerprint=fingerprint, open=open_store, search_options=("candidates",), collection=collection
    )


def _check_folder(folder: Path) -> None:
    """Refuse what is no folder, and a folder of other things: chromadb would put its files beside them.

    Raises:
        EmbedInputError: it is such a path.
    """
    if folder.exists() and not folder.is_dir():
        raise EmbedInputError(f"{str(folder)!r} is not a folder")
    if folder.is_dir() and not (folder / _FILE).exists() and any(folder.iterdir()):
        raise EmbedInputError(f"{str(folder)!r} has other files, and none of Chroma's: name a new or an empty folder")


SCHEME = StoreScheme(server=_on_server, folder=_in_folder)
