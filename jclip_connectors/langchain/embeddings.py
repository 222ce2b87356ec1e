"""JinaClipEmbeddings: LangChain's `Embeddings` for texts and images, usable with every LangChain store."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, overload

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel, ConfigDict, PrivateAttr, StrictBool, StrictInt, model_validator

from core_encoder.forks import ForkSafeLock
from core_encoder.image_preprocess import Resampling, ResizeMode
from core_encoder.models import Precision
from core_encoder.rendering import Rendering
from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import Embedder, ImageSource


class _Slot:
    """Holds the embedder that an object shares with its copies; it is loaded once, on first use."""

    def __init__(self, given: Embedder | None = None) -> None:
        self.given = given is not None
        self._embedder = given
        self._lock = ForkSafeLock()

    def get(self, load: Callable[[], Embedder]) -> Embedder:
        with self._lock:
            if self._embedder is None:
                self._embedder = load()
            return self._embedder

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Slot) and not self.given and not other.given)

    __hash__ = None  # type: ignore[assignment]  # because of __eq__; slots are never hashed

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Slot":
        return self  # copies share the model

    def __reduce__(self) -> tuple[type["_Slot"], tuple[()]]:
        if self.given:
            raise TypeError(
                "a JinaClipEmbeddings that was made with `from_embedder` cannot be pickled: its embedder belongs to "
                "this process; make a new one from its `config`"
            )
        return _Slot, ()


class JinaClipEmbeddings(BaseModel, Embeddings):
    """Embeds texts and images in one vector space, with a jina-clip model in this process.

    The options are those of `EmbeddingConfig`. The model is loaded once, on first use, and copies share it; threads may
    share it too. A pickle or dump contains the options without the weights.
    """

    # pydantic's errors leave out refused values: a value may be a key meant for another class.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: str = EmbeddingConfig.model
    revision: str | None = None
    dimensions: StrictInt | None = None
    normalize: StrictBool = True
    max_tokens: StrictInt | None = None
    resize_mode: ResizeMode | None = None
    rendering: Rendering = "as_seen"
    resampling: Resampling = "exact"
    precision: Precision = "auto"
    tiling: Tiling | None = None
    max_pixels: StrictInt | None = None
    max_image_bytes: StrictInt | None = None
    device: str | None = None
    """"cpu", "cuda", ...; `None` uses CUDA if it is available."""

    _slot: _Slot = PrivateAttr(default_factory=_Slot)

    @classmethod
    def from_embedder(cls, embedder: Embedder) -> Self:
        """Use an existing embedder of any kind.

        Raises:
            ValueError: `EmbeddingConfig` does not allow its configuration.
        """
        config = embedder.config
        shared = cls(**{name: getattr(config, name) for name in _CONFIG_FIELDS})
        shared._slot = _Slot(embedder)
        return shared

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        _ = self.config  # checks every field
        return self

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""
        return EmbeddingConfig(**{name: getattr(self, name) for name in _CONFIG_FIELDS})

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use.

        Raises:
            MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
            CheckpointError: the weights are absent or damaged.
        """
        return self._slot.get(lambda: LocalEmbedder(self.config, device=self.device))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents or captions.

        Args:
            texts: B strings.

        Returns:
            B lists of E numbers, in the order of `texts`.

        Raises:
            EmbedInputError: an item is not a text.
        """
        rows: list[list[float]] = self.embedder.embed_texts(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """Embed a query, with the model's query prefix.

        Raises:
            EmbedInputError: `text` is not a string.
        """
        row: list[float] = self.embedder.embed_query(text).tolist()
        return row

    def embed_images(self, uris: Sequence[ImageSource]) -> list[list[float]]:
        """Embed whole images.

        Args:
            uris: paths, data URIs, encoded images as bytes, Pillow images or uint8 arrays; URLs are refused.

        Raises:
            PartialFailureError: some images cannot be read; `kept` has the (E,) rows of the others, as arrays.
        """
        rows: list[list[float]] = self.embedder.embed_images(uris).tolist()
        return rows

    @overload
    def embed_image(self, uris: list[ImageSource] | tuple[ImageSource, ...]) -> list[list[float]]: ...

    @overload
    def embed_image(self, uris: ImageSource) -> list[float]: ...

    def embed_image(
        self, uris: ImageSource | list[ImageSource] | tuple[ImageSource, ...]
    ) -> list[float] | list[list[float]]:
        """Embed one image, or a list of images as the stores of Chroma, LanceDB and SingleStore ask for it.

        Args:
            uris: a path, a data URI, bytes, a Pillow image or a uint8 array; or a list of them.

        Returns:
            E numbers; a list of B vectors for a list.

        Raises:
            EmbedInputError: the image cannot be read.
            PartialFailureError: some images of a list cannot be read; see `embed_images`.
        """
        if isinstance(uris, list | tuple):
            return self.embed_images(uris)
        try:
            return self.embed_images([uris])[0]
        except PartialFailureError as error:
            raise EmbedInputError(str(error.failed[0])) from error

    def embed_image_query(self, uri: ImageSource) -> list[float]:
        """Embed an image as a query; see `embed_image`. The models have no query prefix for images.

        Raises:
            EmbedInputError: the image cannot be read.
        """
        return self.embed_image(uri)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` in a thread."""
        return await run_in_executor(None, self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` in a thread."""
        return await run_in_executor(None, self.embed_query, text)

    async def aembed_images(self, uris: Sequence[ImageSource]) -> list[list[float]]:
        """`embed_images` in a thread."""
        return await run_in_executor(None, self.embed_images, uris)

    @overload
    async def aembed_image(self, uris: list[ImageSource] | tuple[ImageSource, ...]) -> list[list[float]]: ...

    @overload
    async def aembed_image(self, uris: ImageSource) -> list[float]: ...

    async def aembed_image(
        self, uris: ImageSource | list[ImageSource] | tuple[ImageSource, ...]
    ) -> list[float] | list[list[float]]:
        """`embed_image` in a thread."""
        return await run_in_executor(None, self.embed_image, uris)

    async def aembed_image_query(self, uri: ImageSource) -> list[float]:
        """`embed_image_query` in a thread."""
        return await run_in_executor(None, self.embed_image_query, uri)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; with `update`, the options are checked and the copy loads its own model.

        Args:
            update: new values of options, by name.
            deep: as in pydantic; without `update`, the model is always shared.

        Raises:
            ValueError: an option is unknown or out of range.
            TypeError: it was made with `from_embedder`, whose options cannot be changed.
        """
        if not update:
            return super().model_copy(deep=deep)
        if self._slot.given:
            raise TypeError("`model_copy` cannot change a JinaClipEmbeddings made with `from_embedder`: make a new one")
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **update})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show the model and the options that differ from the defaults."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "model" or value != field.default:
                yield name, value


_CONFIG_FIELDS = tuple(field.name for field in dataclasses.fields(EmbeddingConfig))


def image_function(embedding: Embeddings) -> Callable[[list[Any]], Sequence[Any]]:
    """The `embed_images` method of LangChain embeddings; the name is a convention.

    Raises:
        EmbedInputError: the embeddings support only texts.
    """
    embed: Callable[[list[Any]], Sequence[Any]] | None = getattr(embedding, "embed_images", None)
    if embed is None:
        raise EmbedInputError(
            f"`embedding` is {type(embedding).__name__}, which has no `embed_images`: use JinaClipEmbeddings for images"
        )
    return embed
