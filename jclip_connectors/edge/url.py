"""The place that `edge:PATH` names."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.edge.shard import check_folder
from jclip_connectors.edge.sidecar import read_sidecar
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.places import DEFAULTS, FolderUrl, Place, StoreScheme


def _place(url: FolderUrl, stack: ExitStack) -> Place:
    folder = url.folder()
    check_folder(folder)

    def fingerprint() -> Fingerprint | None:
        sidecar = read_sidecar(folder) if folder.is_dir() else None
        return None if sidecar is None else sidecar.fingerprint

    def open_store(config: EmbeddingConfig, _: int | None, /, search: Mapping[str, Any] = DEFAULTS) -> VectorStore:
        return stack.enter_context(QdrantEdgeStore.open(folder, config, read_only=url.read_only, **search))

    return Place(
        name=repr(url.text), fingerprint=fingerprint, open=open_store, folder=folder, search_options=("candidates",)
    )


SCHEME = StoreScheme(folder=_place)
