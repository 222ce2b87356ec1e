"""`jclip load`: files of vectors written to a collection."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jclip_connectors.bulk.carried import CarriedConfig
from jclip_connectors.cli import terminal
from jclip_connectors.cli.load_progress import load_progress
from jclip_connectors.cli.options import (
    CollectionOption,
    PatienceOption,
    StoreOption,
    TimeoutOption,
    check_output,
    collection_url,
    parse_path,
    parse_time,
)
from jclip_connectors.errors import EmbedInputError, MissingDependencyError, StoreUnavailableError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.files import replace_file
from jclip_connectors.store_urls import collection_identity, connected

if TYPE_CHECKING:
    from jclip_connectors.bulk.loading import LoadReport

LOAD_NOTES = (
    "OUT is what `jclip embed` or `jclip export` has written: a folder, or a URL such as s3://bucket/vectors. A file "
    "that is loaded gets a mark in OUT/_loaded, so after an interrupt the same command goes on. Rows that could not be "
    "embedded are counted and left out; of rows with one id, the last one is written. Exit code 1 means that the store "
    "has refused some records."
)
_FAILED = 1  # the exit code if the store has refused some records
_FILES = "parquet:"


def parse_rate(text: str) -> float:
    """Read a rate: 500/s or 500."""
    number = text.removesuffix("/s")
    if not number.isdecimal() or not int(number):
        raise typer.BadParameter(f"{text!r} is no rate: write 500/s")
    return float(number)


def load(
    out: Annotated[str, typer.Argument(metavar="OUT", help="The files of vectors.", show_default=False)],
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    writers: Annotated[int, typer.Option(min=1, help="The most writes at a time.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Records to write at a time.")] = 256,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many records: to see how fast a server is.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N/s", parser=parse_rate, help="Write at most so many records a second.")
    ] = None,
    patience: PatienceOption = 3600.0,
    follow: Annotated[
        float | None,
        typer.Option(
            metavar="TIME",
            parser=parse_time,
            help="Load new files as `jclip embed` writes them; end when none has come for so long, such as 30m.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", parser=parse_path, help="Write the list of refused records here."),
    ] = None,
    redo_refused: Annotated[
        bool, typer.Option("--redo-refused", help="Load the files again of which the store has refused records.")
    ] = False,
    defer_index: Annotated[
        bool,
        typer.Option("--defer-index", help="Of Qdrant: build the search index once, at the end, also after a failure."),
    ] = False,
    pinecone_import: Annotated[
        str | None,
        typer.Option(
            "--pinecone-import",
            metavar="URL",
            help="Of Pinecone: write files into this folder at s3://, gs:// or https:// instead, and start its import.",
        ),
    ] = None,
    integration: Annotated[
        str | None,
        typer.Option(metavar="ID", help="With --pinecone-import: the storage integration for a private bucket."),
    ] = None,
    progress_json: Annotated[
        bool, typer.Option("--progress-json", help="Print the progress as lines of JSON, on stdout.")
    ] = False,
) -> None:
    """Write files of vectors to a collection."""
    try:
        from jclip_connectors.bulk.loading import load as load_files
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pyarrow", extra="bulk") from error
    check_output(report)
    url = collection_url(collection, store)
    if pinecone_import is not None:
        _import_into_pinecone(out.removeprefix(_FILES), url, pinecone_import, integration=integration, timeout=timeout)
        return
    if integration is not None:
        raise EmbedInputError("--integration has no effect without --pinecone-import: give both, or neither")
    with ExitStack() as stack:

        def open_store(config: CarriedConfig, length: int) -> VectorStore:
            return stack.enter_context(connected(url, timeout=timeout)).open(config, length)

        with _said_that_it_goes_on(), load_progress(as_json=progress_json) as progress:
            done = load_files(
                out.removeprefix(_FILES),
                open_store,
                store_name=collection_identity(url),
                writers=1 if url.startswith("edge:") else writers,
                batch_size=batch_size,
                limit=limit,
                rate=rate,
                patience_s=patience,
                follow_s=follow,
                redo_refused=redo_refused,
                defer_index=defer_index,
                progress=progress,
            )
    _say(done)
    _say_refused(done.refused, report)
    if done.refused:
        raise typer.Exit(_FAILED)


def _import_into_pinecone(out: str, url: str, uri: str, *, integration: str | None, timeout: str | None) -> None:
    """Write the files of Pinecone's import, start it, and say how it is watched."""
    if not url.startswith("pinecone:"):
        raise EmbedInputError("--pinecone-import needs --store pinecone://INDEX or pinecone://INDEX/NAMESPACE")
    from jclip_connectors.bulk.carried import carried_config
    from jclip_connectors.bulk.last_rows import last_records
    from jclip_connectors.bulk.vector_files import READ_ROWS, VectorFolder

    files = VectorFolder(out)
    sidecar = files.require_sidecar()
    with connected(url, timeout=timeout) as place:
        from jclip_connectors.pinecone import PineconeStore

        opened = place.open(carried_config(sidecar.fingerprint, length=sidecar.dimensions), sidecar.dimensions)
        if not isinstance(opened, PineconeStore):
            raise EmbedInputError("--pinecone-import needs a collection in Pinecone")
        started = opened.import_records(last_records(files, rows=READ_ROWS), uri, integration_id=integration)
    terminal.say(
        f"Pinecone imports from {uri}: its console, or describe_import({started!r}) of its SDK, tells when that is done"
    )


@contextmanager
def _said_that_it_goes_on() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError:
        terminal.say("stopped; loaded files are kept, and the same command continues from there")
        raise


def _say(done: "LoadReport") -> None:
    terminal.say(
        f"{done.files} files loaded, {done.files_before} were loaded before; {done.written} records written, "
        f"{len(done.refused)} refused"
    )
    if done.skipped:
        terminal.say(f"{done.skipped} rows left out: these items could not be embedded")
    if done.folded:
        terminal.say(f"{done.folded} rows folded: a later row has the same id, such as that of equal content")


def _say_refused(refused: Sequence[Mapping[str, str]], report: Path | None) -> None:
    terminal.say_failed([(each["id"], each["error"]) for each in refused], report)
    if report is not None:
        replace_file(report, "".join(json.dumps(dict(each)) + "\n" for each in refused).encode())
