"""The commands of `jclip` that fill collections: `demo`, `index`."""

import shlex
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from core_encoder.models import known_model
from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import (
    CollectionOption,
    DeviceOption,
    MaxBytesOption,
    MaxPixelsOption,
    PatienceOption,
    RenderingOption,
    ResamplingOption,
    RuntimeOption,
    StoreOption,
    TimeoutOption,
    check_output,
    collection_url,
    configuration,
    open_collection,
    parse_path,
)
from jclip_connectors.cli.progress_bar import progress as show_progress
from jclip_connectors.cli.pruning import prune_records, say_pruned
from jclip_connectors.cli.reports import write_report
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.indexing import (
    IMAGE_SUFFIXES,
    MAX_TEXT_BYTES,
    TEXT_SUFFIXES,
    FileNotes,
    Progress,
    find_files,
    index_files,
    unused_patterns,
)
from jclip_connectors.store_kit.patience import Patience, Patient
from jclip_connectors.store_urls import connected

INDEX_NOTES = (
    f"Files with {', '.join(sorted(IMAGE_SUFFIXES))} are indexed as pictures, files with "
    f"{', '.join(sorted(TEXT_SUFFIXES))} as texts of at most {MAX_TEXT_BYTES // 2**20} MiB. A picture with another "
    "suffix is known by its first bytes. Hidden files, links to folders, and what other programs leave beside pictures "
    "(such as @eaDir and Thumbs.db) are left out and counted. For --where, each file has path, name, folder, suffix, "
    "size_bytes, modified_s (seconds since 1970) and content_hash. Without options, the model and its settings come "
    "from the collection if it exists, else from the JCLIP_* variables. Exit code 1 means that some files could not be "
    "indexed, or that --prune has kept records because their files may be on a drive that is not mounted."
)
_PATIENCE_S = 600.0
_FAILED = 1  # the exit code if some files could not be indexed, or records were not removed


def demo(
    *,
    folder: Annotated[Path, typer.Option(metavar="PATH", parser=parse_path, help="The folder for all files.")] = Path(
        "jclip-demo"
    ),
    open_ui: Annotated[bool, typer.Option("--ui", help="Open the gallery in a browser at the end.")] = False,
) -> None:
    """Draw a gallery, index it with the bundled model, search it in five languages, and write a contact sheet."""
    from jclip_connectors.cli.demo import run_demo

    started = time.monotonic()
    with show_progress() as progress:
        result = run_demo(folder, progress=progress)
    for answer in result.answers:
        terminal.show(terminal.answer_table(answer, result.captions))
    right_first = sum(answer.right_first for answer in result.answers)
    terminal.say(
        f"{right_first} of {len(result.answers)} queries found a right picture first; "
        f"{len(result.captions)} pictures, {result.indexed.indexed} of them new, {time.monotonic() - started:.1f} s"
    )
    terminal.say(f"contact sheet: {result.sheet}")
    if open_ui:
        from jclip_connectors.cli.ui_command import ui

        ui(collection=result.collection)
    else:
        terminal.say(f"in a browser: jclip ui --collection {shlex.quote(str(result.collection))}")


def index(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", parser=parse_path, help="Folders, or files.", show_default=False)
    ],
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    patience: PatienceOption = _PATIENCE_S,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Number of values to keep of each vector.")] = None,
    tiles: Annotated[int | None, typer.Option(min=1, help="Cut large pictures into at most this many tiles.")] = None,
    rendering: RenderingOption = None,
    resampling: ResamplingOption = None,
    max_pixels: MaxPixelsOption = None,
    max_bytes: MaxBytesOption = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Files to process at a time.")] = 32,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            parser=parse_path,
            help="Write the list of files that failed, were left out or have notes here.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Leave out files and folders with such a name, or a path below FOLDER if there is a slash: '*.gif', "
            "'2019/raw/*'; may be given several times.",
        ),
    ] = None,
    verify_content: Annotated[
        bool,
        typer.Option(
            "--verify-content",
            help="Read every file; otherwise a file with unchanged size and time of modification is skipped.",
        ),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Remove records whose file no longer exists; a folder that is gone can be named as well."
        ),
    ] = False,
    prune_anyway: Annotated[
        bool,
        typer.Option(
            "--prune-anyway",
            help="With --prune: remove them also if a whole folder or more than a tenth of the collection is gone.",
        ),
    ] = False,
) -> None:
    """Index the pictures and texts in folders; files that are already indexed are skipped."""
    if prune_anyway and not prune:
        raise typer.BadParameter("--prune-anyway has no effect without --prune: give both, or neither")
    check_output(report)
    patterns = exclude if exclude is not None else []
    found = find_files(folders, allow_gone=prune, exclude=patterns)
    with connected(collection_url(collection, store), timeout=timeout) as place:
        fingerprint = place.fingerprint()
        if fingerprint is None and found.gone:
            raise EmbedInputError(f"{str(found.gone[0])!r} does not exist, and there is no collection in {place.name}")
        config = configuration(
            fingerprint,
            model=model,
            dimensions=dimensions,
            tiles=tiles,
            rendering=rendering,
            resampling=resampling,
            max_pixels=max_pixels,
            max_bytes=max_bytes,
        )
        known = known_model(config.model)
        licence = "" if known is None else f" ({known.license})"
        terminal.say(f"{len(found.files)} files; model {config.model}{licence}")
        notes = FileNotes()
        target, records = open_collection(
            place, config, device=device, runtime=runtime, batch_size=batch_size, notes=notes
        )
        if isinstance(records, Patient):  # from here on: a server that was never reached is not waited for
            records.patience = Patience(patience)
        with _said_where_it_stopped(len(found.files)) as progress, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\d+ of \d+ texts were cut")  # the notes name these texts
            done = index_files(
                target,
                found.files,
                chunk_size=batch_size,
                verify_content=verify_content,
                progress=progress,
                notes=notes,
            )
        pruned = prune_records(records, found, done, anyway=prune_anyway) if prune else None
    failed = (*found.failed, *done.failed)
    moved = f"{done.reused} moved or copied, " if done.reused else ""
    terminal.say(f"{done.indexed} indexed, {moved}{done.unchanged} unchanged, {len(failed)} failed")
    terminal.say_failures(failed, report)
    terminal.say_notes(notes.notes, report)
    terminal.say_left_out(found.left_out, report)
    for pattern in unused_patterns(patterns, found.left_out):
        terminal.say(f"warning: --exclude {pattern!r} has excluded nothing", style="yellow")
    if pruned is not None:
        say_pruned(pruned)
    if report is not None:  # after everything is said, as it may fail
        write_report(report, failed, found.left_out, notes.notes)
    if failed or (pruned is not None and pruned.reasons):
        raise typer.Exit(_FAILED)


@contextmanager
def _said_where_it_stopped(total: int) -> Iterator[Progress]:
    """Show the progress of a run and, if the store or the model ends it, how much of it is kept."""
    reached = 0
    try:
        with show_progress() as progress:

            def tell(done: int, of: int) -> None:
                nonlocal reached
                reached = done
                progress(done, of)

            yield tell
    except ConnectorError:
        terminal.say(f"stopped after {reached} of {total} files, which are kept: the same command continues from there")
        raise
