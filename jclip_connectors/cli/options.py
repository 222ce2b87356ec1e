"""Options that several commands of `jclip` share, and how they are read."""

import dataclasses
import json
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core_encoder.image_limits import DEFAULT_LIMITS
from core_encoder.image_preprocess import Resampling
from core_encoder.models import RuntimeChoice, find_folder
from core_encoder.rendering import Rendering
from core_encoder.tiling import Tiling
from jclip_connectors.cli.terminal import say
from jclip_connectors.config import EmbeddingConfig, Fingerprint, ignored_variables
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.filters import parse_filter
from jclip_connectors.port import Filter, VectorStore
from jclip_connectors.store_kit.places import Place
from jclip_connectors.store_kit.validation import check_fingerprint
from jclip_connectors.store_urls import check_timeout, edge_url

if TYPE_CHECKING:
    from jclip_connectors.collection import MultimodalCollection
    from jclip_connectors.indexing import FileNotes

_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS = {"s": 1, "m": 60, "h": 3600, None: 1}
_WHERE_HINT = """write it like '{"suffix": ".png", "size_bytes": {"gte": 100000}}'"""


def parse_path(text: str | Path) -> Path:
    """Read a path; an empty one is an error and does not mean the current folder.

    "~" is the user's home, also where the shell leaves it, as in `--collection=~/photos`.
    """
    if str(text) == "":
        raise typer.BadParameter("an empty path is not allowed; write . for the current folder")
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser fails for a user that does not exist)


def parse_existing_file(text: str | Path) -> Path:
    """Read the path of a file that must exist."""
    path = parse_path(text)
    if not path.exists():
        raise typer.BadParameter(f"the file {str(path)!r} does not exist")
    if path.is_dir():
        raise typer.BadParameter(f"{str(path)!r} is a folder; name a file")
    return path


def parse_time(text: str | float) -> float:
    """Read a length of time: 90, 90s, 30m or 2h, in seconds."""
    found = _TIME.fullmatch(str(text))
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is no length of time: write 90s, 30m or 2h")
    return float(found[1]) * _UNITS[found[2]]


CollectionOption = Annotated[
    Path | None, typer.Option("--collection", metavar="PATH", parser=parse_path, help="The folder of the collection.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A collection elsewhere instead: qdrant://HOST:PORT/NAME, weaviate://HOST:PORT/NAME, pinecone://INDEX, "
        "postgresql://HOST:PORT/DATABASE/NAME, milvus://HOST:PORT/NAME, chroma://HOST:PORT/NAME, or in a folder "
        "edge:PATH, lancedb:PATH#NAME, chroma:PATH#NAME, milvus:PATH.db#NAME; keys come from QDRANT_API_KEY, "
        "WEAVIATE_API_KEY, PINECONE_API_KEY, PGPASSWORD, MILVUS_TOKEN and CHROMA_API_KEY.",
    ),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="SECONDS",
        callback=check_timeout,
        help="With --store: how long each answer of the server is waited for, as ?timeout=SECONDS in the URL.",
    ),
]
PatienceOption = Annotated[
    float,
    typer.Option(
        metavar="TIME",
        parser=parse_time,
        help="How long a server that is busy or cannot be reached is waited for without any success: 90s, 30m or 2h.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where the model runs: cpu, cuda, ...; default: CUDA if present.")
]
RuntimeOption = Annotated[
    RuntimeChoice,
    typer.Option(
        help="What runs the model: onnx (ONNX Runtime) or torch; auto is torch on CUDA, and onnx on a CPU where it is "
        "installed."
    ),
]
RenderingOption = Annotated[
    Rendering | None,
    typer.Option(
        help="How pictures are read: as_seen, as a viewer shows them (upright, transparency on white, colour profiles "
        "used), or as_stored, the pixels of the file; default: as_seen."
    ),
]
ResamplingOption = Annotated[
    Resampling | None,
    typer.Option(
        help="How pictures are resized: exact, to the pixels that the published model sees, or fast, which takes less "
        "time for large pictures and moves their vectors a little; default: exact."
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Width times height of a picture: a larger JPEG is shrunk while it is decoded, and any other picture is "
        f"refused; default: {DEFAULT_LIMITS.max_pixels}.",
    ),
]
MaxBytesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help=f"Size of the file of a picture, in bytes; default: {DEFAULT_LIMITS.max_bytes}."
    ),
]


def collection_url(collection: Path | None, store: str | None) -> str:
    """Give the URL of the collection that one of `--collection` and `--store` names."""
    if (collection is None) == (store is None):
        raise EmbedInputError("name the collection with one of --collection PATH and --store URL")
    return edge_url(collection) if collection is not None else str(store)


def existing_fingerprint(place: Place) -> Fingerprint:
    """The fingerprint of the collection at a place.

    Raises:
        StoreRequestError: there is no collection.
    """
    fingerprint = place.fingerprint()
    if fingerprint is None:
        raise StoreRequestError(f"there is no collection in {place.name}: `jclip index FOLDER` makes one")
    return fingerprint


def configuration(
    fingerprint: Fingerprint | None,
    *,
    model: str | None = None,
    dimensions: int | None = None,
    tiles: int | None = None,
    rendering: Rendering | None = None,
    resampling: Resampling | None = None,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
) -> EmbeddingConfig:
    """Options come first, then the collection's configuration (for a new one: the environment), then the defaults.

    Options that contradict the configuration of an existing collection are refused when it is opened.
    """
    config = EmbeddingConfig.from_env()
    if fingerprint is not None:
        stored = EmbeddingConfig.from_fingerprint(fingerprint, model=model)
        # The limits on pictures change no vector, so a collection has none of its own.
        config = dataclasses.replace(stored, max_pixels=config.max_pixels, max_image_bytes=config.max_image_bytes)
        for sentence in ignored_variables(config):
            say(f"note: {sentence}", style="yellow")
    given: dict[str, Any] = {
        "model": model,
        "dimensions": dimensions,
        "rendering": rendering,
        "resampling": resampling,
        "max_pixels": max_pixels,
        "max_image_bytes": max_bytes,
        "tiling": None if tiles is None else Tiling(max_tiles=tiles),
    }
    return dataclasses.replace(config, **{name: value for name, value in given.items() if value is not None})


def open_collection(
    place: Place,
    config: EmbeddingConfig,
    *,
    device: str | None,
    runtime: RuntimeChoice,
    batch_size: int = 64,
    notes: "FileNotes | None" = None,
) -> "tuple[MultimodalCollection, VectorStore]":
    """Load the model, and open the collection with it; returns the collection and its store.

    What can be known without the model is checked before it is fetched and loaded.

    Raises:
        ConfigError: the model has no name or commit that tells its weights.
        CollectionMismatchError: the collection was made with another configuration.
    """
    from jclip_connectors.collection import MultimodalCollection
    from jclip_connectors.local import LocalEmbedder

    stored = place.fingerprint()
    if find_folder(config.model) is None:
        requested = config.fingerprint()  # without reading weights
        if stored is not None and config.embedding_dim is not None:
            check_fingerprint(stored, requested, collection=place.name)
    # The model first: if it cannot be loaded, no collection is made.
    embedder = LocalEmbedder(config, device=device, runtime=runtime, on_note=notes)
    records = place.open(config, embedder.dimensions)
    return MultimodalCollection(embedder, records, batch_size=batch_size), records


def check_output(path: Path | None) -> None:
    """Refuse an output file that cannot be written, before the work starts; a picture is not overwritten.

    Raises:
        EmbedInputError: there is no such folder, the file is a picture or no file, or its folder takes no new file.
    """
    if path is None:
        return
    from jclip_connectors.indexing.first_bytes import is_picture, read_head  # only where a file is written

    refused = f"{str(path)!r} cannot be written"
    if not path.parent.is_dir():
        raise EmbedInputError(f"{refused}: there is no folder {str(path.parent)!r}")
    if path.exists() and not path.is_file():
        raise EmbedInputError(f"{refused}: it is a folder, a device or a pipe; name a file")
    if is_picture(read_head(path)):
        raise EmbedInputError(f"{refused}: it is a picture; name another file")
    target = path.resolve()  # of a link
    # A new file is made under its own name, which may be too long; an old file is replaced by a new one beside it.
    probe = target.with_name(f".{uuid.uuid4().hex}.tmp") if target.exists() else target
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise EmbedInputError(f"{refused}: {error.strerror}") from error


def parse_where(where: str | None) -> Filter | None:
    """Read the JSON of `--where`.

    Raises:
        EmbedInputError: `where` is not JSON, or not a filter.
    """
    if where is None:
        return None
    try:
        condition: Any = json.loads(where)
    except (ValueError, RecursionError) as error:
        raise EmbedInputError(f"--where is not JSON ({error}); {_WHERE_HINT}") from error
    if not isinstance(condition, dict):
        raise EmbedInputError(f"--where is {where!r}, which is not a JSON object; {_WHERE_HINT}")
    parse_filter(condition)
    return condition
