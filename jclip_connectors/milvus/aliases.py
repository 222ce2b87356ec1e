"""Aliases of collections: a second name, which can change from one collection to another in one step.

Milvus renames a collection, but not two at once, and not together with its tiles.
"""

import os
from contextlib import ExitStack

from pymilvus import MilvusClient

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.milvus.clients import Calls
from jclip_connectors.milvus.errors import translate
from jclip_connectors.milvus.opening import TIMEOUT_S, client_of, describe, look_up
from jclip_connectors.store_kit.flows import Flow, run


def aliased_collection(client: MilvusClient | str | os.PathLike[str], name: str) -> str | None:
    """The collection that an alias stands for; `None` if there is no such alias.

    Args:
        client: your client; you close it. Or the path of a Milvus Lite database.
        name: the name of the alias.

    Raises:
        StoreRequestError: Milvus refuses the request.
        StoreUnavailableError: the server cannot be reached, or another process has the Milvus Lite database open.
    """
    found = look_up(client, name)
    if found is None or found["collection_name"] == name:
        return None
    return str(found["collection_name"])


def point_alias(client: MilvusClient | str | os.PathLike[str], name: str, *, old: str, new: str) -> None:
    """Let an alias stand for another collection, in one step.

    Args:
        client: your client; you close it. Or the path of a Milvus Lite database.
        name: the name of the alias.
        old: the collection that it stands for now.
        new: the collection that it is to stand for.

    Raises:
        StoreRequestError: the alias stands for another collection meanwhile, or Milvus refuses the request.
        StoreUnavailableError: the server cannot be reached, or another process has the Milvus Lite database open.
    """
    with ExitStack() as stack:
        used, alone = client_of(client, stack)
        with alone:
            run(_point(name, old, new), used, translate=translate, attempts=1)


def _point(name: str, old: str, new: str) -> Flow[None]:
    calls = Calls(TIMEOUT_S)
    found = yield from describe(calls, name)
    now = None if found is None else found["collection_name"]
    if now != old:
        raise StoreRequestError(
            f"the alias {name!r} stood for {old!r}, and stands for {now!r} now: look who changed it"
        )
    yield calls("alter_alias", new, alias=name)
