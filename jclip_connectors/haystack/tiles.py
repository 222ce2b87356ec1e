"""The tiles of images that are written to a collection with tiles: a Document has room for one vector only."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haystack import Document

from core_encoder.tiling import TileEmbeddings
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.haystack.documents import BOX
from jclip_connectors.haystack.embedding import image_of
from jclip_connectors.haystack.image_embedders import JinaClipImageDocumentEmbedder
from jclip_connectors.haystack.models import Model
from jclip_connectors.port import ImageSource
from jclip_connectors.store_kit.flows import Flow


@dataclass(frozen=True, kw_only=True)
class TileMaker:
    """Makes tiles with the model of an embedder of documents.

    Attributes:
        model: has a configuration with tiles.
        file_path_meta_field: the key of the metadata that has the path of an image.
        root_path: the folder of relative paths, or `None`.
        batch_size: the number of images that are embedded at a time.
    """

    model: Model
    file_path_meta_field: str
    root_path: str | None
    batch_size: int

    @classmethod
    def of(cls, embedder: JinaClipImageDocumentEmbedder) -> "TileMaker":
        """Read the images that `embedder` reads."""
        return cls(
            model=embedder.model,
            file_path_meta_field=embedder.file_path_meta_field,
            root_path=embedder.root_path,
            batch_size=embedder.batch_size,
        )

    def tiles(self, documents: Mapping[int, Document]) -> Flow[dict[int, TileEmbeddings]]:
        """The tiles of each document.

        Raises:
            EmbedInputError: an image cannot be read, or metadata has the key of the results; nothing was written.
        """
        failed: dict[int, Exception] = {}
        sources: dict[int, ImageSource] = {}
        root = None if self.root_path is None else Path(self.root_path)
        for at, document in documents.items():
            if BOX in document.meta:
                failed[at] = EmbedInputError(f"its `meta` has the key {BOX!r}, which a search sets: remove it")
                continue
            try:
                sources[at] = image_of(document, self.file_path_meta_field, root)
            except EmbedInputError as error:
                failed[at] = error
        found: dict[int, TileEmbeddings] = {}
        positions = list(sources)
        for start in range(0, 0 if failed else len(positions), self.batch_size):
            batch = positions[start : start + self.batch_size]
            images = [sources[at] for at in batch]
            try:
                made = yield functools.partial(self._embed, images)
            except PartialFailureError as error:
                failed |= {batch[at]: reason for at, reason in error.failed.items()}
            else:
                found |= zip(batch, made, strict=True)
        if failed:
            named = "; ".join(f"{documents[at].id!r}: {reason}" for at, reason in list(failed.items())[:5])
            more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
            raise EmbedInputError(f"nothing was written, because images cannot be cut into tiles: {named}{more}")
        return found

    def _embed(self, images: list[ImageSource], host: Any) -> Any:  # noqa: ANN401 (blocking or asyncio; tiles, or an awaitable)
        return host.work(lambda: self.model.embedder().embed_image_tiles(images))
