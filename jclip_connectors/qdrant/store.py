"""Qdrant stores: a server, a cloud cluster, or qdrant-client's local mode (client >= 1.20, server >= 1.16).

The caller makes and closes the client, and sets its credentials and timeout. A search is one request: `coarse`, a
prefix of each vector, selects candidates; the full vectors rescore them, and the tiles of the best ones are compared.
Payload indexes are made by writes, so a read-only key can search.
"""

import dataclasses
import math
from types import MappingProxyType
from typing import Any, Self, get_args

from qdrant_client import AsyncQdrantClient, QdrantClient, models

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.qdrant.deferring import read_links, usual_links, write_links
from jclip_connectors.qdrant.errors import translate
from jclip_connectors.qdrant.operations import ATTEMPTS, QdrantFlows
from jclip_connectors.qdrant.requests import (
    OVERSAMPLING,
    Layout,
    Quantization,
    describe,
    read_description,
    read_layout,
    search_params,
    vectors_config,
)
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.clients import check_client, check_config
from jclip_connectors.store_kit.coarse import CANDIDATES, CoarseDimensions, resolve_coarse
from jclip_connectors.store_kit.flows import BlockingStore, Flow, run
from jclip_connectors.store_kit.patience import check_patience
from jclip_connectors.store_kit.validation import check_count, check_fingerprint, require_dimensions, resolve_dimensions

__all__ = ["AsyncQdrantStore", "QdrantStore", "Quantization", "stored_fingerprint"]

_MOST_DIMENSIONS = 65_536
_FORBIDDEN_IN_NAMES = '<>:"/\\|?*\0\x1f'
_UNASKED = MappingProxyType({"coarse_dimensions": "auto", "quantization": None, "dimensions": None})


class QdrantStore(BlockingStore):
    """A collection in Qdrant."""

    _flows: QdrantFlows

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
        hnsw_ef: int | None = None,
        oversampling: float = OVERSAMPLING,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection.

        Args:
            client: your client, with your credentials; you close it.
            collection_name: up to 255 characters.
            config: the configuration of the vectors.
            coarse_dimensions: length of the prefix of the vectors that is searched first: faster, but correct only for
                models trained for prefixes. "auto" keeps the setting of an existing collection; for a new one without
                `quantization` it is 64 if the model was trained for prefixes and the vectors have more than 128
                values, else no prefix. `None` is no prefix.
            quantization: compression of the vectors that are searched first; full vectors are then on disk and
                rescore the candidates. "scalar" is one byte per value, "binary" one bit. `None` keeps the setting of
                an existing collection; for a new one it is no quantization.
            candidates: the smallest number of records that each stage of a search passes to the next one: more is
                slower and more exact. Search is exact in a collection of this size.
            hnsw_ef: how many records the index of a large collection keeps in view during a search: more is slower and
                more exact. `None` is the server's own number; the records of the first stage are always kept.
            oversampling: how many times the results of the first stage quantized vectors select, before whole vectors
                rescore them: at least 1; more is slower and more exact.
            dimensions: length of the vectors of a new collection, if `config` does not set it.
            patience_s: how long each call waits for a database that is busy or cannot be reached, in seconds without
                any success. `None` waits up to 60 s for one that says that it is busy, and tries again twice at
                any other failure. Opening waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreRequestError: another program made the collection, or the server refuses the request.
            StoreUnavailableError: the server cannot be reached.
            EmbedInputError: a bad client or option, or an option differs from the setting of the collection.
        """
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=False)
        opening = _open(
            collection_name,
            config,
            coarse_dimensions=coarse_dimensions,
            quantization=quantization,
            candidates=candidates,
            hnsw_ef=hnsw_ef,
            oversampling=oversampling,
            dimensions=dimensions,
        )
        flows = run(opening, client, translate=translate, attempts=ATTEMPTS)
        return cls(client, flows, patience_s=limit_s)

    def index_links(self) -> int:
        """How many links a vector has in the search index (HNSW's m); 0 while the index is not built."""
        return self._run(read_links(self._flows.name))

    def usual_index_links(self) -> int:
        """How many links the setting of the whole collection says, for vectors without one of their own."""
        return self._run(usual_links(self._flows.name))

    def set_index_links(self, links: int) -> None:
        """Change how many links a vector has: 0 before many records are written, the former number after it.

        The server builds the index in the background; until then searches compare all vectors, which is slow.
        """
        self._run(write_links(self._flows.name, links))


class AsyncQdrantStore(AsyncStore):
    """A collection in Qdrant, through an asyncio client."""

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
        hnsw_ef: int | None = None,
        oversampling: float = OVERSAMPLING,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection; see `QdrantStore.open`."""
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=True)
        opening = _open(
            collection_name,
            config,
            coarse_dimensions=coarse_dimensions,
            quantization=quantization,
            candidates=candidates,
            hnsw_ef=hnsw_ef,
            oversampling=oversampling,
            dimensions=dimensions,
        )
        # In threads: the fingerprint of a model in a folder needs the hash of its weights.
        flows = await run_async(opening, client, translate=translate, attempts=ATTEMPTS, in_threads=True)
        return cls(client, flows, patience_s=limit_s)


def stored_fingerprint(client: QdrantClient, collection_name: str) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if there is no such collection.

    Args:
        client: your client; you close it.
        collection_name: the name of the collection.

    Raises:
        StoreRequestError: another program made the collection, or the server refuses the request.
        StoreUnavailableError: the server cannot be reached.
    """
    _check_client(client, asyncio=False)
    _check_name(collection_name)
    info = run(_describe(collection_name), client, translate=translate, attempts=ATTEMPTS)
    return None if info is None else read_description(info, collection_name)[0]


def _check_client(client: object, *, asyncio: bool) -> None:
    check_client(
        client,
        kinds=(AsyncQdrantClient,) if asyncio else (QdrantClient,),
        needs="get_collection",
        asyncio=asyncio,
        twin="QdrantStore" if asyncio else "AsyncQdrantStore",
        example="AsyncQdrantClient(url=...)" if asyncio else "QdrantClient(url=...)",
    )


def _open(
    name: str,
    config: EmbeddingConfig,
    *,
    coarse_dimensions: CoarseDimensions,
    quantization: Quantization | None,
    candidates: int,
    hnsw_ef: int | None,
    oversampling: float,
    dimensions: int | None,
) -> Flow[QdrantFlows]:
    check_config(config)
    _check_name(name)
    check_count(candidates, name="candidates")
    if hnsw_ef is not None:
        check_count(hnsw_ef, name="hnsw_ef")
    _check_oversampling(oversampling)
    _check_quantization(quantization)
    sized = dataclasses.replace(config, dimensions=resolve_dimensions(config, dimensions, most=_MOST_DIMENSIONS))
    # Quantized vectors are a first stage themselves.
    prefix = None if quantization is not None and coarse_dimensions == "auto" else coarse_dimensions
    coarse = resolve_coarse(prefix, sized)
    fingerprint = config.fingerprint()
    info = yield from _describe(name)
    if info is None:
        length = require_dimensions(sized.embedding_dim)
        layout = Layout(dimensions=length, coarse=coarse, tiled=config.tiling is not None, quantization=quantization)
        info = yield from _create(name, layout, fingerprint)
    stored, stored_format = read_description(info, name)
    check_fingerprint(stored, fingerprint, collection=f"the collection {name!r}")
    vectors: Any = info.config.params.vectors  # always named vectors in a collection with our fingerprint
    layout = read_layout(vectors, tiled=config.tiling is not None, stored_format=stored_format)
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
    params = search_params(layout, hnsw_ef=hnsw_ef, oversampling=oversampling)
    return QdrantFlows(name, stored, layout, candidates=candidates, params=params, indexed=set(info.payload_schema))


def _create(name: str, layout: Layout, fingerprint: Fingerprint) -> Flow[models.CollectionInfo]:
    try:
        yield lambda client: client.create_collection(
            name, vectors_config=vectors_config(layout), metadata=describe(fingerprint)
        )
    except StoreRequestError:
        info = yield from _describe(name)
        if info is None:
            raise
        return info  # another process has made it in the meantime
    made: models.CollectionInfo = yield lambda client: client.get_collection(name)
    return made


def _describe(name: str) -> Flow[models.CollectionInfo | None]:
    if not (yield lambda client: client.collection_exists(name)):
        return None
    info: models.CollectionInfo = yield lambda client: client.get_collection(name)
    return info


def _check_name(name: str) -> None:
    given: object = name  # checked here: the annotation is not enforced at run time
    if not isinstance(given, str) or not 0 < len(given) <= 255 or given in (".", ".."):
        raise EmbedInputError(f"`collection_name` is {given!r}; use 1 to 255 characters, other than '.' and '..'")
    for char in given:
        if char in _FORBIDDEN_IN_NAMES:
            raise EmbedInputError(f"`collection_name` is {given!r}: Qdrant's names cannot contain {char!r}")


def _check_quantization(quantization: object) -> None:
    if quantization is not None and quantization not in get_args(Quantization):
        raise EmbedInputError(f"`quantization` is {quantization!r}; use one of {get_args(Quantization)}, or None")


def _check_oversampling(oversampling: object) -> None:
    if isinstance(oversampling, bool) or not isinstance(oversampling, int | float) or not 1 <= oversampling < math.inf:
        raise EmbedInputError(f"`oversampling` is {oversampling!r}; use a number of at least 1")
