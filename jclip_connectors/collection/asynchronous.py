"""AsyncMultimodalCollection: the same operations for a program with an event loop."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from jclip_connectors.collection.adding import Adding, AddReport, Describe, check_given, check_images, check_texts
from jclip_connectors.collection.hosts import AsyncHost, ThreadedEmbedder
from jclip_connectors.collection.searching import search
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import (
    AsyncEmbedder,
    AsyncVectorStore,
    Embedder,
    Filter,
    ImageSource,
    Modality,
    Record,
    SearchHit,
)
from jclip_connectors.store_kit.validation import check_count, check_fingerprint


class AsyncMultimodalCollection:
    """A `MultimodalCollection` whose methods are awaited: over an asyncio store, and an embedder of either kind.

    What takes long happens in threads, so that the event loop goes on: the model's work, reading and hashing files, and
    checking and converting records. It belongs to the event loop that first uses it.
    """

    def __init__(
        self,
        embedder: Embedder | AsyncEmbedder,
        store: AsyncVectorStore,
        *,
        batch_size: int = 64,
        max_concurrency: int = 4,
    ) -> None:
        """Put an embedder and a store together.

        Args:
            embedder: makes the vectors: `AsyncRemoteEmbedder`, or one that is not asyncio, as `LocalEmbedder`. The
                latter embeds one batch at a time, and beside it one query.
            store: keeps the vectors; closing it stays with the caller.
            batch_size: how many items are embedded and written at a time.
            max_concurrency: how many batches of one call are on their way at a time, so that one is embedded while
                another is written.

        Raises:
            CollectionMismatchError: the store's vectors were made with another configuration.
            EmbedInputError: `batch_size` or `max_concurrency` is less than 1, or `store` is not asyncio.
        """
        if not inspect.iscoroutinefunction(store.upsert):
            raise EmbedInputError(f"`store` is a {type(store).__name__}, which is not asyncio: use its Async twin")
        check_fingerprint(store.fingerprint, embedder.config.fingerprint(), collection="the collection")
        check_count(batch_size, name="batch_size")
        check_count(max_concurrency, name="max_concurrency")
        self._embedder = as_async(embedder)
        self._store = store
        self._batch_size = batch_size
        self._max_concurrency = max_concurrency
        self._tiled = embedder.config.tiling is not None

    async def add_texts(
        self,
        texts: Sequence[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> AddReport:
        """Add texts, each in place of the record with its id.

        Args:
            texts: the texts.
            metadatas: a JSON object for each; `None` gives all an empty one.
            ids: an id for each; `None` makes them of the texts, so that adding a text again changes nothing.

        Raises:
            EmbedInputError: an item that is no text, metadata that is not JSON, or another number of `metadatas` or
                `ids`; nothing has been written then.
            PartialFailureError: the store refused some, or failed after it had taken some; `kept` has the ids of what
                is written, and `failed` the reason for every other item, by position. Batches that were on their way
                when one failed are finished first.
        """
        check_texts(texts)
        return await self._add(texts, metadatas, ids, describe=describe_text, embed=self._embedder.embed_texts)

    async def add_images(
        self,
        images: Sequence[ImageSource],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> AddReport:
        """Add images, each in place of the record with its id; those that cannot be read are reported and left out.

        Args:
            images: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays. A path is kept as the
                record's `uri`; the image itself is not kept.
            metadatas: a JSON object for each; `None` gives all an empty one.
            ids: an id for each; `None` makes them of the files' bytes, so that adding a file again changes nothing.

        Raises:
            EmbedInputError: metadata that is not JSON, or another number of `metadatas` or `ids`; nothing has been
                written then.
            PartialFailureError: as for `add_texts`.
        """
        check_images(images)
        embed = self._embedder.embed_image_tiles if self._tiled else self._embedder.embed_images
        return await self._add(images, metadatas, ids, describe=describe_image, embed=embed)

    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
    ) -> list[SearchHit]:
        """Find what is nearest to a text or an image; texts and images are searched at once.

        Args:
            text: what to look for; or
            image: an image to look for.
            limit: at most this many results.
            where: a filter on metadata, like `{"year": {"gte": 2020}}`; see `jclip_connectors.filters`.
            modality: "image" or "text" to find only these.

        Returns:
            The results, nearest first, with the scores of `MultimodalCollection.search`.

        Raises:
            EmbedInputError: not one of `text` and `image`, or an argument that cannot be used.
        """
        flow = search(text, image, limit=limit, where=where, modality=modality, tiles=self._tiled)
        return await self._host().run(flow)

    async def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""
        return await self._store.get(ids)

    async def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two; an id that is not there is no error."""
        await self._store.delete(ids, where=where)

    async def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""
        return await self._store.count(where=where, modality=modality)

    async def _add(
        self,
        sources: Sequence[Any],
        metadatas: Sequence[Mapping[str, Any]] | None,
        ids: Sequence[str] | None,
        *,
        describe: Describe,
        embed: Callable[[Any], Any],
    ) -> AddReport:
        given = await asyncio.to_thread(check_given, len(sources), metadatas, ids)  # metadata may be large
        adding = Adding(sources, given, describe=describe)
        await self._host(embed).add(
            adding, batch_size=self._batch_size, max_concurrency=self._max_concurrency, what="items"
        )
        return adding.report(what="items")

    def _host(self, embed: Callable[[Any], Any] | None = None) -> AsyncHost:
        return AsyncHost(store=self._store, embedder=self._embedder, embed=embed)


def as_async(embedder: Embedder | AsyncEmbedder) -> AsyncEmbedder:
    """The embedder itself if it is asyncio, else one that lets it work in threads."""
    if inspect.iscoroutinefunction(embedder.embed_query):
        return cast("AsyncEmbedder", embedder)
    return ThreadedEmbedder(cast("Embedder", embedder))
