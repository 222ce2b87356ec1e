"""`jclip`: arguments in, tables and exit codes out; what the commands do is in the modules that they call.

Exit codes: 0 done; 1 done, but some files could not be indexed, or a check failed; 2 not done; 130 interrupted.
Results go to stdout, everything else to stderr. Neither torch nor the store is loaded before a command needs it.
"""

import dataclasses
import json
import os
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from core_encoder.errors import JinaClipError
from core_encoder.models import KNOWN_MODELS, KnownModel, known_model
from jclip_connectors.cli import terminal
from jclip_connectors.cli.contact_sheet import Section, write_contact_sheet
from jclip_connectors.cli.options import (
    CollectionOption,
    DeviceOption,
    StoreOption,
    check_parent,
    collection_url,
    configuration,
    open_collection,
    parse_path,
    parse_where,
)
from jclip_connectors.cli.store_urls import connected
from jclip_connectors.errors import ConnectorError, EmbedInputError, MissingDependencyError, StoreRequestError
from jclip_connectors.indexing import (
    IMAGE_SUFFIXES,
    MAX_TEXT_BYTES,
    TEXT_SUFFIXES,
    find_files,
    find_missing,
    index_files,
)
from jclip_connectors.port import SearchHit
from jclip_connectors.store_kit.files import replace_file

_FAILED, _NOT_DONE, _INTERRUPTED = 1, 2, 130
_INDEX_NOTES = (
    f"Indexed are {', '.join(sorted(IMAGE_SUFFIXES))} as pictures, {', '.join(sorted(TEXT_SUFFIXES))} as texts of at "
    f"most {MAX_TEXT_BYTES // 2**20} MiB. Hidden files and links to folders are left out. For --where, each file has "
    "path, name, folder, suffix, size_bytes and modified_s (seconds since 1970). Without options, the model and its "
    "settings are those of the collection if there is one, then those of the JCLIP_* variables. Exit code 1 says that "
    "some files could not be indexed."
)


class _Commands(TyperGroup):
    """The commands, with every error that a user can cause in one line and without a traceback."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer's own classes, not at one place in all its versions)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read us has seen enough
        except MissingDependencyError as error:
            message = f"{error}; the extra 'all' has what every command on a collection in a folder needs"
        except (JinaClipError, ConnectorError) as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        except KeyboardInterrupt:
            terminal.say("stopped; what has been indexed stays, and the same command goes on from there")
            raise typer.Exit(_INTERRUPTED) from None
        terminal.say(f"error: {message}", style="red")
        raise typer.Exit(_NOT_DONE)


app = typer.Typer(
    cls=_Commands,
    help="Search pictures and texts by meaning, with jina-clip and a collection in a folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def run() -> None:
    """Run the command line; warnings are one line each."""
    warnings.showwarning = lambda message, *_, **__: terminal.say(f"warning: {message}", style="yellow")
    app()


@app.command()
def demo(
    *,
    folder: Annotated[Path, typer.Option(metavar="PATH", file_okay=False, help="Where everything goes.")] = Path(
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


@app.command(epilog=_INDEX_NOTES)
def index(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", parser=parse_path, help="Folders, or files.", show_default=False)
    ],
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep so many values of each vector.")] = None,
    tiles: Annotated[int | None, typer.Option(min=1, help="Cut large pictures into so many tiles at most.")] = None,
    device: DeviceOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Files in work at a time.")] = 32,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", dir_okay=False, help="List the files that failed here.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove records whose file is there no more.")] = False,
) -> None:
    """Index the pictures and texts in folders; files that are indexed already are skipped."""
    check_parent(report)
    found = find_files(folders)
    with connected(collection_url(collection, store)) as place:
        config = configuration(place.fingerprint(), model=model, dimensions=dimensions, tiles=tiles)
        known = known_model(config.model)
        licence = "" if known is None else f" ({known.license})"
        terminal.say(f"{len(found.files)} files; model {config.model}{licence}")
        target, records = open_collection(place, config, device=device, batch_size=batch_size)
        with terminal.progress() as progress:
            done = index_files(target, found.files, chunk_size=batch_size, progress=progress)
        missing = find_missing(records, found, done)
        if prune and missing:
            records.delete(missing)
    failed = (*found.failed, *done.failed)
    if report is not None:
        lines = (json.dumps(dataclasses.asdict(bad)) for bad in failed)
        replace_file(report, "".join(f"{line}\n" for line in lines).encode())
    terminal.say(f"{done.indexed} indexed, {done.unchanged} unchanged, {len(failed)} failed")
    if missing:
        did = "removed" if prune else "whose file is there no more; --prune removes them"
        terminal.say(f"{len(missing)} records {did}")
    terminal.say_failures(failed, report)
    if failed:
        raise typer.Exit(_FAILED)


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(help="What to look for.", show_default=False)] = None,
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, exists=True, help="A picture to look for instead.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many results.")] = 10,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help='Only files like this: \'{"size_bytes": {"gte": 100000}}\'.')
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write the results as a page with pictures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    model: Annotated[
        str | None, typer.Option(help="The folder of the model, if the collection was made with one from a folder.")
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Find the files that are nearest to a text or a picture."""
    if (not text) == (image is None):
        raise typer.BadParameter("give a text to look for, or a picture with --image")
    check_parent(html)
    condition = parse_where(where)
    with connected(collection_url(collection, store)) as place:
        fingerprint = place.fingerprint()
        if fingerprint is None:
            raise StoreRequestError(f"there is no collection in {place.name}: `jclip index FOLDER` makes one")
        config = configuration(fingerprint, model=model)
        source, _ = open_collection(place, config, device=device)
        hits = source.search(text if image is None else None, image=image, limit=limit, where=condition)
    if html is not None:
        heading = str(text) if image is None else image.name
        section = Section(heading=heading, hits=hits, query_image=image)
        write_contact_sheet(html, "jclip search", [section], exif_orientation=config.exif_orientation)
    if as_json:
        typer.echo(json.dumps([_as_json(hit) for hit in hits], indent=2))
    else:
        terminal.show(terminal.hits_table(hits))


@app.command()
def optimize(
    collection: Annotated[
        Path,
        typer.Argument(metavar="PATH", parser=parse_path, help="The folder of the collection.", show_default=False),
    ],
) -> None:
    """Make the search index of a large collection in a folder; nobody can have it open meanwhile."""
    from jclip_connectors.edge.optimize import optimize_collection

    done = optimize_collection(collection)
    terminal.say(f"{done.records} records, " + ("optimised" if done.changed else "nothing to do"))


@app.command()
def serve(
    *,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Of requests that do not say it.")] = None,
    host: Annotated[str, typer.Option(envvar="JCLIP_SERVER_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar=["JCLIP_SERVER_PORT", "AIP_HTTP_PORT"], min=0, max=65535)] = 8080,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", metavar="KEY", help="An accepted API key; others can see it in `ps`."),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option("--api-keys", metavar="FILE", parser=parse_path, help="Accepted API keys, one a line."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What clients may call the model besides its own name.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="One of docs/serving.md, as in max_items=64; may be given several times."
        ),
    ] = None,
    allow_image_urls: Annotated[
        bool, typer.Option("--allow-image-urls", help="Fetch images that are named by URL, from public addresses.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Fetch from this host alone; may be given several times.")
    ] = None,
    predict_route: Annotated[str, typer.Option(envvar="AIP_PREDICT_ROUTE", help="For Vertex AI.")] = "/predict",
    health_route: Annotated[str, typer.Option(envvar="AIP_HEALTH_ROUTE", help="For Vertex AI.")] = "/health",
    device: Annotated[str | None, typer.Option(envvar="JCLIP_SERVER_DEVICE", help="'cpu', 'cuda', ...")] = None,
) -> None:
    """Serve a model as `/v1/embeddings`; keys are also read from JCLIP_SERVER_API_KEYS, separated by commas."""
    from jclip_connectors.server import serve as run_server
    from jclip_connectors.server.api_keys import read_api_keys
    from jclip_connectors.server.limits import read_limits

    keys = (*read_api_keys(os.environ, file=api_keys), *(api_key if api_key is not None else ()))
    if not keys:
        terminal.say("there are no API keys: whoever reaches this address may use the model", style="yellow")
    if allowed_host is not None and not allow_image_urls:
        raise EmbedInputError("--allowed-host allows nothing without --allow-image-urls: give both, or neither")
    run_server(
        configuration(None, model=model, dimensions=dimensions),
        host=host,
        port=port,
        api_keys=keys,
        limits=read_limits(limit if limit is not None else ()),
        device=device,
        names=name if name is not None else (),
        image_urls=allow_image_urls,
        allowed_hosts=allowed_host if allowed_host is not None else (),
        predict_route=predict_route,
        health_route=health_route,
    )


@app.command()
def models() -> None:
    """List the models that have a name here."""
    table = terminal.table("model", "licence", "languages", "values", "picture", "revision", "is here")
    for known in KNOWN_MODELS:
        revision = "bundled" if known.revision is None else known.revision[:12]
        size = f"{known.image_size} px"
        table.add_row(
            known.name, known.license, known.languages, str(known.embedding_dim), size, revision, _is_here(known)
        )
    terminal.show(table)


@app.command()
def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A hub id, a folder with a model, or 'nano'.")],
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Use the local cache and never the network.")] = False,
) -> None:
    """Load a model and check its files, shapes and vectors, and the published values where there are any."""
    try:
        from core_encoder.verification import verify as run_checks
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local") from error

    passed = True
    for check in run_checks(model, local_files_only=offline):
        passed &= check.passed
        verdict = Text("ok    ", style="green") if check.passed else Text("FAILED", style="bold red")
        terminal.show(Text.assemble(verdict, f"  {check.name:20}  {terminal.printable(check.detail)}"))
    if not passed:
        raise typer.Exit(_FAILED)


def _is_here(model: KnownModel) -> str:
    if model.revision is None:
        return "yes"
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return "no"
    return (
        "yes"
        if isinstance(try_to_load_from_cache(model.name, "model.safetensors", revision=model.revision), str)
        else "no"
    )


def _as_json(hit: SearchHit) -> dict[str, Any]:
    return {
        "score": hit.score,
        "id": hit.record_id,
        "modality": hit.modality,
        "uri": hit.uri,
        "box": None if hit.box is None else list(hit.box),
        "metadata": hit.metadata,
        "content": hit.content,
    }
