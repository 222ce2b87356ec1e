"""Weaviate stores (weaviate-client v4, server >= 1.33).

The caller makes and closes the client, and sets its credentials and timeouts. The client itself retries calls with the
status UNAVAILABLE, for up to a minute. Search is approximate: it uses the server's HNSW indexes.
"""

import re
from typing import Any, Self

from weaviate import WeaviateAsyncClient, WeaviateClient

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, StoreRequestError
from jclip_connectors.port import Filter, FloatArray, Modality, SearchHit
from jclip_connectors.store_kit.async_flows import AsyncStore, run_async
from jclip_connectors.store_kit.clients import check_client, check_config
from jclip_connectors.store_kit.flows import BlockingStore, Flow, run
from jclip_connectors.store_kit.patience import check_patience
from jclip_connectors.store_kit.validation import check_fingerprint, require_dimensions, resolve_dimensions
from jclip_connectors.weaviate.definition import Definition, layout_of
from jclip_connectors.weaviate.errors import translate
from jclip_connectors.weaviate.operations import ATTEMPTS, WeaviateFlows
from jclip_connectors.weaviate.reading import Hybrid
from jclip_connectors.weaviate.schema import QUANTIZERS, Layout, Quantizer, collection_arguments

__all__ = ["AsyncWeaviateStore", "Hybrid", "Quantizer", "WeaviateStore", "stored_fingerprint"]

_OLDEST = (1, 33)  # the first version with the filter `Not`
_NAME = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")
_MOST_DIMENSIONS = 65_535  # Source: the server's limit on the length of a vector


class WeaviateStore(BlockingStore):
    """A collection in Weaviate."""

    _flows: WeaviateFlows

    @classmethod
    def open(
        cls,
        client: WeaviateClient,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        quantizer: Quantizer | None = None,
        muvera: bool = False,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection.

        Args:
            client: a connected client; you close it.
            collection_name: a capital letter, then letters, digits and underscores.
            config: the configuration of the vectors.
            quantizer: how a new collection compresses vectors for searching: "rq" rotational, "bq" binary, "sq" scalar,
                "pq" product, `None` not. For an existing collection: `None`, or its own setting.
            muvera: whether a new collection first searches tiles by one encoded vector per record: smaller and faster,
                less exact.
            dimensions: length of the vectors, if `config` does not set it.
            patience_s: how long each call waits for a database that is busy or cannot be reached, in seconds without
                any success. `None` waits up to 60 s for one that says that it is busy, and tries again twice at
                any other failure. Opening waits as `None` does.

        Raises:
            CollectionMismatchError: the collection was made with another configuration.
            StoreUnavailableError: the server cannot be reached.
            StoreRequestError: the server refuses the request or is too old, or another program made the collection.
            EmbedInputError: a bad client, name or option, or the collection was made with other options.
        """
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=False)
        flow = _open(collection_name, config, quantizer=quantizer, muvera=muvera, dimensions=dimensions)
        flows = run(flow, client, translate=translate, attempts=ATTEMPTS)
        return cls(client, flows, patience_s=limit_s)

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
        hybrid: Hybrid | None = None,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties are in the order of ids.

        Args:
            embedding: (E,) float32.
            limit: the largest number of results; Weaviate returns at most 10,000.
            where: only records that match this filter.
            modality: "text" or "image" to find only texts or only images.
            tiles: compare the nearest tile of each record.
            hybrid: also search by keywords. The score is then the server's relative score fusion, 0..1, not the cosine.

        Raises:
            EmbedInputError: a bad argument.
            StoreUnavailableError: the server cannot be reached, or is overloaded.
            StoreRequestError: the server refuses the request.
        """
        options: dict[str, Any] = {"limit": limit, "where": where, "modality": modality, "tiles": tiles}
        return self._run(self._flows.search(embedding, **options, hybrid=hybrid))


class AsyncWeaviateStore(AsyncStore):
    """A collection in Weaviate, through an asyncio client."""

    _flows: WeaviateFlows

    @classmethod
    async def open(
        cls,
        client: WeaviateAsyncClient,
        collection_name: str,
        config: EmbeddingConfig,
        *,
        quantizer: Quantizer | None = None,
        muvera: bool = False,
        dimensions: int | None = None,
        patience_s: float | None = None,
    ) -> Self:
        """Open or create a collection; see `WeaviateStore.open`."""
        limit_s = check_patience(patience_s)
        _check_client(client, asyncio=True)
        flow = _open(collection_name, config, quantizer=quantizer, muvera=muvera, dimensions=dimensions)
        # In threads: the fingerprint of a model in a folder needs the hash of its weights.
        flows = await run_async(flow, client, translate=translate, attempts=ATTEMPTS, in_threads=True)
        return cls(client, flows, patience_s=limit_s)

    async def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
        hybrid: Hybrid | None = None,
    ) -> list[SearchHit]:
        """Find the nearest records; see `WeaviateStore.search`."""
        options: dict[str, Any] = {"limit": limit, "where": where, "modality": modality, "tiles": tiles}
        return await self._run(self._flows.search(embedding, **options, hybrid=hybrid))


def stored_fingerprint(client: WeaviateClient, collection_name: str) -> Fingerprint | None:
    """The fingerprint of a collection; `None` if the collection does not exist.

    Args:
        client: a connected client; you close it.
        collection_name: the name of the collection.

    Raises:
        StoreUnavailableError: the server cannot be reached.
        StoreRequestError: another program made the collection.
    """
    _check_client(client, asyncio=False)
    _check_name(collection_name)
    definition = run(_read(collection_name), client, translate=translate, attempts=ATTEMPTS)
    return None if definition is None else layout_of(definition, collection_name).fingerprint


def _check_client(client: object, *, asyncio: bool) -> None:
    check_client(
        client,
        kinds=(WeaviateAsyncClient,) if asyncio else (WeaviateClient,),
        needs="collections",
        asyncio=asyncio,
        twin="WeaviateStore" if asyncio else "AsyncWeaviateStore",
        example="weaviate.use_async_with_local()" if asyncio else "weaviate.connect_to_local()",
    )


def _open(
    name: str, config: EmbeddingConfig, *, quantizer: Quantizer | None, muvera: bool, dimensions: int | None
) -> Flow[WeaviateFlows]:
    check_config(config)
    _check_name(name)
    if quantizer is not None and quantizer not in QUANTIZERS:
        raise EmbedInputError(f"`quantizer` is {quantizer!r}; use one of {QUANTIZERS}, or None")
    tiled = config.tiling is not None
    if muvera and not tiled:
        raise EmbedInputError("`muvera` is True, but it needs tiles: the configuration has no `tiling`")
    wanted = Layout(
        fingerprint=config.fingerprint(),
        dimensions=require_dimensions(resolve_dimensions(config, dimensions, most=_MOST_DIMENSIONS)),
        quantizer=quantizer,
        muvera=bool(muvera),
    )
    meta = yield lambda client: client.get_meta()
    _check_version(meta["version"])
    definition = yield from _read(name)
    if definition is None:
        try:
            yield lambda client: client.collections.create(name, **collection_arguments(wanted, tiled=tiled))
        except StoreRequestError:
            definition = yield from _read(name)  # another process may have made it in the meantime
            if definition is None:
                raise
        else:
            definition = yield from _read(name)
    stored = layout_of(definition, name)
    check_fingerprint(stored.fingerprint, wanted.fingerprint, collection=f"the collection {name!r}")
    for option in ("dimensions", "quantizer", "muvera"):
        asked, made = getattr(wanted, option), getattr(stored, option)
        if asked not in (made, None, False):
            raise EmbedInputError(
                f"`{option}` is {asked!r}, but the collection {name!r} was made with {made!r}: "
                "leave it out, or make a new collection"
            )
    properties = [known.name for known in definition.properties]
    max_tiles = None if config.tiling is None else config.tiling.max_tiles
    return WeaviateFlows(Definition(name, stored, properties=properties), max_tiles=max_tiles)


def _read(name: str) -> Flow[Any]:
    """The definition of a collection; `None` if the collection does not exist."""
    exists = yield lambda client: client.collections.exists(name)
    if not exists:
        return None
    return (yield lambda client: client.collections.use(name).config.get(simple=True))


def _check_name(name: object) -> None:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise EmbedInputError(f"`collection_name` is {name!r}; use a capital A-Z, then letters, digits and underscores")


def _check_version(version: str) -> None:
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise StoreRequestError(
            f"the server is Weaviate {version}, which lacks the filter `Not`: use {oldest} or later"
        )
