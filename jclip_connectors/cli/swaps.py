"""A new collection beside an old one, and how the two change places, for each kind of store.

| store | the new collection | how it gets the name |
|---|---|---|
| a folder | `photos.jclip-MARK` | two folders are renamed |
| PostgreSQL | `photos_MARK` | tables are renamed in one transaction |
| Qdrant | `photos-MARK` | an alias is changed, if the name is one |
| Weaviate | `Photos_MARK` | an alias is changed, if the name is one |
| LanceDB | the table `photos-MARK` | not at all: a table cannot be renamed |
| Chroma | `photos-MARK` | not at all: collections are renamed one by one |
| Milvus | `photos_MARK` | an alias is changed, if the name is one |
| Pinecone | the index `photos-MARK` | not at all: an index has no second name |

MARK is made of the fingerprint, so a run that was stopped finds its collection again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.store_kit.places import DEFAULT_COLLECTION, Place

_MARK_CHARS = 8
_EDGE = "edge"
_SEPARATORS: Mapping[str, str] = MappingProxyType(
    {"weaviate": "_", "weaviates": "_", "postgresql": "_", "postgres": "_", "milvus": "_", "milvuss": "_"}
)  # where a name may have no hyphen, or need not be quoted
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "qdrant": "Qdrant",
        "qdrants": "Qdrant",
        "weaviate": "Weaviate",
        "weaviates": "Weaviate",
        "milvus": "Milvus",
        "milvuss": "Milvus",
    }
)


@dataclass(frozen=True, kw_only=True)
class Swap:
    """How the name of a collection passes to another one.

    Attributes:
        kept: what the old collection is called afterwards, for messages.
        reason: why the name cannot pass, and what a user can do; `None` if it can.
        run: passes the name to the collection at another place, which is closed.
    """

    kept: str = ""
    reason: str | None = None
    run: Callable[[Place], None] = lambda _: None


def mark_of(fingerprint: Fingerprint) -> str:
    """What the name of a collection beside another one ends with."""
    text = json.dumps(dict(fingerprint), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_MARK_CHARS]


def url_beside(url: str, mark: str) -> str:
    """The URL of a collection beside another one, in the same database or folder."""
    scheme, _, rest = url.partition(":")
    if scheme == _EDGE:
        return f"{_EDGE}:{_folder(rest)}-{mark}"
    marked = f"{_SEPARATORS.get(scheme, '-')}{mark}"
    if not rest.startswith("//"):
        return f"{url}{marked}" if "#" in rest else f"{url}#{DEFAULT_COLLECTION}{marked}"
    parts = urlsplit(url)
    if scheme == "pinecone":
        return urlunsplit(parts._replace(netloc=f"{parts.netloc}{marked}"))
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=f"{path}{marked}"))


def finish_interrupted(url: str) -> None:
    """Finish a swap of two folders that was interrupted."""
    scheme, _, rest = url.partition(":")
    if scheme == _EDGE and rest:
        from jclip_connectors.edge.swapping import finish_swap

        finish_swap(_folder(rest))


def swap_of(url: str, place: Place, mark: str) -> Swap:
    """How the name that a URL gives passes to another collection.

    Args:
        url: the URL.
        place: the place of the collection that has the name.
        mark: of the fingerprint of that collection.

    Raises:
        StoreRequestError: the old collection cannot be kept under another name, as that is taken.
    """
    scheme, _, rest = url.partition(":")
    if scheme == _EDGE:
        return _of_folders(_folder(rest), mark)
    if scheme in ("postgresql", "postgres"):
        return _of_tables(place, mark)
    if scheme == "pinecone":
        return Swap(reason="an index of Pinecone has no second name")
    if scheme == "lancedb":
        return Swap(reason="LanceDB renames no table outside of its cloud")
    if scheme in ("chroma", "chromas"):
        return Swap(reason="Chroma renames one collection after the other, and nobody finds the name in between")
    if scheme in _ALIASES:
        return _of_alias(_ALIASES[scheme], url, place)
    return Swap(reason=f"a collection of {scheme}: has no second name")


def _of_folders(folder: Path, mark: str) -> Swap:
    from jclip_connectors.edge.swapping import swap_folders

    kept = folder.with_name(f"{folder.name}-{mark}")
    if os.path.lexists(kept):
        raise _taken(str(kept))

    def run(new: Place) -> None:
        swap_folders(folder, folder.with_name(Path(str(new.folder)).name), kept)

    return Swap(kept=repr(str(kept)), run=run)


def _of_tables(place: Place, mark: str) -> Swap:
    from jclip_connectors.pgvector import stored_fingerprint
    from jclip_connectors.pgvector.swapping import swap_collections

    kept = f"{place.collection}_{mark}"
    if stored_fingerprint(place.client, kept) is not None:
        raise _taken(kept)

    def run(new: Place) -> None:
        swap_collections(place.client, place.collection, new=new.collection, kept=kept)

    return Swap(kept=repr(kept), run=run)


def _taken(kept: str) -> StoreRequestError:
    return StoreRequestError(
        f"the old collection is to be kept as {kept!r}, which exists already: move that away or remove it first"
    )


def _of_alias(database: str, url: str, place: Place) -> Swap:
    aliased_collection, point_alias = _alias_functions(database)
    # In a folder the place has the name that was given, else it may be the one that the alias stands for.
    alias = unquote(urlsplit(url).path.strip("/")) if place.folder is None else place.collection
    old = aliased_collection(place.client, alias)
    if old is None:
        return Swap(
            reason=f"{alias!r} is the name of a collection, and of names in {database} only an alias can pass on"
        )

    def run(new: Place) -> None:
        point_alias(place.client, alias, old=old, new=new.collection)

    return Swap(kept=repr(old), run=run)


def _alias_functions(database: str) -> tuple[Callable[[Any, str], str | None], Callable[..., None]]:
    if database == "Qdrant":
        from jclip_connectors.qdrant import aliases as of_qdrant

        return of_qdrant.aliased_collection, of_qdrant.point_alias
    if database == "Milvus":
        from jclip_connectors.milvus import aliases as of_milvus

        return of_milvus.aliased_collection, of_milvus.point_alias
    from jclip_connectors.weaviate import aliases as of_weaviate

    return of_weaviate.aliased_collection, of_weaviate.point_alias


def _folder(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 (links stay; any user may be named)
