"""MultimodalCollection: adds and searches texts and images with an embedder and a store."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jclip_connectors.collection.adding import (
    Adding,
    AddReport,
    Describe,
    Progress,
    check_given,
    check_images,
    check_texts,
)
from jclip_connectors.collection.hits import Hits
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.collection.samples import SampleCache
from jclip_connectors.collection.searching import Request, modalities_of, search, search_many
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import Embedder, Filter, ImageSource, Modality, Record, SearchHit, VectorStore
from jclip_connectors.store_kit.validation import check_count, check_fingerprint


class MultimodalCollection:
    """Texts and images in one store, searched by text or by image."""

    def __init__(self, embedder: Embedder, store: VectorStore, *, batch_size: int = 64) -> None:
        """Combine an embedder and a store.

        Args:
            embedder: makes the vectors.
            store: stores the vectors; the caller closes it.
            batch_size: the number of items that are embedded and written at a time.

        Raises:
            CollectionMismatchError: the store's vectors were made with another configuration.
            EmbedInputError: `batch_size` is less than 1.
        """
        check_fingerprint(store.fingerprint, embedder.config.fingerprint(), collection="the collection")
        check_count(batch_size, name="batch_size")
        self._embedder = embedder
        self._store = store
        self._batch_size = batch_size
        self._tiled = embedder.config.tiling is not None
        self._samples = SampleCache(embeds_texts=True)

    @property
    def embedder(self) -> Embedder:
        """What makes the vectors."""
        return self._embedder

    @property
    def store(self) -> VectorStore:
        """The store of the records."""
        return self._store

    def add_texts(
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
                written items and `failed` the error of every other item, by position.
        """
        check_texts(texts)
        return self._add(
            texts, metadatas, ids, describe=describe_text, embed=self._embedder.embed_texts, progress=progress
        )

    def add_images(
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
        return self._add(images, metadatas, ids, captions, describe=describe_image, embed=embed, progress=progress)

    def search(
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
        """Find the records nearest to a text or an image.

        `score` of a result is its cosine. Cosines of texts and of images are on different scales: if both are found,
        the results are ordered by `rank_score`, which says how unusual the cosine is for this query in its modality.

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
            The results, nearest first; with tiling each image has the `box` of its nearest tile. A notebook shows them
            as pictures.

        Raises:
            EmbedInputError: neither or both of `text` and `image` are given, or an argument is bad.
        """
        request = self._request(limit, where, modality, score_threshold, offset, group_duplicates)
        found = self._host().run(search(text, image, request, self._samples))
        return Hits(found, rendering=self._embedder.config.rendering)

    def search_many(
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
        found = self._host().run(search_many(texts, images, request, self._samples))
        return [Hits(each, rendering=self._embedder.config.rendering) for each in found]

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        return self._store.get(ids)

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records whose vectors are from this collection's embedder; a record with the same id is replaced."""
        try:
            self._store.upsert(records)
        finally:
            self._samples.note_written(len(records))

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one. Unknown ids are ignored."""
        self._store.delete(ids, where=where)
        self._samples.note_deleted(ids)

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        return self._store.count(where=where, modality=modality)

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

    def _add(
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
        adding = Adding(
            sources, check_given(len(sources), metadatas, ids, captions), describe=describe, progress=progress
        )
        try:
            self._host(embed).add(adding, batch_size=self._batch_size, what="items")
        finally:
            self._samples.note_written(len(sources))
        return adding.report(what="items")

    def _host(self, embed: Callable[[Any], Any] | None = None) -> BlockingHost:
        return BlockingHost(store=self._store, embedder=self._embedder, embed=embed)
