"""`jclip copy`: the records of a collection written to another place, without embedding them again."""

from pathlib import Path
from typing import Annotated

import typer

from jclip_connectors.bulk.carried import CarriedConfig, carried_config
from jclip_connectors.bulk.copying import BATCH_RECORDS, CopyReport, RecordSource, copy_collection
from jclip_connectors.cli import terminal
from jclip_connectors.cli.copy_places import Source, Target, check_different, connected_target, opened_source
from jclip_connectors.cli.failed_records import say_records
from jclip_connectors.cli.options import check_output, parse_path, parse_where
from jclip_connectors.cli.progress_bar import resumable_progress
from jclip_connectors.port import Filter
from jclip_connectors.store_kit.validation import check_fingerprint

COPY_NOTES = (
    "FROM and TO are a folder, edge:PATH, qdrant://HOST:PORT/NAME, weaviate://HOST:PORT/NAME, pinecone://INDEX or "
    "postgresql://HOST:PORT/DATABASE/NAME, as for --store, or parquet:PATH for a folder of Parquet files. Ids, "
    "metadata, texts, tiles and boxes are carried as they are; nothing is removed from TO. After an interrupt the same "
    "command goes on. At the end the records are counted, and a sample is read back and compared. Exit code 1 means "
    "that TO has refused some records."
)
_FAILED = 1  # the exit code if the target has refused some records


DimensionsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Keep this many values of each vector; for models that were trained for it."),
]
WhereOption = Annotated[
    str | None, typer.Option(metavar="JSON", help='Only records like this: \'{"size_bytes": {"gte": 100000}}\'.')
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Records to read and write at a time.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.jsonl", parser=parse_path, help="Write the list of refused records here."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be copied, and whether the target is for such vectors.")
]


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The collection to read.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", help="The collection to write.", show_default=False)],
    *,
    dimensions: DimensionsOption = None,
    where: WhereOption = None,
    batch_size: BatchSizeOption = BATCH_RECORDS,
    report: ReportOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Copy a collection to another place, with its vectors: nothing is embedded again."""
    run_copy(source, target, dimensions=dimensions, where=where, batch_size=batch_size, report=report, dry_run=dry_run)


def run_copy(
    source: str,
    target: str,
    *,
    dimensions: int | None,
    where: str | None,
    batch_size: int,
    report: Path | None,
    dry_run: bool,
    names: tuple[str, str] = ("FROM", "TO"),
) -> None:
    """Copy from one place to another, and say what was done; errors call the places by `names`."""
    check_output(report)
    condition = parse_where(where)
    check_different(source, target, names)
    with opened_source(source, names[0]) as read, connected_target(target, names[1]) as written:
        length = _length(read.records)
        config = carried_config(read.records.fingerprint, length=length, dimensions=dimensions)
        kept = length if dimensions is None else dimensions
        stored = written.fingerprint()
        if stored is not None:
            check_fingerprint(stored, config.fingerprint(), collection=written.name)
        count = read.records.count(where=condition)
        place = "a new collection" if stored is None else "the collection"
        terminal.say(f"{count} records of {read.name}, {kept} values each; to {place} in {written.name}")
        if dry_run:
            return
        done = _copy(read, written, config, kept=kept, dimensions=dimensions, where=condition, batch_size=batch_size)
    terminal.say(f"{done.written} copied, {done.unchanged} unchanged, {len(done.failed)} failed")
    terminal.say(
        f"{done.counted} counted in the target; {done.compared} read back and compared, the largest difference of a "
        f"value is {done.largest_difference:.1e}"
    )
    say_records(done.failed, report)
    if done.failed:
        raise typer.Exit(_FAILED)


def _copy(
    read: Source,
    written: Target,
    config: CarriedConfig,
    *,
    kept: int | None,
    dimensions: int | None,
    where: Filter | None,
    batch_size: int,
) -> CopyReport:
    with resumable_progress(unit="records") as progress:
        return copy_collection(
            read.records,
            written.open(config, kept),
            dimensions=dimensions,
            where=where,
            batch_size=batch_size,
            progress=progress,
        )


def _length(records: RecordSource) -> int | None:
    """The length of the vectors: what the fingerprint says, else that of the first record."""
    stored = records.fingerprint.get("dimensions")
    if isinstance(stored, int):
        return stored
    first = next(records.scroll(), None)
    return None if first is None else first.embedding.shape[-1]
