"""`jclip export` and `jclip import`: `jclip copy` to and from a folder of Parquet files."""

from typing import Annotated

import typer

from jclip_connectors.bulk.copying import BATCH_RECORDS
from jclip_connectors.cli.copy_command import (
    BatchSizeOption,
    DimensionsOption,
    DryRunOption,
    ReportOption,
    WhereOption,
    run_copy,
)
from jclip_connectors.cli.copy_places import parquet_url

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
) -> None:
    """Write a collection with its vectors into Parquet files, for pandas, DuckDB and others."""
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
