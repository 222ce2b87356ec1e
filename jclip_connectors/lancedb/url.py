"""The place that `lancedb:PATH#TABLE` names."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import lancedb

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.lancedb.errors import translate
from jclip_connectors.lancedb.schema import check_name
from jclip_connectors.lancedb.store import LanceStore, stored_fingerprint
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.places import DEFAULTS, FolderUrl, Place, StoreScheme, connect


def _place(url: FolderUrl, _: ExitStack) -> Place:
    folder, collection = url.folder_and_collection()
    check_name(collection)
    if folder.exists() and not folder.is_dir():
        raise StoreRequestError(f"{str(folder)!r} is a file, and no folder of LanceDB")

    # Connecting makes the folder, which a search of nothing does not.
    def client() -> lancedb.DBConnection:
        return connect(lambda: lancedb.connect(folder), translate)

    def fingerprint() -> Fingerprint | None:
        return stored_fingerprint(client(), collection) if folder.is_dir() else None

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = DEFAULTS
    ) -> VectorStore:
        return LanceStore.open(client(), collection, config, dimensions=dimensions, **search)

    return Place(
        name=url.name,
        fingerprint=fingerprint,
        open=open_store,
        folder=folder / f"{collection}.lance",
        search_options=("refine_factor", "nprobes"),
        collection=collection,
    )


SCHEME = StoreScheme(folder=_place)
