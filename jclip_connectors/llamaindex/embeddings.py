"""JinaClipEmbedding: LlamaIndex's `MultiModalEmbedding` for texts, queries and images."""

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Self, TypeAlias

import numpy as np
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, model_validator
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.utils import get_tqdm_iterable

from core_encoder.forks import ForkSafeLock
from core_encoder.image_preprocess import Resampling, ResizeMode
from core_encoder.models import Precision
from core_encoder.rendering import Rendering
from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.llamaindex.nodes import image_of, image_source, is_image
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import Embedder, ImageSource
from jclip_connectors.store_kit.validation import as_list

_CONFIG_FIELDS = tuple(field.name for field in dataclasses.fields(EmbeddingConfig))
_Image: TypeAlias = BytesIO | ImageSource
_Vector: TypeAlias = list[float]


class JinaClipEmbedding(MultiModalEmbedding):
    """Embeds texts and images in one vector space, with a jina-clip model in this process.

    The options are those of `EmbeddingConfig`. The model is loaded once, on first use; threads may share it. A pickle
    or dump contains the options without the weights.

    In an `IngestionPipeline`, a node with an image gets the vector of its image, any other node the vector of its text.
    Limits of LlamaIndex: the cache of a pipeline identifies a node by its text and metadata only, so give image nodes
    distinct metadata, like their `file_path`, or pass `disable_cache=True`. An index leaves out nodes without text and
    metadata. A `VectorStoreIndex` embeds the texts of nodes without a vector, so pass it image nodes that a pipeline
    has embedded, or use a `MultiModalVectorStoreIndex`.
    """

    # pydantic's errors leave out refused values: a value may be a key meant for another class.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    model: str = Field(default=EmbeddingConfig.model, frozen=True, description="Hub id, folder, or 'nano'.")
    revision: str | None = Field(default=None, frozen=True, description="Commit of a hub id.")
    dimensions: int | None = Field(default=None, frozen=True, description="Length of the vectors.")
    normalize: bool = Field(default=True, frozen=True, description="Whether vectors have unit length.")
    max_tokens: int | None = Field(default=None, frozen=True, description="Texts are cut to this length.")
    resize_mode: ResizeMode | None = Field(default=None, frozen=True, description="How an image becomes square.")
    rendering: Rendering = Field(default="as_seen", frozen=True, description="How a picture becomes RGB.")
    resampling: Resampling = Field(default="exact", frozen=True, description="How exactly a picture is resized.")
    precision: Precision = Field(default="auto", frozen=True, description="Number format of the model.")
    tiling: Tiling | None = Field(default=None, frozen=True, description="How a collection cuts images into tiles.")
    max_pixels: int | None = Field(default=None, frozen=True, description="Limit on the pixels of an image.")
    max_image_bytes: int | None = Field(default=None, frozen=True, description="Limit on the bytes of an image.")
    device: str | None = Field(default=None, frozen=True, description="'cpu', 'cuda', ...; None prefers CUDA.")
    embeddings_cache: None = Field(default=None, frozen=True, description="Not supported: its keys are bare texts.")

    _embedder: Embedder | None = PrivateAttr(default=None)
    _is_given: bool = PrivateAttr(default=False)
    _lock: ForkSafeLock = PrivateAttr(default_factory=ForkSafeLock)

    @classmethod
    def from_embedder(cls, embedder: Embedder, *, embed_batch_size: int = 10) -> Self:
        """Use an existing embedder of any kind.

        Raises:
            ValueError: `embed_batch_size` is out of range.
        """
        config = embedder.config
        shared = cls(**{name: getattr(config, name) for name in _CONFIG_FIELDS}, embed_batch_size=embed_batch_size)
        shared._embedder, shared._is_given = embedder, True
        return shared

    @classmethod
    def class_name(cls) -> str:
        """The class name in the result of `to_dict`."""
        return "JinaClipEmbedding"

    @model_validator(mode="before")
    @classmethod
    def _read_options(cls, values: Any) -> Any:  # noqa: ANN401 (pydantic passes the raw input)
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if values.get("embeddings_cache") is not None:
            raise EmbedInputError(
                "`embeddings_cache` is not supported: LlamaIndex finds cached vectors by their text alone, so queries, "
                "documents, models and dimensions would be mixed up; use the cache of an IngestionPipeline"
            )
        tiling = values.get("tiling")
        if isinstance(tiling, Mapping):  # the form in `to_dict`
            known = {field.name for field in dataclasses.fields(Tiling)}
            if unknown := [name for name in tiling if name not in known]:
                raise EmbedInputError(f"`tiling` has the unknown key {unknown[0]!r}; known are {', '.join(known)}")
            values["tiling"] = Tiling(**tiling)
        model = values.get("model", EmbeddingConfig.model)
        if values.setdefault("model_name", model) != model:
            raise EmbedInputError(f"`model_name` is {values['model_name']!r}: use `model` instead")
        return values

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        _ = self.config  # checks every field
        return self

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors, for opening a store."""
        return EmbeddingConfig(**{name: getattr(self, name) for name in _CONFIG_FIELDS})

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use.

        Raises:
            MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
            CheckpointError: the weights are absent or damaged.
        """
        with self._lock:
            if self._embedder is None:
                self._embedder = LocalEmbedder(self.config, device=self.device)
            return self._embedder

    def to_payload(self) -> dict[str, Any]:
        """The description of this embedding in events."""
        return {**super().to_payload(), "revision": self.revision, "dimensions": self.dimensions}

    def get_text_embeddings(self, texts: Sequence[str]) -> list[_Vector]:
        """Embed documents or captions in order, one batch at a time.

        Raises:
            EmbedInputError: an item is not a text.
        """
        return self.get_text_embedding_batch(texts)

    def get_image_embeddings(self, images: Sequence[_Image]) -> list[_Vector]:
        """Embed whole images in order, one batch at a time.

        Args:
            images: paths, file:// URLs, data URIs, `BytesIO`, bytes, Pillow images or uint8 arrays; other URLs are
                refused.

        Raises:
            PartialFailureError: some images cannot be read; `kept` has the vectors of the others.
        """
        return self.get_image_embedding_batch(images)

    async def aget_text_embeddings(self, texts: Sequence[str]) -> list[_Vector]:
        """`get_text_embeddings` off the event loop."""
        return await self.aget_text_embedding_batch(texts)

    async def aget_image_embeddings(self, images: Sequence[_Image]) -> list[_Vector]:
        """`get_image_embeddings` off the event loop."""
        return await self.aget_image_embedding_batch(images)

    def get_text_embedding_batch(
        self,
        texts: Sequence[str],
        show_progress: bool = False,  # noqa: FBT001, FBT002 (LlamaIndex's signature)
        **kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> list[_Vector]:
        """`get_text_embeddings` under LlamaIndex's name."""
        return super().get_text_embedding_batch(as_list(texts, name="texts"), show_progress, **kwargs)

    async def aget_text_embedding_batch(
        self,
        texts: Sequence[str],
        show_progress: bool = False,  # noqa: FBT001, FBT002 (LlamaIndex's signature)
        **kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> list[_Vector]:
        """`get_text_embedding_batch` off the event loop."""
        return await super().aget_text_embedding_batch(as_list(texts, name="texts"), show_progress, **kwargs)

    # LlamaIndex's own loops lose the kept results of a batch, and count failures from the start of the batch.

    def get_image_embedding_batch(
        self,
        img_file_paths: Sequence[_Image],
        show_progress: bool = False,  # noqa: FBT001, FBT002 (LlamaIndex's signature)
    ) -> list[_Vector]:
        """`get_image_embeddings` under LlamaIndex's name."""
        found = _Outcome("images")
        batches = self._batches(as_list(img_file_paths, name="images"))
        for positions in get_tqdm_iterable(batches, show_progress, "Generating image embeddings"):
            with found.of(positions):
                found.keep(positions, super().get_image_embedding_batch([img_file_paths[at] for at in positions]))
        return found.rows()

    async def aget_image_embedding_batch(
        self,
        img_file_paths: Sequence[_Image],
        show_progress: bool = False,  # noqa: FBT001, FBT002 (LlamaIndex's signature)
    ) -> list[_Vector]:
        """`get_image_embedding_batch` off the event loop, one batch at a time."""
        found = _Outcome("images")
        batches = self._batches(as_list(img_file_paths, name="images"))
        for positions in get_tqdm_iterable(batches, show_progress, "Generating image embeddings"):
            batch = [img_file_paths[at] for at in positions]
            with found.of(positions):
                found.keep(positions, await super().aget_image_embedding_batch(batch))
        return found.rows()

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ANN401 (LlamaIndex's signature)
        """Set the embedding of every node: of its image if it has one, else of its text.

        Raises:
            PartialFailureError: some nodes cannot be embedded; no node is changed, and `kept` has the vectors of the
                other nodes.
        """
        found = _Outcome("nodes")
        texts, images = _sort_out(nodes, found)
        found.keep(list(texts), self.get_text_embedding_batch(list(texts.values()), **kwargs))
        with found.of(list(images)):
            found.keep(list(images), self.get_image_embedding_batch(list(images.values()), **kwargs))
        return _with_embeddings(nodes, found)

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ANN401 (LlamaIndex's signature)
        """Set the embedding of every node, off the event loop."""
        found = _Outcome("nodes")
        texts, images = _sort_out(nodes, found)
        found.keep(list(texts), await self.aget_text_embedding_batch(list(texts.values()), **kwargs))
        with found.of(list(images)):
            found.keep(list(images), await self.aget_image_embedding_batch(list(images.values()), **kwargs))
        return _with_embeddings(nodes, found)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; with `update`, the options are checked and the copy loads its own model.

        Args:
            update: new values of options, by name.
            deep: as in pydantic; without `update`, the model is always shared.

        Raises:
            ValueError: an option is unknown or out of range.
        """
        if not update:
            return super().model_copy(deep=deep)
        return type(self)(**{**self._options(), "model_name": update.get("model", self.model), **update})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy and share the model."""
        return self.__copy__()

    def __eq__(self, other: object) -> bool:
        """Whether both have the same options."""
        return isinstance(other, JinaClipEmbedding) and self._options() == other._options()

    def __getstate__(self) -> dict[str, Any]:
        """The state of a pickle: the options."""
        if self._is_given:
            raise TypeError(
                "a JinaClipEmbedding that was made with `from_embedder` cannot be pickled: its embedder belongs to "
                "this process; make a new one from its `config`"
            )
        return {"__dict__": self._options()}

    def _options(self) -> dict[str, Any]:
        options = self.to_dict()
        del options["class_name"]
        return options

    def _batches(self, items: Sequence[object]) -> list[range]:
        size = self.embed_batch_size
        return [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]

    def _get_query_embedding(self, query: str) -> _Vector:
        return _vector(self.embedder.embed_query(query))

    def _get_text_embedding(self, text: str) -> _Vector:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[_Vector]:
        return [_vector(row) for row in self.embedder.embed_texts(texts)]

    def _get_image_embedding(self, img_file_path: _Image) -> _Vector:
        try:
            return self._get_image_embeddings([img_file_path])[0]
        except PartialFailureError as error:
            raise EmbedInputError(str(error.failed[0])) from error

    def _get_image_embeddings(self, img_file_paths: Sequence[_Image]) -> list[_Vector]:
        found = _Outcome("images")
        sources: dict[int, ImageSource] = {}
        for position, image in enumerate(img_file_paths):
            try:
                sources[position] = image_source(image)
            except EmbedInputError as error:
                found.failed[position] = error
        with found.of(list(sources)):
            found.keep(list(sources), [_vector(row) for row in self.embedder.embed_images(list(sources.values()))])
        return found.rows()

    async def _aget_query_embedding(self, query: str) -> _Vector:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> _Vector:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[_Vector]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: _Image) -> _Vector:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: Sequence[_Image]) -> list[_Vector]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)


class _Outcome:
    """The results and errors of the items of a bulk call, by position."""

    def __init__(self, what: str) -> None:
        self.failed: dict[int, Exception] = {}
        self._what = what
        self._kept: dict[int, _Vector] = {}

    def keep(self, positions: Sequence[int], rows: Sequence[_Vector]) -> None:
        self._kept.update(zip(positions, rows, strict=True))

    @contextmanager
    def of(self, positions: Sequence[int]) -> Iterator[None]:
        """Collect the results and errors of a partial failure of a call for the items at `positions`."""
        try:
            yield
        except PartialFailureError as error:
            self.failed.update({positions[at]: failure for at, failure in error.failed.items()})
            self._kept.update({positions[at]: _vector(row) for at, row in error.kept.items()})

    def rows(self) -> list[_Vector]:
        kept = dict(sorted(self._kept.items()))
        if self.failed:
            raise PartialFailureError(self._what, failed=dict(sorted(self.failed.items())), kept=kept)
        return list(kept.values())


def _sort_out(nodes: Sequence[BaseNode], found: _Outcome) -> tuple[dict[int, str], dict[int, ImageSource]]:
    """The texts and the images to embed, by position; a node with neither becomes a failure."""
    texts: dict[int, str] = {}
    images: dict[int, ImageSource] = {}
    for position, node in enumerate(nodes):
        try:
            if is_image(node):
                images[position] = image_of(node)
            else:
                texts[position] = node.get_content(metadata_mode=MetadataMode.EMBED)
        except EmbedInputError as error:
            found.failed[position] = error
    return texts, images


def _with_embeddings(nodes: Sequence[BaseNode], found: _Outcome) -> Sequence[BaseNode]:
    for position, error in found.failed.items():
        found.failed[position] = EmbedInputError(f"{nodes[position].node_id!r}: {error}")
    for node, row in zip(nodes, found.rows(), strict=True):
        node.embedding = row
    return nodes


def _vector(row: Any) -> _Vector:  # noqa: ANN401 (an array or a list)
    vector: _Vector = np.asarray(row, dtype=np.float32).tolist()
    return vector
