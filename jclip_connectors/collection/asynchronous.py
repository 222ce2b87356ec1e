"""AsyncMultimodalCollection: the asyncio version of `MultimodalCollection`."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from jclip_connectors.collection.adding import (
    Adding,
    AddReport,
    Describe,
    Progress,
    check_given,
    check_images,
    check_texts,
)
from jclip_connectors.collection.async_hosts import AsyncHost, ThreadedEmbedder, is_asyncio
from jclip_connectors.collection.hits import Hits
from jclip_connectors.collection.samples import SampleCache
from jclip_connectors.collection.searching import Request, modalities_of, search, search_many
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
    """The asyncio version of `MultimodalCollection`, over an asyncio store and a blocking or asyncio embedder.

    Slow work runs in threads and does not block the event loop: the model, reading and hashing files, and checking
    and converting records. Use one instance with one event loop only.
    """

    def __init__(
        self,
        embedder: Embedder | AsyncEmbedder,
        store: AsyncVectorStore,
        *,
        batch_size: int = 64,
        max_concurrency: int = 4,
    ) -> None:
        """Combine an embedder and a store.

        Args:
            embedder: makes the vectors: `AsyncRemoteEmbedder`, or a blocking embedder such as `LocalEmbedder`. A
                blocking embedder embeds one batch at a time, and one query at the same time.
            store: stores the vectors; the caller closes it.
            batch_size: the number of items that are embedded and written at a time.
            max_concurrency: the largest number of batches of one call in progress, so that one batch is embedded while
                another is written.

        Raises:
            CollectionMismatchError: the store's vectors were made with another configuration.
            EmbedInputError: `batch_size` or `max_concurrency` is less than 1, or `store` is not asyncio.
        """
        if not is_asyncio(store):
            raise EmbedInputError(f"`store` is a {type(store).__name__}, which is not asyncio: use its async version")
        check_fingerprint(store.fingerprint, embedder.config.fingerprint(), collection="the collection")
        check_count(batch_size, name="batch_size")
        check_count(max_concurrency, name="max_concurrency")
        self._embedder = as_async(embedder)
        self._store = store
        self._batch_size = batch_size
        self._max_concurrency = max_concurrency
        self._tiled = embedder.config.tiling is not None
        self._samples = SampleCache(embeds_texts=True)

    async def add_texts(
        self,
        texts: Sequence[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
        *,
        progress: Progress | None = None,
    ) -> AddReport:
        """Add texts; a record with the same id is replaced.

        Args:
            texts: the texts.
            metadatas: a JSON object for each text; `None` means empty metadata.
            ids: an id for each text; `None` makes ids from the texts, so adding a text again changes nothing.
            progress: called with (done, total) items before the first and after every batch.

        Raises:
            EmbedInputError: an item is not a text, metadata is not JSON, or the number of `metadatas` or `ids` differs
                from the number of texts; nothing is written.
            PartialFailureError: the store refused some, or failed after some were written; `kept` has the ids of the
                written items and `failed` the error of every other item, by position. Batches in progress are
                finished before it is raised.
        """
        check_texts(texts)
        return await self._add(
            texts, metadatas, ids, describe=describe_text, embed=self._embedder.embed_texts, progress=progress
        )

    async def add_images(
        self,
        images: Sequence[ImageSource],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
        *,
        captions: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Add images; a record with the same id is replaced. Images that cannot be read are reported and left out.

        Args:
            images: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays. A path is stored as the
                record's `uri`; the image itself is not stored.
            metadatas: a JSON object for each image; `None` means empty metadata.
            ids: an id for each image; `None` makes ids from the images' bytes, so adding a file again changes nothing.
                Files of equal bytes in different places are different records.
            captions: a caption for each image, or `None`; it is stored as `content` and not embedded.
            progress: called with (done, total) items before the first and after every batch.

        Raises:
            EmbedInputError: metadata is not JSON, or the number of `metadatas` or `ids` differs from the number of
                images; nothing is written.
            PartialFailureError: as for `add_texts`.
        """
        check_images(images)
        embed = self._embedder.embed_image_tiles if self._tiled else self._embedder.embed_images
        return await self._add(
            images, metadatas, ids, captions, describe=describe_image, embed=embed, progress=progress
        )

    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        group_duplicates: bool = False,
    ) -> list[SearchHit]:
        """Find the records nearest to a text or an image; texts and images are searched concurrently.

        Args:
            text: a text to search for; or
            image: an image to search for.
            limit: the largest number of results.
            where: a filter on metadata, like `{"year": {"gte": 2020}}`; see `jclip_connectors.filters`.
            modality: "image" or "text" to find only images or only texts.
            score_threshold: the smallest cosine of a result.
            offset: the number of first results to leave out, to show more of them on another page.
            group_duplicates: make records of equal content one result, with the other ids as its `duplicates`.

        Returns:
            The results, nearest first, with the scores of `MultimodalCollection.search`.

        Raises:
            EmbedInputError: neither or both of `text` and `image` are given, or an argument is bad.
        """
        request = self._request(limit, where, modality, score_threshold, offset, group_duplicates)
        found = await self._host().run(search(text, image, request, self._samples))
        return Hits(found, rendering=self._embedder.config.rendering)

    async def search_many(
        self,
        texts: Sequence[str] | None = None,
        *,
        images: Sequence[ImageSource] | None = None,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        group_duplicates: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for several texts or images: they are embedded as one batch, and searched in few requests.

        Args:
            texts: texts to search for; or
            images: images to search for.
            limit: the largest number of results for each of them.
            where: a filter on metadata.
            modality: "image" or "text" to find only images or only texts.
            score_threshold: the smallest cosine of a result.
            offset: the number of first results to leave out.
            group_duplicates: make records of equal content one result.

        Returns:
            The results of `search` for each text or image, in their order.

        Raises:
            EmbedInputError: neither or both of `texts` and `images` are given, an image cannot be read, or an argument
                is bad.
        """
        request = self._request(limit, where, modality, score_threshold, offset, group_duplicates)
        found = await self._host().run(search_many(texts, images, request, self._samples))
        return [Hits(each, rendering=self._embedder.config.rendering) for each in found]

    async def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        return await self._store.get(ids)

    async def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one. Unknown ids are ignored."""
        await self._store.delete(ids, where=where)
        self._samples.note_deleted(ids)

    async def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        return await self._store.count(where=where, modality=modality)

    def _request(
        self,
        limit: int,
        where: Filter | None,
        modality: Modality | None,
        score_threshold: float | None,
        offset: int,
        group_duplicates: bool,  # noqa: FBT001 (private)
    ) -> Request:
        return Request(
            limit=limit,
            where=where,
            modalities=modalities_of(modality),
            tiles=self._tiled,
            score_threshold=score_threshold,
            offset=offset,
            group_duplicates=group_duplicates,
        )

    async def _add(
        self,
        sources: Sequence[Any],
        metadatas: Sequence[Mapping[str, Any]] | None,
        ids: Sequence[str] | None,
        captions: Sequence[str | None] | None = None,
        *,
        describe: Describe,
        embed: Callable[[Any], Any],
        progress: Progress | None,
    ) -> AddReport:
        given = await asyncio.to_thread(check_given, len(sources), metadatas, ids, captions)  # metadata may be large
        adding = Adding(sources, given, describe=describe, progress=progress)
        try:
            await self._host(embed).add(
                adding, batch_size=self._batch_size, max_concurrency=self._max_concurrency, what="items"
            )
        finally:
            self._samples.note_written(len(sources))
        return adding.report(what="items")

    def _host(self, embed: Callable[[Any], Any] | None = None) -> AsyncHost:
        return AsyncHost(store=self._store, embedder=self._embedder, embed=embed)


def as_async(embedder: Embedder | AsyncEmbedder) -> AsyncEmbedder:
    """The embedder itself if it is asyncio, else a wrapper that runs it in threads."""
    if inspect.iscoroutinefunction(embedder.embed_query):
        return cast("AsyncEmbedder", embedder)
    return ThreadedEmbedder(cast("Embedder", embedder))
