"""The commands of `jclip` on collections: `demo`, `index`, `search`, `optimize`."""

import json
import time
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from core_encoder.models import known_model
from jclip_connectors.cli import terminal
from jclip_connectors.cli.contact_sheet import Section, write_contact_sheet
from jclip_connectors.cli.options import (
    CollectionOption,
    DeviceOption,
    MaxBytesOption,
    MaxPixelsOption,
    RenderingOption,
    StoreOption,
    TimeoutOption,
    check_output,
    collection_url,
    configuration,
    open_collection,
    parse_existing_file,
    parse_path,
    parse_where,
)
from jclip_connectors.cli.pruning import prune_records, say_pruned
from jclip_connectors.cli.reports import write_report
from jclip_connectors.cli.store_urls import connected
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.indexing import (
    IMAGE_SUFFIXES,
    MAX_TEXT_BYTES,
    TEXT_SUFFIXES,
    FileNotes,
    find_files,
    index_files,
    unused_patterns,
)
from jclip_connectors.indexing.files import is_blank
from jclip_connectors.port import SearchHit

INDEX_NOTES = (
    f"Files with {', '.join(sorted(IMAGE_SUFFIXES))} are indexed as pictures, files with "
    f"{', '.join(sorted(TEXT_SUFFIXES))} as texts of at most {MAX_TEXT_BYTES // 2**20} MiB. A picture with another "
    "suffix is known by its first bytes. Hidden files, links to folders, and what other programs leave beside pictures "
    "(such as @eaDir and Thumbs.db) are left out and counted. For --where, each file has path, name, folder, suffix, "
    "size_bytes, modified_s (seconds since 1970) and content_hash. Without options, the model and its settings come "
    "from the collection if it exists, else from the JCLIP_* variables. Exit code 1 means that some files could not be "
    "indexed, or that --prune has kept records because their files may be on a drive that is not mounted."
)
_FAILED = 1  # the exit code if some files could not be indexed, or records were not removed


def demo(
    *,
    folder: Annotated[Path, typer.Option(metavar="PATH", parser=parse_path, help="The folder for all files.")] = Path(
        "jclip-demo"
    ),
) -> None:
    """Draw a gallery, index it with the bundled model, search it in five languages, and write a contact sheet."""
    from jclip_connectors.cli.demo import run_demo

    started = time.monotonic()
    with terminal.progress() as progress:
        result = run_demo(folder, progress=progress)
    for answer in result.answers:
        terminal.show(terminal.answer_table(answer, result.captions))
    right_first = sum(answer.right_first for answer in result.answers)
    terminal.say(
        f"{right_first} of {len(result.answers)} queries found a right picture first; "
        f"{len(result.captions)} pictures, {result.indexed.indexed} of them new, {time.monotonic() - started:.1f} s"
    )
    terminal.say(f"contact sheet: {result.sheet}")


def index(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", parser=parse_path, help="Folders, or files.", show_default=False)
    ],
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Number of values to keep of each vector.")] = None,
    tiles: Annotated[int | None, typer.Option(min=1, help="Cut large pictures into at most this many tiles.")] = None,
    rendering: RenderingOption = None,
    max_pixels: MaxPixelsOption = None,
    max_bytes: MaxBytesOption = None,
    device: DeviceOption = None,
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
            max_pixels=max_pixels,
            max_bytes=max_bytes,
        )
        known = known_model(config.model)
        licence = "" if known is None else f" ({known.license})"
        terminal.say(f"{len(found.files)} files; model {config.model}{licence}")
        notes = FileNotes()
        target, records = open_collection(place, config, device=device, batch_size=batch_size, notes=notes)
        with terminal.progress() as progress, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\d+ of \d+ texts were cut")  # the notes name these texts
            done = index_files(target, found.files, chunk_size=batch_size, progress=progress, notes=notes)
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
        fingerprint = place.fingerprint()
        if fingerprint is None:
            raise StoreRequestError(f"there is no collection in {place.name}: `jclip index FOLDER` makes one")
        config = configuration(fingerprint, model=model, max_pixels=max_pixels, max_bytes=max_bytes)
        source, _ = open_collection(place, config, device=device)
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
        heading = str(text) if image is None else image.name
        section = Section(heading=heading, hits=hits, query_image=image)
        write_contact_sheet(html, "jclip search", [section], rendering=config.rendering, limits=config.image_limits)


def optimize(
    collection: Annotated[
        Path,
        typer.Argument(metavar="PATH", parser=parse_path, help="The folder of the collection.", show_default=False),
    ],
) -> None:
    """Make the search index of a large collection in a folder; no other program may have it open meanwhile."""
    from jclip_connectors.edge.optimize import optimize_collection

    done = optimize_collection(collection)
    terminal.say(f"{done.records} records, " + ("optimised" if done.changed else "nothing to do"))


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
