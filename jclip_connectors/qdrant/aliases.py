"""Aliases of collections: a second name, which can change from one collection to another in one step.

A collection of Qdrant cannot be renamed, and an alias cannot have the name of a collection.
"""

from qdrant_client import QdrantClient, models

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.qdrant.errors import translate
from jclip_connectors.qdrant.operations import ATTEMPTS
from jclip_connectors.store_kit.flows import Flow, run


def aliased_collection(client: QdrantClient, name: str) -> str | None:
    """The collection that an alias stands for; `None` if there is no such alias.

    Args:
        client: your client; you close it.
        name: the name of the alias.

    Raises:
        StoreRequestError: the server refuses the request.
        StoreUnavailableError: the server cannot be reached.
    """
    return run(_aliased(name), client, translate=translate, attempts=ATTEMPTS)


def point_alias(client: QdrantClient, name: str, *, old: str, new: str) -> None:
    """Let an alias stand for another collection, in one step.

    Args:
        client: your client; you close it.
        name: the name of the alias.
        old: the collection that it stands for now.
        new: the collection that it is to stand for.

    Raises:
        StoreRequestError: the alias stands for another collection meanwhile, or the server refuses the request.
        StoreUnavailableError: the server cannot be reached.
    """
    run(_point(name, old, new), client, translate=translate, attempts=ATTEMPTS)


def _aliased(name: str) -> Flow[str | None]:
    answer: models.CollectionsAliasesResponse = yield lambda client: client.get_aliases()
    found = [each.collection_name for each in answer.aliases if each.alias_name == name]
    return found[0] if found else None


def _point(name: str, old: str, new: str) -> Flow[None]:
    now = yield from _aliased(name)
    if now != old:
        raise StoreRequestError(
            f"the alias {name!r} stood for {old!r}, and stands for {now!r} now: look who changed it"
        )
    # Both in one request, so that there is no moment without the alias.
    changes = [
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=name)),
        models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=new, alias_name=name)),
    ]
    yield lambda client: client.update_collection_aliases(change_aliases_operations=changes)
