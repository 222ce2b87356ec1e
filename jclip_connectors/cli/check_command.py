"""`jclip check`: whether a search finds every record of a collection."""

from pathlib import Path
from typing import Annotated

import typer

from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import (
    StoreOption,
    TimeoutOption,
    collection_url,
    configuration,
    existing_fingerprint,
    parse_path,
)
from jclip_connectors.store_urls import connected

_NAMED = 10
_MISSING = 1  # the exit code if a search does not find some records


def check(
    collection: Annotated[
        Path | None,
        typer.Argument(metavar="COLLECTION", parser=parse_path, help="The folder of the collection."),
    ] = None,
    *,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Delete the records that are not found, and write them again.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="The folder of the model, if the collection was made with a model from a folder.")
    ] = None,
) -> None:
    """Search for every record of a collection by its own vectors, for example after the database was killed."""
    with connected(collection_url(collection, store), timeout=timeout, read_only=not repair) as place:
        report = place.open(configuration(existing_fingerprint(place), model=model), None).verify(repair=repair)
    terminal.say(f"{report.counted} records counted, {report.found} found, {len(report.missing)} not found")
    for record_id in sorted(report.missing, key=report.repaired.__contains__)[:_NAMED]:
        terminal.say(f"  {record_id}")
    if len(report.missing) > _NAMED:
        terminal.say(f"  and {len(report.missing) - _NAMED} more")
    lost = len(report.missing) - len(report.repaired)
    if report.missing:
        again = "; --repair writes them again" if not repair else "; add them again" if lost else ""
        terminal.say(f"{len(report.repaired)} written again and found, {lost} not{again}")
    if lost or report.counted != report.found + len(report.missing):
        raise typer.Exit(_MISSING)
