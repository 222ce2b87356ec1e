"""Aliases of collections: a second name, which can change from one collection to another in one step.

A collection of Weaviate cannot be renamed, and an alias cannot have the name of a collection. Servers have aliases from
version 1.32 on.
"""

from typing import Any

from weaviate import WeaviateClient
from weaviate.exceptions import WeaviateUnsupportedFeatureError

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.weaviate.errors import translate
from jclip_connectors.weaviate.operations import ATTEMPTS


def aliased_collection(client: WeaviateClient, name: str) -> str | None:
    """The collection that an alias stands for; `None` if there is no such alias, or the server knows no aliases.

    Args:
        client: your client, connected; you close it.
        name: the name of the alias.

    Raises:
        StoreRequestError: the server refuses the request.
        StoreUnavailableError: the server cannot be reached.
    """
    return run(_aliased(name), client, translate=translate, attempts=ATTEMPTS)


def point_alias(client: WeaviateClient, name: str, *, old: str, new: str) -> None:
    """Let an alias stand for another collection, in one step.

    Args:
        client: your client, connected; you close it.
        name: the name of the alias.
        old: the collection that it stands for now.
        new: the collection that it is to stand for.

    Raises:
        StoreRequestError: the alias stands for another collection meanwhile, or the server refuses the request.
        StoreUnavailableError: the server cannot be reached.
    """
    run(_point(name, old, new), client, translate=translate, attempts=ATTEMPTS)


def _aliased(name: str) -> Flow[str | None]:
    def ask(client: WeaviateClient) -> Any:  # noqa: ANN401 (the client's own class, or None)
        try:
            return client.alias.get(alias_name=name)
        except WeaviateUnsupportedFeatureError:
            return None

    found = yield ask
    return None if found is None else str(found.collection)


def _point(name: str, old: str, new: str) -> Flow[None]:
    now = yield from _aliased(name)
    if now == old and (yield lambda client: client.alias.update(alias_name=name, new_target_collection=new)):
        return
    raise StoreRequestError(f"the alias {name!r} stood for {old!r}, and stands for {now!r} now: look who changed it")
