"""`jclip ui`: a collection in a browser."""

import secrets
import socket
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import (
    CollectionOption,
    DeviceOption,
    RuntimeOption,
    StoreOption,
    TimeoutOption,
    collection_url,
    configuration,
    existing_fingerprint,
    parse_path,
)
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_kit.places import Place
from jclip_connectors.store_urls import connected

if TYPE_CHECKING:
    from jclip_connectors.server.ui.gallery import Shown

_HOST = "127.0.0.1"

RootOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        metavar="FOLDER",
        parser=parse_path,
        help="Show pictures from this folder only; needed with --store, as the database names the files; may be given "
        "several times.",
    ),
]


def ui(
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    root: RootOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")] = False,
    model: Annotated[
        str | None, typer.Option(help="The folder of the model, if the collection was made with a model from a folder.")
    ] = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
) -> None:
    """Search a collection in a browser: by text, by picture, by a part of a picture. It reads only."""
    from jclip_connectors.server.limits import ServerLimits
    from jclip_connectors.server.serve import serve_page

    with connected(collection_url(collection, store), timeout=timeout, read_only=True) as place:
        config = configuration(existing_fingerprint(place), model=model)
        token = secrets.token_urlsafe(24)
        shown = open_shown(place, config, roots=root, token=token)
        with socket.create_server((_HOST, port)) as listening:
            address = f"http://{_HOST}:{listening.getsockname()[1]}/ui#t={token}"
            terminal.say(f"the search page of {place.name}; Ctrl-C ends it")
            terminal.say(address)
            if not no_browser:
                webbrowser.open(address)  # the socket listens: the browser waits for the answer
            limits = config.image_limits
            most = ServerLimits().max_body_bytes
            serve_page(
                shown,
                listening=listening,
                device=device,
                runtime=runtime,
                limits=ServerLimits(max_image_bytes=min(limits.max_bytes, most), max_pixels=limits.max_pixels),
            )


def open_shown(
    place: Place,
    config: EmbeddingConfig,
    *,
    roots: Sequence[Path] | None,
    hosts: Sequence[str] = (),
    token: str | None = None,
) -> "Shown":
    """Open a collection to show it.

    Raises:
        EmbedInputError: a folder does not exist, or none is given for a database.
    """
    from jclip_connectors.server.ui.gallery import Shown

    if place.folder is None and not roots:
        raise EmbedInputError(
            "--store needs --root FOLDER: the database names the files whose pictures are shown, and only those in "
            "this folder are read"
        )
    for each in roots or ():
        if not each.is_dir():
            raise EmbedInputError(f"--root: {str(each)!r} is no folder")
    return Shown(
        store=place.open(config, None),
        config=config,
        name=Path(place.name.strip("'\"")).name,
        roots=None if not roots else tuple(roots),
        hosts=tuple(hosts),
        token=token,
    )
