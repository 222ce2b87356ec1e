"""Documents into a store: embedded and written a batch at a time, and what became of each reported."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.embeddings import Embeddings

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.langchain.documents import Item
from jclip_connectors.langchain.embeddings import JinaClipEmbeddings, image_function
from jclip_connectors.port import ImageSource, Record, VectorStore
from jclip_connectors.store_kit.validation import check_count

_Vectors: TypeAlias = dict[int, dict[str, Any]]  # position -> the fields of a record that hold its vectors
_Failures: TypeAlias = dict[int, Exception]


class Adder:
    """Embeddings and a store, and whether the store keeps tiles."""

    def __init__(self, store: VectorStore, embedding: Embeddings, *, tiled: bool) -> None:
        """Put them together."""
        self._store = store
        self._embedding = embedding
        self._tiled = tiled

    def add(self, items: list[Item], *, batch_size: int = 64) -> list[str]:
        """Embed and write.

        Args:
            items: what to add.
            batch_size: how many are embedded and written at a time.

        Returns:
            The id of each.

        Raises:
            EmbedInputError: there are images, and the embeddings embed only texts.
            PartialFailureError: some could not be added; `kept` has the ids of those that were.
        """
        check_count(batch_size, name="batch_size")
        if any(item.is_image for item in items):
            image_function(self._embedding)
        kept: dict[int, str] = {}
        failed: _Failures = {}
        for start in range(0, len(items), batch_size):
            batch = dict(enumerate(items[start : start + batch_size], start=start))
            try:
                self._add_batch(batch, kept, failed)
            except Exception as error:
                if not kept:
                    raise
                # What is written stays written: the caller must hear of it, and of all that is not.
                failed.update({at: error for at in range(start, len(items)) if at not in failed})
                raise PartialFailureError("documents", failed=failed, kept=kept) from error
        if failed:
            raise PartialFailureError("documents", failed=failed, kept=kept)
        return [kept[at] for at in range(len(items))]

    def _add_batch(self, batch: Mapping[int, Item], kept: dict[int, str], failed: _Failures) -> None:
        """Embed and write some items; what became of each goes into `kept` or `failed`."""
        fields: dict[int, dict[str, Any]] = {}
        for at, item in batch.items():
            try:
                fields[at] = item.fields()
            except EmbedInputError as error:
                failed[at] = error
        texts = {at: batch[at].source for at in fields if not batch[at].is_image}
        images = {at: batch[at].source for at in fields if batch[at].is_image}
        vectors = {**self._embed_texts(texts), **self._embed_images(images, failed)}
        written = [at for at in fields if at in vectors]
        refused: Mapping[int, Exception] = {}
        try:
            self._store.upsert([Record(**fields[at], **vectors[at]) for at in written])
        except PartialFailureError as error:
            refused = error.failed
        failed.update({written[index]: error for index, error in refused.items()})
        kept.update({at: fields[at]["record_id"] for index, at in enumerate(written) if index not in refused})

    def _embed_texts(self, texts: Mapping[int, str]) -> _Vectors:
        rows = self._embedding.embed_documents(list(texts.values())) if texts else []
        return {at: {"embedding": row} for at, row in zip(texts, _counted(rows, len(texts)), strict=True)}

    def _embed_images(self, images: Mapping[int, ImageSource], failed: _Failures) -> _Vectors:
        if not images:
            return {}
        embed = image_function(self._embedding)
        if isinstance(self._embedding, JinaClipEmbeddings) and self._tiled:
            embed = self._embedding.embedder.embed_image_tiles
        positions = list(images)
        found: Mapping[int, Any]
        try:
            found = dict(enumerate(_counted(embed(list(images.values())), len(images))))
        except PartialFailureError as error:
            found = error.kept
            failed.update({positions[index]: reason for index, reason in error.failed.items()})
        return {positions[index]: _vector_fields(row) for index, row in found.items()}


def _vector_fields(found: Any) -> dict[str, Any]:  # noqa: ANN401 (what the embeddings make of an image)
    if not isinstance(found, TileEmbeddings):
        return {"embedding": found}
    # The first tile is the whole image: its vector is the one that the image has without tiling.
    return {"embedding": found.vectors[0], "tile_embeddings": found.vectors, "tile_boxes": found.boxes}


def _counted(rows: Sequence[Any], count: int) -> Sequence[Any]:
    if len(rows) != count:
        raise EmbedInputError(f"`embedding` has made {len(rows)} vectors of {count} items: it must make one of each")
    return rows
