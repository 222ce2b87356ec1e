"""The commands of `jclip` on models: `serve`, `models`, `verify`, `export onnx`."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from core_encoder.models import KNOWN_MODELS, KnownModel, RuntimeChoice
from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import (
    CollectionOption,
    RuntimeOption,
    StoreOption,
    TimeoutOption,
    collection_url,
    configuration,
    existing_fingerprint,
    parse_path,
)
from jclip_connectors.cli.ui_command import RootOption, open_shown
from jclip_connectors.errors import EmbedInputError, MissingDependencyError
from jclip_connectors.store_urls import connected

_PREFIX = "JCLIP_SERVER_"
_VARIABLES = tuple(f"{_PREFIX}{name}" for name in ("HOST", "PORT", "DEVICE", "RUNTIME", "API_KEYS"))
_LIMITS_ON_URLS = ("max_image_urls", "max_fetch_s")
_FAILED = 1  # the exit code if a check failed

OfflineOption = Annotated[bool, typer.Option("--offline", help="Use the local cache and never the network.")]


def serve(
    *,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Default length of the vectors.")] = None,
    host: Annotated[str, typer.Option(envvar="JCLIP_SERVER_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar=["JCLIP_SERVER_PORT", "AIP_HTTP_PORT"], min=0, max=65535)] = 8080,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", metavar="KEY", help="An accepted API key; other users can see it in `ps`."),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option("--api-keys", metavar="FILE", parser=parse_path, help="Accepted API keys, one per line."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name that clients may use for the model.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A limit of docs/serving.md, such as max_items=64; may be given several times."
        ),
    ] = None,
    allow_image_urls: Annotated[
        bool, typer.Option("--allow-image-urls", help="Fetch images by URL, from public addresses only.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Fetch only from this host; may be given several times.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Let pages of this origin read answers in a browser (CORS), such as http://localhost:3000, or '*' for "
            "every page; may be given several times.",
        ),
    ] = None,
    predict_route: Annotated[str, typer.Option(envvar="AIP_PREDICT_ROUTE", help="For Vertex AI.")] = "/predict",
    health_route: Annotated[str, typer.Option(envvar="AIP_HEALTH_ROUTE", help="Another path for /health.")] = "/health",
    device: Annotated[str | None, typer.Option(envvar="JCLIP_SERVER_DEVICE", help="'cpu', 'cuda', ...")] = None,
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(envvar="JCLIP_SERVER_RUNTIME", help="What runs the model; auto: torch on CUDA, else onnx."),
    ] = "auto",
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    root: RootOption = None,
    ui_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name by which browsers reach the search page, such as photos.example.com; may be given "
            "several times.",
        ),
    ] = None,
) -> None:
    """Serve a model as `/v1/embeddings`; with --collection or --store, also a search page as `/ui`.

    Keys are also read from JCLIP_SERVER_API_KEYS, separated by commas.
    """
    from jclip_connectors.server import serve as run_server
    from jclip_connectors.server.api_keys import read_api_keys
    from jclip_connectors.server.limits import read_limits

    _check_settings(os.environ, limits=limit if limit is not None else (), image_urls=allow_image_urls)
    keys = (*read_api_keys(os.environ, file=api_keys), *(api_key if api_key is not None else ()))
    if not keys:
        terminal.say("there are no API keys: everyone who can reach this address can use the model", style="yellow")
    if allowed_host is not None and not allow_image_urls:
        raise EmbedInputError("--allowed-host has no effect without --allow-image-urls: give both, or neither")
    with ExitStack() as stack:
        shown = None
        config = configuration(None, model=model, dimensions=dimensions)
        if collection is not None or store is not None:
            if dimensions is not None:
                raise EmbedInputError("--dimensions has no effect with a collection, which has its own")
            place = stack.enter_context(connected(collection_url(collection, store), timeout=timeout, read_only=True))
            config = configuration(existing_fingerprint(place), model=model)
            shown = open_shown(place, config, roots=root, hosts=[host, *(ui_host or ())])
        elif root is not None or ui_host is not None:
            raise EmbedInputError("--root and --ui-host have no effect without --collection or --store")
        run_server(
            config,
            host=host,
            port=port,
            api_keys=keys,
            limits=read_limits(limit if limit is not None else ()),
            device=device,
            runtime=runtime,
            names=name if name is not None else (),
            image_urls=allow_image_urls,
            allowed_hosts=allowed_host if allowed_host is not None else (),
            cors_origins=cors_origin if cors_origin is not None else (),
            predict_route=predict_route,
            health_route=health_route,
            collection=shown,
        )


def _check_settings(environ: Mapping[str, str], *, limits: Sequence[str], image_urls: bool) -> None:
    """Refuse settings of the server that have no effect.

    Raises:
        EmbedInputError: a variable is not known, or a limit is on what is not allowed.
    """
    unknown = [name for name in sorted(environ) if name.startswith(_PREFIX) and name not in _VARIABLES]
    if unknown:
        raise EmbedInputError(f"unknown variable {unknown[0]}; known are {', '.join(_VARIABLES)}")
    useless = [name for name in _LIMITS_ON_URLS if any(limit.startswith(f"{name}=") for limit in limits)]
    if useless and not image_urls:
        raise EmbedInputError(
            f"--limit {useless[0]}=... has no effect without --allow-image-urls: give both, or neither"
        )


def models() -> None:
    """List the known models."""
    table = terminal.table("model", "licence", "languages", "values", "picture", "revision", "is here")
    for known in KNOWN_MODELS:
        revision = "bundled" if known.revision is None else known.revision[:12]
        size = f"{known.image_size} px"
        table.add_row(
            known.name, known.license, known.languages, str(known.embedding_dim), size, revision, _is_here(known)
        )
    terminal.show(table)


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A hub id, a folder with a model, or 'nano'.")],
    *,
    runtime: RuntimeOption = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "int8"],
        typer.Option(help="Compare the vectors in this precision with those in fp32, too."),
    ] = "fp32",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            parser=parse_path,
            help="With --precision: compare the vectors of the pictures and texts in this folder; may be given several "
            "several times.",
        ),
    ] = None,
    offline: OfflineOption = False,
) -> None:
    """Load a model and check its files, shapes and vectors, and compare with published values if there are any."""
    if data is not None and precision == "fp32":
        raise typer.BadParameter("--data has no effect without --precision: give both, or neither")
    passed = True
    texts, images = _read_contents(data if data is not None else ())
    try:
        from core_encoder.verification import verify as run_checks

        for check in run_checks(
            model, runtime=runtime, precision=precision, texts=texts, images=images, local_files_only=offline
        ):
            passed &= check.passed
            verdict = Text("ok    ", style="green") if check.passed else Text("FAILED", style="bold red")
            terminal.show(Text.assemble(verdict, f"  {check.name:20}  {terminal.printable(check.detail)}"))
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local" if error.name == "torch" else "onnx") from error
    if not passed:
        raise typer.Exit(_FAILED)


def _read_contents(folders: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """The texts, and the paths of the pictures, in folders; a file that cannot be read is named and left out."""
    from jclip_connectors.indexing import TEXT_SUFFIXES, find_files
    from jclip_connectors.indexing.files import describe_file, read_text

    texts: list[str] = []
    pictures: list[Path] = []
    for path in map(Path, find_files(folders).files if folders else ()):
        try:
            describe_file(path)  # not a pipe, and no link to nothing
            if path.suffix.lower() in TEXT_SUFFIXES:
                texts.append(read_text(path))
            else:
                pictures.append(path)
        except EmbedInputError as error:
            terminal.say(f"left out: {path}: {error}", style="yellow")
        except OSError as error:
            terminal.say(f"left out: {path}: it cannot be read: {error.strerror}", style="yellow")
    return texts, pictures


def export_onnx(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A hub id, a folder with a model, or 'nano'.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", parser=parse_path, help="The new folder.", show_default=False)],
    *,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="Of the matrices; `jclip verify` measures what it costs.")
    ] = "fp32",
    revision: Annotated[str | None, typer.Option(help="A commit of a model on the hub.")] = None,
    offline: OfflineOption = False,
) -> None:
    """Write a model as ONNX into a folder that loads anywhere without torch and without a conversion."""
    try:
        from core_encoder.exporting import export_onnx as write_onnx

        write_onnx(model, out, precision=precision, revision=revision, local_files_only=offline)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="onnx") from error
    size = sum(path.stat().st_size for path in out.iterdir())
    terminal.say(f"onnx in {precision}, {size / 2**20:,.0f} MiB: {out}; `--model {out}` loads it")


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
