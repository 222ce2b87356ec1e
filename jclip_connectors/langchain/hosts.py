"""Hosts over LangChain's `Embeddings`: blocking, or asyncio through their async methods."""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.embeddings import Embeddings

from jclip_connectors.collection.async_hosts import AsyncHost
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.langchain.documents import Item
from jclip_connectors.langchain.embeddings import JinaClipEmbeddings, image_function
from jclip_connectors.port import AsyncVectorStore, FloatArray, ImageSource, VectorStore
from jclip_connectors.store_kit.validation import check_embedding


def blocking_host(store: VectorStore, embedding: Embeddings, *, tiled: bool) -> BlockingHost:
    """Combine a blocking store and embeddings; `tiled` says whether the store has tiles."""
    embedder = _Blocking(embedding, tiled=tiled)
    return BlockingHost(store=store, embedder=embedder, embed=embedder.embed_items)


def async_host(store: AsyncVectorStore, embedding: Embeddings, *, tiled: bool) -> AsyncHost:
    """Combine an asyncio store and embeddings; `tiled` says whether the store has tiles."""
    embedder = _Async(embedding, tiled=tiled)
    return AsyncHost(store=store, embedder=embedder, embed=embedder.embed_items)


def as_vector(embedding: object) -> FloatArray:
    """Convert a query vector to an array: (E,).

    Raises:
        EmbedInputError: it is not a vector.
    """
    return check_embedding(embedding, dimensions=None)


class _Blocking:
    def __init__(self, embedding: Embeddings, *, tiled: bool) -> None:
        self._embedding = embedding
        self._tiled = tiled

    def embed_query(self, text: str) -> FloatArray:
        return as_vector(self._embedding.embed_query(text))

    def embed_texts(self, texts: Sequence[str]) -> Sequence[Any]:
        return self._embedding.embed_documents(list(texts))

    def embed_images(self, images: Sequence[ImageSource]) -> Sequence[Any]:
        return image_function(self._embedding)(list(images))

    def embed_items(self, items: Sequence[Item]) -> list[Any]:
        texts, images = _split(items)
        rows = self._embedding.embed_documents(list(texts.values())) if texts else []
        return _gather(texts, rows, images, functools.partial(_embed_images, self._embedding, tiled=self._tiled))


class _Async:
    def __init__(self, embedding: Embeddings, *, tiled: bool) -> None:
        self._embedding = embedding
        self._tiled = tiled

    async def embed_query(self, text: str) -> FloatArray:
        return as_vector(await self._embedding.aembed_query(text))

    async def embed_texts(self, texts: Sequence[str]) -> Sequence[Any]:
        return await self._embedding.aembed_documents(list(texts))

    async def embed_images(self, images: Sequence[ImageSource]) -> Sequence[Any]:
        return await asyncio.to_thread(image_function(self._embedding), list(images))

    async def embed_items(self, items: Sequence[Item]) -> list[Any]:
        texts, images = _split(items)
        rows = await self._embedding.aembed_documents(list(texts.values())) if texts else []
        embed = functools.partial(_embed_images, self._embedding, tiled=self._tiled)
        return await asyncio.to_thread(_gather, texts, rows, images, embed)


def _split(items: Sequence[Item]) -> tuple[dict[int, str], dict[int, ImageSource]]:
    """The texts and the images, by position."""
    texts = {at: item.source for at, item in enumerate(items) if not item.is_image}
    return texts, {at: item.source for at, item in enumerate(items) if item.is_image}


def _gather(
    texts: Mapping[int, str],
    rows: Sequence[Any],
    images: Mapping[int, ImageSource],
    embed: Callable[[list[ImageSource]], Sequence[Any]],
) -> list[Any]:
    """Merge the vectors of texts and images, in the order of the items.

    Raises:
        PartialFailureError: some images cannot be read.
    """
    found: dict[int, Any] = dict(zip(texts, _counted(rows, len(texts)), strict=True))
    failed: dict[int, Exception] = {}
    positions = list(images)
    if images:
        try:
            found |= zip(positions, _counted(embed(list(images.values())), len(images)), strict=True)
        except PartialFailureError as error:
            found |= {positions[index]: row for index, row in error.kept.items()}
            failed = {positions[index]: reason for index, reason in error.failed.items()}
    if failed:
        raise PartialFailureError("documents", failed=failed, kept=found)
    return [found[at] for at in range(len(found))]


def _embed_images(embedding: Embeddings, images: list[ImageSource], *, tiled: bool) -> Sequence[Any]:
    if isinstance(embedding, JinaClipEmbeddings) and tiled:
        return embedding.embedder.embed_image_tiles(images)
    return image_function(embedding)(images)


def _counted(rows: Sequence[Any], count: int) -> Sequence[Any]:
    if len(rows) != count:
        raise EmbedInputError(f"`embedding` made {len(rows)} vectors for {count} items: it must make one for each")
    return rows
