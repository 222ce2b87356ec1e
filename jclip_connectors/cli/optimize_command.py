"""`jclip optimize`: the search index of a large collection that no server looks after."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import collection_url, existing_fingerprint, parse_path
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_kit.places import Place
from jclip_connectors.store_urls import connected


def optimize(
    collection: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", parser=parse_path, help="The folder of the collection.", show_default=False),
    ] = None,
    *,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="A collection elsewhere instead: lancedb:PATH#TABLE or edge:PATH.")
    ] = None,
) -> None:
    """Make the search index of a large collection in a folder; an edge:PATH must not be open elsewhere meanwhile."""
    url = collection_url(collection, store)
    scheme = url.partition(":")[0]
    if scheme not in ("edge", "lancedb"):
        raise EmbedInputError(
            f"a collection of {scheme}: needs no `jclip optimize`, as its engine makes the index by itself; the "
            "command takes edge:PATH or lancedb:PATH#TABLE"
        )
    with connected(url) as place:
        terminal.say(_optimize_edge(place) if scheme == "edge" else _optimize_lance(place))


def _optimize_edge(place: Place) -> str:
    from jclip_connectors.edge.optimize import optimize_collection

    done = optimize_collection(str(place.folder))
    return f"{done.records} records, " + ("optimised" if done.changed else "nothing to do")


def _optimize_lance(place: Place) -> str:
    from jclip_connectors.lancedb import lance_optimize

    store: Any = place.open(carried_config(existing_fingerprint(place)), None)
    done = lance_optimize(store)
    return f"{done.records} records, " + ("searched by an index" if done.indexed else "each search compares them all")
