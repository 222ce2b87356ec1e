"""Qdrant: a server, a cloud cluster, or qdrant-client's local mode (qdrant-client >= 1.20, a server of 1.16 or later).

The client is the caller's: its credentials, its timeout, and whether it is closed. One request does a whole search:
`coarse`, the first values of each vector, chooses what is compared in full, and that the records whose tiles are.
Writing makes the payload indexes that filters use, so a key that may only read can search.
"""

import dataclasses
import json
from types import MappingProxyType
from typing import Any, Self, get_args

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.qdrant.errors import translate
from jclip_connectors.qdrant.operations import ATTEMPTS, QdrantFlows
from jclip_connectors.qdrant.requests import Layout, Quantization, read_layout, vectors_config
from jclip_connectors.store_kit.coarse import CANDIDATES, CoarseDimensions, resolve_coarse
from jclip_connectors.store_kit.flows import AsyncStore, BlockingStore, Flow, run, run_async
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, require_dimensions, resolve_dimensions

__all__ = ["AsyncQdrantStore", "QdrantStore", "Quantization", "stored_fingerprint"]

_MOST_DIMENSIONS = 65_536
_FORBIDDEN_IN_NAMES = '<>:"/\\|?*\0\x1f'
_METADATA_KEY = "jclip"  # of the collection; its value is text, exact through every transport
_FORMAT = 1
_UNASKED = MappingProxyType({"coarse_dimensions": "auto", "quantization": None, "dimensions": None})


class QdrantStore(BlockingStore):
    """A collection in Qdrant."""

    @classmethod
    def open(
        cls,
        client: QdrantClient,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        coarse_dimensions: CoarseDimensions = "auto",
        quantization: Quantization | None = None,
        candidates: int = CANDIDATES,
        dimensions: int | None = None,
    ) -> Self:
        """Open a collection, or make it.

        Args:
            client: your client, with your credentials; it stays yours to close.
            collection_name: up to 255 characters.
            config: what the vectors are made with.
            coarse_dimensions: length of the prefix of the vectors that is searched first: faster, and right only for
                models trained so that a prefix means something. "auto" is what the collection was made with; for a new
                one without `quantization` 64 where the model was trained so and the vectors have more than 128 values,
                else none. `None` is no such prefix.
            quantization: how the vectors that are searched first are kept in memory, the whole ones being on disk:
                "scalar", a byte a value, or "binary", a bit. `None` is what the collection was made with, and none
                for a new one. What is found so is compared again by the whole vectors.
            candidates: how many records, at least, each stage of a search leaves to the next one: more make it slower
                and nearer to exact. A collection of no more is searched exactly.
            dimensions: length of the vectors of a new collection, where `config` does not know it.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: the collection is none of ours, or the server refuses.
            StoreUnavailableError: the server cannot be reached.
            EmbedInputError: an option is out of range, or not what the collection was made with.
        """
        opening = _open(
            collection_name,
            config,
            coarse_dimensions=coarse_dimensions,
            quantization=quantization,
            candidates=candidates,
            dimensions=dimensions,
        )
        return cls(client, run(opening, client, translate=translate, attempts=ATTEMPTS))


class AsyncQdrantStore(AsyncStore):
    """A collection in Qdrant, for a program with an event loop."""

    @classmethod
    async def open(
        cls,
        client: AsyncQdrantClient,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        coarse_dimensions: CoarseDimensions = "auto",
        quantization: Quantization | None = None,
        candidates: int = CANDIDATES,
        dimensions: int | None = None,
    ) -> Self:
        """Open a collection, or make it; see `QdrantStore.open`."""
        opening = _open(
            collection_name,
            config,
            coarse_dimensions=coarse_dimensions,
            quantization=quantization,
            candidates=candidates,
            dimensions=dimensions,
        )
        return cls(client, await run_async(opening, client, translate=translate, attempts=ATTEMPTS))


def stored_fingerprint(client: QdrantClient, collection_name: str) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if there is no such collection.

    Args:
        client: your client; it stays yours to close.
        collection_name: of the collection.

    Raises:
        StoreRequestError: the collection is none of ours, or the server refuses.
        StoreUnavailableError: the server cannot be reached.
    """
    _check_name(collection_name)
    info = run(_describe(collection_name), client, translate=translate, attempts=ATTEMPTS)
    return None if info is None else _read_fingerprint(info, collection_name)


def _open(
    name: str,
    config: EmbeddingConfig,
    *,
    coarse_dimensions: CoarseDimensions,
    quantization: Quantization | None,
    candidates: int,
    dimensions: int | None,
) -> Flow[QdrantFlows]:
    _check_name(name)
    check_count(candidates, name="candidates")
    _check_quantization(quantization)
    sized = dataclasses.replace(config, dimensions=resolve_dimensions(config, dimensions, most=_MOST_DIMENSIONS))
    # Quantized vectors are a first stage of their own.
    prefix = None if quantization is not None and coarse_dimensions == "auto" else coarse_dimensions
    coarse = resolve_coarse(prefix, sized)
    fingerprint = config.fingerprint()
    info = yield from _describe(name)
    if info is None:
        length = require_dimensions(sized.embedding_dim)
        layout = Layout(dimensions=length, coarse=coarse, tiled=config.tiling is not None, quantization=quantization)
        info = yield from _create(name, layout, fingerprint)
    stored = _read_fingerprint(info, name)
    check_fingerprint(stored, fingerprint, collection=f"the collection {name!r}")
    vectors: Any = info.config.params.vectors  # by name, in a collection with our fingerprint
    layout = read_layout(vectors, tiled=config.tiling is not None)
    for option, given, made_with in (
        ("coarse_dimensions", coarse_dimensions, layout.coarse),
        ("quantization", quantization, layout.quantization),
        ("dimensions", dimensions, layout.dimensions),
    ):
        if given != made_with and given != _UNASKED[option]:
            raise EmbedInputError(
                f"`{option}` is {given!r}, but the collection {name!r} was made with {made_with!r}: leave it out, or "
                "make a new collection"
            )
    return QdrantFlows(name, stored, layout, candidates=candidates, indexed=set(info.payload_schema))


def _create(name: str, layout: Layout, fingerprint: Fingerprint) -> Flow[models.CollectionInfo]:
    described = json.dumps({"format": _FORMAT, "fingerprint": dict(fingerprint)})
    try:
        yield lambda client: client.create_collection(
            name, vectors_config=vectors_config(layout), metadata={_METADATA_KEY: described}
        )
    except StoreRequestError:
        info = yield from _describe(name)
        if info is None:
            raise
        return info  # another process has made it meanwhile
    made: models.CollectionInfo = yield lambda client: client.get_collection(name)
    return made


def _describe(name: str) -> Flow[models.CollectionInfo | None]:
    if not (yield lambda client: client.collection_exists(name)):
        return None
    info: models.CollectionInfo = yield lambda client: client.get_collection(name)
    return info


def _read_fingerprint(info: models.CollectionInfo, name: str) -> Fingerprint:
    text = (info.config.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise StoreRequestError(
            f"the collection {name!r} has no fingerprint: another program made it, or a server before 1.16, which "
            "keeps none. Name another collection"
        )
    try:
        described = json.loads(text)
        fingerprint: Fingerprint = described["fingerprint"]
        known = described["format"] == _FORMAT
    except (TypeError, ValueError, KeyError) as error:
        raise StoreRequestError(f"the fingerprint of the collection {name!r} is damaged: make a new one") from error
    if not known:
        raise StoreRequestError(f"another version made the collection {name!r}: use that version")
    return fingerprint


def _check_name(name: str) -> None:
    given: object = name  # whatever the caller has
    if not isinstance(given, str) or not 0 < len(given) <= 255 or given in (".", ".."):
        raise EmbedInputError(f"`collection_name` is {given!r}; use 1 to 255 characters, other than '.' and '..'")
    for char in given:
        if char in _FORBIDDEN_IN_NAMES:
            raise EmbedInputError(f"`collection_name` is {given!r}: Qdrant has no names with {char!r}")


def _check_quantization(quantization: object) -> None:
    if quantization is not None and quantization not in get_args(Quantization):
        raise EmbedInputError(f"`quantization` is {quantization!r}; use one of {get_args(Quantization)}, or None")
