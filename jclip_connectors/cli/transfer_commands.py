"""`jclip export` and `jclip import`: `jclip copy` to and from a folder of Parquet files."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from jclip_connectors.bulk.copying import BATCH_RECORDS
from jclip_connectors.cli import terminal
from jclip_connectors.cli.copy_command import (
    BatchSizeOption,
    DimensionsOption,
    DryRunOption,
    ReportOption,
    WhereOption,
    run_copy,
)
from jclip_connectors.cli.copy_places import opened_source, parquet_url
from jclip_connectors.cli.options import check_output, parse_path
from jclip_connectors.errors import EmbedInputError, MissingDependencyError

_STORE = (
    "STORE is a folder, edge:PATH, qdrant://HOST:PORT/NAME, weaviate://HOST:PORT/NAME, pinecone://INDEX or "
    "postgresql://HOST:PORT/DATABASE/NAME, as for --store. FOLDER is a path, or a URL such as s3://bucket/folder. "
)
EXPORT_NOTES = f"{_STORE}A second run adds what is new or has changed. `jclip export onnx MODEL OUT` writes a model."
IMPORT_NOTES = f"{_STORE}After an interrupt the same command goes on. Exit code 1 means that STORE has refused records."


def export(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The collection to read.", show_default=False)],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder to write.", show_default=False)],
    *,
    dimensions: DimensionsOption = None,
    where: WhereOption = None,
    batch_size: BatchSizeOption = BATCH_RECORDS,
    report: ReportOption = None,
    dry_run: DryRunOption = False,
    atlas: Annotated[
        bool,
        typer.Option("--atlas", help="Write one file instead, a map with small pictures, for Embedding Atlas."),
    ] = False,
    side: Annotated[
        int | None,
        typer.Option(min=16, max=1024, help="With --atlas: the longest side of a picture, in pixels; default: 128."),
    ] = None,
    project: Annotated[
        Literal["pca", "none"] | None,
        typer.Option(help="With --atlas: pca places each record on the map, none leaves it out; default: pca."),
    ] = None,
) -> None:
    """Write a collection with its vectors into Parquet files, for pandas, DuckDB and others."""
    if atlas:
        if dimensions is not None or where is not None or report is not None or dry_run:
            raise EmbedInputError("--dimensions, --where, --report and --dry-run have no effect with --atlas")
        _export_atlas(store, parse_path(folder), side=side or 128, project=project or "pca")
        return
    if side is not None or project is not None:
        raise EmbedInputError("--side and --project have no effect without --atlas")
    run_copy(
        store,
        parquet_url(folder),
        dimensions=dimensions,
        where=where,
        batch_size=batch_size,
        report=report,
        dry_run=dry_run,
        names=("STORE", "FOLDER"),
    )


def _export_atlas(store: str, path: Path, *, side: int, project: Literal["pca", "none"]) -> None:
    """Write the map of a collection, and say how it is opened."""
    if path.suffix != ".parquet":
        raise EmbedInputError(f"--atlas writes one file: name it with .parquet, not {str(path)!r}")
    check_output(path)
    with opened_source(store, "STORE") as source:
        try:
            from jclip_connectors.bulk.atlas import write_atlas
        except ModuleNotFoundError as error:
            raise MissingDependencyError(str(error.name), extra="bulk") from error
        as_stored = source.records.fingerprint.get("rendering") == "as_stored"
        count = write_atlas(
            source.records.scroll(),
            path,
            side=side,
            project=project,
            rendering="as_stored" if as_stored else "as_seen",
        )
    shown = "--x x --y y --disable-projection" if project == "pca" else "--vector vector"
    terminal.say(f"{count} records: {path}")
    terminal.say(f"uvx embedding-atlas {shlex.quote(str(path))} {shown} --image image --neighbors neighbors")


def import_(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder to read.", show_default=False)],
    store: Annotated[str, typer.Argument(metavar="STORE", help="The collection to write.", show_default=False)],
    *,
    dimensions: DimensionsOption = None,
    where: WhereOption = None,
    batch_size: BatchSizeOption = BATCH_RECORDS,
    report: ReportOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write the records of a folder of Parquet files, with their vectors, into a collection."""
    run_copy(
        parquet_url(folder),
        store,
        dimensions=dimensions,
        where=where,
        batch_size=batch_size,
        report=report,
        dry_run=dry_run,
        names=("FOLDER", "STORE"),
    )
