"""An `Embedder` over the encoder in this process; the only file of this package that knows `core_encoder`'s model."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from core_encoder.errors import ConfigError, ImageDecodeError, InputError
from core_encoder.image_input import load_image
from core_encoder.read_ahead import read_ahead
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import (
    EmbedInputError,
    FloatArray,
    ImageSource,
    MissingDependencyError,
    PartialFailureError,
    TileEmbeddings,
)

if TYPE_CHECKING:
    from core_encoder.encoder import JinaClipEncoder

_Result = TypeVar("_Result")
_IMAGES_AT_A_TIME = 16  # decoded, in memory; as many again are being decoded meanwhile


class LocalEmbedder:
    """Texts and images to vectors with a jina-clip model in this process; threads may share it."""

    def __init__(
        self,
        config: EmbeddingConfig,
        *,
        device: str | None = None,
        local_files_only: bool = False,
        encoder: "JinaClipEncoder | None" = None,
    ) -> None:
        """Load the model of `config`, or share one that is loaded.

        Args:
            config: which model makes the vectors, and how.
            device: "cpu", "cuda", ...; `None` is CUDA where there is one.
            local_files_only: use the local cache and never the network.
            encoder: a loaded encoder of the same model, instead of loading one.

        Raises:
            MissingDependencyError: torch or another package of the extra "local" is not installed.
            ConfigError: `encoder` is of another model, or an option is not supported.
            CheckpointError: the weights are absent or damaged.
        """
        if encoder is None:
            encoder = _load(config, device=device, local_files_only=local_files_only)
        elif device is not None or local_files_only:
            raise ConfigError("`encoder` is loaded already: leave out `device` and `local_files_only`")
        elif encoder.name != config.model:
            raise ConfigError(f"`encoder` is {encoder.name!r}, but `config.model` is {config.model!r}: use one of them")
        self._config = config
        self._encoder = encoder
        self._truncate_dim = None if config.dimensions == encoder.embedding_dim else config.dimensions

    @property
    def config(self) -> EmbeddingConfig:
        """What shapes the vectors."""
        return self._config

    @property
    def dimensions(self) -> int:
        """E, the length of every vector."""
        return self._encoder.embedding_dim if self._truncate_dim is None else self._truncate_dim

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed documents or captions: (B, E)."""
        return self._encode_text(texts, task=None)

    def embed_query(self, text: str) -> FloatArray:
        """Embed a query, with the prefix that the model has for queries: (E,)."""
        return np.asarray(self._encode_text([text], task=self._encoder.query_task)[0])

    def embed_images(self, images: Sequence[ImageSource]) -> FloatArray:
        """Embed images whole: (B, E).

        Raises:
            PartialFailureError: some cannot be read; `kept` has the (E,) rows of the others.
        """

        def encode(loaded: list[Image.Image]) -> list[FloatArray]:
            return list(self._encoder.encode_image(loaded, **self._image_options()))

        return np.array(_embed_readable(images, self._load_image, encode), np.float32).reshape(-1, self.dimensions)

    def embed_image_tiles(self, images: Sequence[ImageSource]) -> list[TileEmbeddings]:
        """Embed each image as a whole and in tiles.

        Raises:
            PartialFailureError: some cannot be read; `kept` has the `TileEmbeddings` of the others.
            EmbedInputError: the configuration has no tiling.
        """
        tiling = self._config.tiling
        if tiling is None:
            raise EmbedInputError("`embed_image_tiles` needs a configuration with `tiling`")

        def encode(loaded: list[Image.Image]) -> list[TileEmbeddings]:
            encoded = self._encoder.encode_image_tiles(loaded, tiling=tiling, **self._image_options())
            return [TileEmbeddings(tiles.vectors, tiles.boxes.astype(np.int64)) for tiles in encoded]

        return _embed_readable(images, self._load_image, encode)

    def _encode_text(self, texts: Sequence[str], *, task: str | None) -> FloatArray:
        with _input_errors():
            return self._encoder.encode_text(
                texts,
                task=task,
                truncate_dim=self._truncate_dim,
                normalize=self._config.normalize,
                max_tokens=self._config.max_tokens,
            )

    def _load_image(self, image: ImageSource) -> Image.Image:
        return load_image(image, index=0, exif_orientation=self._config.exif_orientation)

    def _image_options(self) -> dict[str, Any]:
        # The images are loaded, and turned if they should be: no `exif_orientation` here.
        return {
            "truncate_dim": self._truncate_dim,
            "normalize": self._config.normalize,
            "resize_mode": self._config.resize_mode,
        }


def _load(config: EmbeddingConfig, *, device: str | None, local_files_only: bool) -> "JinaClipEncoder":
    try:
        from core_encoder.encoder import JinaClipEncoder  # here: it imports torch
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local") from error
    return JinaClipEncoder.load(
        config.model,
        revision=config.revision,
        device=device,
        precision=config.precision,
        local_files_only=local_files_only,
    )


def _embed_readable(
    images: Sequence[ImageSource],
    load: Callable[[ImageSource], Image.Image],
    encode: Callable[[list[Image.Image]], list[_Result]],
) -> list[_Result]:
    """Load images ahead in threads and encode those that can be read, a few at a time."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        raise EmbedInputError(f"`images` is one {type(images).__name__}; write [image]")
    kept: dict[int, _Result] = {}
    failed: dict[int, Exception] = {}

    def read(position: int) -> Image.Image | ImageDecodeError:
        try:
            return load(images[position])
        except ImageDecodeError as error:
            return error

    loading = enumerate(read_ahead(len(images), read, ahead=_IMAGES_AT_A_TIME))
    while chunk := dict(islice(loading, _IMAGES_AT_A_TIME)):
        loaded = {}
        for position, image in chunk.items():
            if isinstance(image, ImageDecodeError):
                failed[position] = EmbedInputError("the image" + str(image).removeprefix("item 0"))
            else:
                loaded[position] = image
        if loaded:
            kept.update(zip(loaded, encode(list(loaded.values())), strict=True))
    if failed:
        raise PartialFailureError("images", failed=failed, kept=kept)
    return list(kept.values())


@contextmanager
def _input_errors() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise EmbedInputError(str(error)) from error
