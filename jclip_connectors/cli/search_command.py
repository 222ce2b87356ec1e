"""`jclip search`: the files that are nearest to a text or a picture."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import (
    CollectionOption,
    DeviceOption,
    MaxBytesOption,
    MaxPixelsOption,
    RuntimeOption,
    StoreOption,
    TimeoutOption,
    check_output,
    collection_url,
    configuration,
    existing_fingerprint,
    open_collection,
    parse_existing_file,
    parse_path,
    parse_where,
)
from jclip_connectors.port import SearchHit
from jclip_connectors.store_kit.blank_text import is_blank
from jclip_connectors.store_urls import connected


def search(
    text: Annotated[str | None, typer.Argument(help="The text to search for.", show_default=False)] = None,
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_existing_file, help="A picture to search for instead."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most results to show.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Results to leave out at the start.")] = 0,
    modality: Annotated[Literal["image", "text"] | None, typer.Option(help="Find only pictures or only texts.")] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="COSINE", help="The smallest score of a result, from -1 to 1.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Show every file; otherwise files of equal content are one result.")
    ] = False,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help='Only files like this: \'{"size_bytes": {"gte": 100000}}\'.')
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=parse_path, help="Write the results as a page with pictures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print only the paths, one on each line.")] = False,
    print0: Annotated[
        bool, typer.Option("--print0", "-0", help="Print only the paths, each with a NUL byte after it, for xargs -0.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="The folder of the model, if the collection was made with a model from a folder.")
    ] = None,
    max_pixels: MaxPixelsOption = None,
    max_bytes: MaxBytesOption = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
) -> None:
    """Find the files that are nearest to a text or a picture."""
    if (text is None) == (image is None):
        raise typer.BadParameter("give a text to search for, or a picture with --image")
    if text is not None and is_blank(text):
        raise typer.BadParameter("the text to search for is blank; give one, or a picture with --image")
    if as_json + paths + print0 > 1:
        raise typer.BadParameter("--json, --paths and --print0 exclude each other: choose one")
    check_output(html)
    condition = parse_where(where)
    with connected(collection_url(collection, store), timeout=timeout, read_only=True) as place:
        config = configuration(existing_fingerprint(place), model=model, max_pixels=max_pixels, max_bytes=max_bytes)
        source, _ = open_collection(place, config, device=device, runtime=runtime)
        hits = source.search(
            text if image is None else None,
            image=image,
            limit=limit,
            offset=offset,
            where=condition,
            modality=modality,
            score_threshold=min_score,
            group_duplicates=not duplicates,
        )
    if as_json:
        typer.echo(json.dumps([_as_json(hit) for hit in hits], indent=2))
    elif paths or print0:
        terminal.print_paths(hits, end=b"\0" if print0 else b"\n")
    else:
        terminal.show(terminal.hits_table(hits))
    if html is not None:  # after the results are printed, as it may fail
        from jclip_connectors.cli.contact_sheet import Section, write_contact_sheet  # pictures take long to load

        heading = str(text) if image is None else image.name
        section = Section(heading=heading, hits=hits, query_image=image)
        write_contact_sheet(html, "jclip search", [section], rendering=config.rendering, limits=config.image_limits)


def _as_json(hit: SearchHit) -> dict[str, Any]:
    return {
        "score": hit.score,
        "rank_score": hit.rank_score,
        "id": hit.record_id,
        "modality": hit.modality,
        "uri": hit.uri,
        "box": None if hit.box is None else list(hit.box),
        "metadata": hit.metadata,
        "content": hit.content,
        "content_hash": hit.content_hash,
        "duplicates": list(hit.duplicates),
    }
