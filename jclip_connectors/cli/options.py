"""Options that several commands of `jclip` share, and how they are read."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from core_encoder.rendering import Rendering
from core_encoder.tiling import Tiling
from jclip_connectors.cli.store_urls import Place, edge_url
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.filters import parse_filter
from jclip_connectors.port import Filter, VectorStore

_WHERE_HINT = """write it like '{"suffix": ".png", "size_bytes": {"gte": 100000}}'"""


def parse_path(text: str | Path) -> Path:
    """Read a path; an empty one is an error and does not mean the current folder."""
    if str(text) == "":
        raise typer.BadParameter("an empty path is not allowed; write . for the current folder")
    return Path(text)


CollectionOption = Annotated[
    Path | None, typer.Option("--collection", metavar="PATH", parser=parse_path, help="The folder of the collection.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A collection elsewhere instead: qdrant://HOST:PORT/NAME, weaviate://HOST:PORT/NAME, pinecone://INDEX, "
        "postgresql://HOST:PORT/DATABASE/NAME or edge:PATH; keys come from QDRANT_API_KEY, WEAVIATE_API_KEY, "
        "PINECONE_API_KEY and PGPASSWORD.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where the model runs: cpu, cuda, ...; default: CUDA if present.")
]
RenderingOption = Annotated[
    Rendering | None,
    typer.Option(
        help="How pictures are read: as_seen, as a viewer shows them (upright, transparency on white, colour profiles "
        "used), or as_stored, the pixels of the file; default: as_seen."
    ),
]


def collection_url(collection: Path | None, store: str | None) -> str:
    """Give the URL of the collection that one of `--collection` and `--store` names."""
    if (collection is None) == (store is None):
        raise EmbedInputError("name the collection with one of --collection PATH and --store URL")
    return edge_url(collection) if collection is not None else str(store)


def configuration(
    fingerprint: Fingerprint | None,
    *,
    model: str | None = None,
    dimensions: int | None = None,
    tiles: int | None = None,
    rendering: Rendering | None = None,
) -> EmbeddingConfig:
    """Options come first, then the collection's configuration (for a new one: the environment), then the defaults.

    Options that contradict the configuration of an existing collection are refused when it is opened.
    """
    config = EmbeddingConfig.from_env()
    if fingerprint is not None:
        config = EmbeddingConfig.from_fingerprint(fingerprint, model=model)
    given: dict[str, Any] = {
        "model": model,
        "dimensions": dimensions,
        "rendering": rendering,
        "tiling": None if tiles is None else Tiling(max_tiles=tiles),
    }
    return dataclasses.replace(config, **{name: value for name, value in given.items() if value is not None})


def open_collection(
    place: Place, config: EmbeddingConfig, *, device: str | None, batch_size: int = 64
) -> tuple[MultimodalCollection, VectorStore]:
    """Load the model, and open the collection with it; returns the collection and its store."""
    from jclip_connectors.local import LocalEmbedder

    # The model first: if it cannot be loaded, no collection is made.
    embedder = LocalEmbedder(config, device=device)
    records = place.open(config, embedder.dimensions)
    return MultimodalCollection(embedder, records, batch_size=batch_size), records


def check_parent(path: Path | None) -> None:
    """Refuse an output file that cannot be written, before the work starts."""
    if path is not None and not path.parent.is_dir():
        raise EmbedInputError(f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    if path is not None and path.exists() and not path.is_file():
        raise EmbedInputError(f"{str(path)!r} cannot be written: it is a folder, a device or a pipe; name a file")


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
