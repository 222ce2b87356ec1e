"""MultimodalCollection: an embedder and a store together; what every front door calls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jclip_connectors.collection.adding import Adding, AddReport, Describe, check_given, check_images, check_texts
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.collection.searching import search
from jclip_connectors.identity import describe_image, describe_text
from jclip_connectors.port import Embedder, Filter, ImageSource, Modality, Record, SearchHit, VectorStore
from jclip_connectors.store_kit.validation import check_count, check_fingerprint


class MultimodalCollection:
    """Texts and images in one store, found by text or by image."""

    def __init__(self, embedder: Embedder, store: VectorStore, *, batch_size: int = 64) -> None:
        """Put an embedder and a store together.

        Args:
            embedder: makes the vectors.
            store: keeps them; closing it stays with the caller.
            batch_size: how many items are embedded and written at a time.

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

    def add_texts(
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
                is written, and `failed` the reason for every other item, by position.
        """
        check_texts(texts)
        return self._add(texts, metadatas, ids, describe=describe_text, embed=self._embedder.embed_texts)

    def add_images(
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
        return self._add(images, metadatas, ids, describe=describe_image, embed=embed)

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
    ) -> list[SearchHit]:
        """Find what is nearest to a text or an image.

        Cosines of texts and of images are on different scales. Where both are found they are ranked apart and fused by
        reciprocal rank, which is then the `score`; where only one is found, or asked for, `score` is the cosine.

        Args:
            text: what to look for; or
            image: an image to look for.
            limit: at most this many results.
            where: a filter on metadata, like `{"year": {"gte": 2020}}`; see `jclip_connectors.filters`.
            modality: "image" or "text" to find only these.

        Returns:
            The results, nearest first; with tiling each image has the `box` of its nearest tile.

        Raises:
            EmbedInputError: not one of `text` and `image`, or an argument that cannot be used.
        """
        flow = search(text, image, limit=limit, where=where, modality=modality, tiles=self._tiled)
        return self._host().run(flow)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""
        return self._store.get(ids)

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two; an id that is not there is no error."""
        self._store.delete(ids, where=where)

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""
        return self._store.count(where=where, modality=modality)

    def _add(
        self,
        sources: Sequence[Any],
        metadatas: Sequence[Mapping[str, Any]] | None,
        ids: Sequence[str] | None,
        *,
        describe: Describe,
        embed: Callable[[Any], Any],
    ) -> AddReport:
        adding = Adding(sources, check_given(len(sources), metadatas, ids), describe=describe)
        self._host(embed).add(adding, batch_size=self._batch_size, what="items")
        return adding.report(what="items")

    def _host(self, embed: Callable[[Any], Any] | None = None) -> BlockingHost:
        return BlockingHost(store=self._store, embedder=self._embedder, embed=embed)
