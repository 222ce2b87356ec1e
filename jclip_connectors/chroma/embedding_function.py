"""An embedding function of Chroma over our embedders; it needs nothing of chromadb but its protocol."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from core_encoder.forks import ForkSafeLock
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import Embedder, FloatArray
from jclip_connectors.store_kit.validation import as_list

_Item = str | np.ndarray[Any, Any]


class JinaClipEmbeddingFunction:
    """Embeds the documents, images and queries of a Chroma collection; pass one as `embedding_function`.

    The model is loaded when it is first used. The collection keeps the options, and none of the weights. Use the space
    "cosine", which is this function's default.
    """

    def __init__(
        self,
        model: str = EmbeddingConfig.model,
        *,
        device: str | None = None,
        **options: Any,  # noqa: ANN401 (of the configuration)
    ) -> None:
        """Check the options; the model is not loaded yet.

        Args:
            model: hub id, folder, or "nano".
            device: "cpu", "cuda", ...; `None` uses CUDA if it is available.
            **options: the other fields of `EmbeddingConfig`, but `tiling`: Chroma has one vector for each record.

        Raises:
            ConfigError: an option has a bad value.
            EmbedInputError: an option is unknown.
        """
        for name in options:
            if name not in _OPTIONS:
                raise EmbedInputError(f"unknown option `{name}`; known are {', '.join(_OPTIONS)}")
        self._config = EmbeddingConfig(model=model, **options)
        self._device = device
        self._embedder: Embedder | None = None
        self._lock = ForkSafeLock()

    @classmethod
    def from_embedder(cls, embedder: Embedder) -> Self:
        """Use an existing embedder of any kind; a collection that is opened again without it loads the model here.

        Args:
            embedder: makes the vectors; its configuration must have no `tiling`.

        Raises:
            EmbedInputError: the configuration has tiling.
        """
        options = _given(embedder.config)
        made = cls(**options)
        made._embedder = embedder
        return made

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""
        return self._config

    def __call__(self, input: Sequence[_Item]) -> list[FloatArray]:
        """Embed documents and images.

        Args:
            input: B texts and images, as arrays (H, W, 3) uint8 RGB.

        Returns:
            B vectors (E,).

        Raises:
            EmbedInputError: an item is of another type, or cannot be embedded; its position is named.
        """
        return self._embed(input, queries=False)

    def embed_query(self, input: Sequence[_Item]) -> list[FloatArray]:
        """Embed queries: texts get the model's query prefix, images get none.

        Args:
            input: as for `__call__`.

        Returns:
            B vectors (E,).

        Raises:
            EmbedInputError: as for `__call__`.
        """
        return self._embed(input, queries=True)

    @staticmethod
    def name() -> str:
        """The name in the configuration of a collection."""
        return "jclip"

    @staticmethod
    def build_from_config(config: Mapping[str, Any]) -> "JinaClipEmbeddingFunction":
        """Make the function again from what `get_config` gave.

        Args:
            config: the options.

        Raises:
            ConfigError: an option has a bad value.
            EmbedInputError: an option is unknown.
        """
        return JinaClipEmbeddingFunction(**config)

    def get_config(self) -> dict[str, Any]:
        """The options that a collection keeps: those that are not the defaults, and the model."""
        return _given(self._config) | ({} if self._device is None else {"device": self._device})

    @staticmethod
    def validate_config(config: Mapping[str, Any]) -> None:
        """Check options as `build_from_config` does.

        Args:
            config: the options.

        Raises:
            ConfigError: an option has a bad value.
            EmbedInputError: an option is unknown.
        """
        JinaClipEmbeddingFunction(**config)

    def validate_config_update(self, old_config: Mapping[str, Any], new_config: Mapping[str, Any]) -> None:
        """Refuse other vectors in an existing collection; another device is no difference.

        Args:
            old_config: the options that the collection has.
            new_config: the new options.

        Raises:
            EmbedInputError: the vectors would differ.
        """
        old, new = (self.build_from_config(each).config.fingerprint() for each in (old_config, new_config))
        if different := sorted(key for key in {**old, **new} if old.get(key) != new.get(key)):
            raise EmbedInputError(f"the vectors of a collection cannot change, and {different} differ: make a new one")

    @staticmethod
    def default_space() -> Literal["cosine", "l2", "ip"]:
        """The space of a collection that names none."""
        return "cosine"

    @staticmethod
    def supported_spaces() -> list[Literal["cosine", "l2", "ip"]]:
        """Every space of Chroma; vectors of unit length have the same order in each."""
        return ["cosine", "l2", "ip"]

    @staticmethod
    def is_legacy() -> bool:
        """Whether collections cannot keep this function: they can."""
        return False

    def _embed(self, given: Sequence[_Item], *, queries: bool) -> list[FloatArray]:
        items: list[object] = as_list(given, name="input")
        texts = [at for at, item in enumerate(items) if isinstance(item, str)]
        images = [at for at, item in enumerate(items) if isinstance(item, np.ndarray)]
        if len(texts) + len(images) < len(items):
            at = next(at for at, item in enumerate(items) if not isinstance(item, str | np.ndarray))
            raise EmbedInputError(f"`input`[{at}] is {type(items[at]).__name__}: use a text or an array of pixels")
        embedder = self._load()
        found: dict[int, FloatArray] = {}
        if queries:
            found |= {at: embedder.embed_query(str(items[at])) for at in texts}
        elif texts:
            found |= zip(texts, embedder.embed_texts([str(items[at]) for at in texts]), strict=True)
        if images:
            try:
                found |= zip(images, embedder.embed_images([np.asarray(items[at]) for at in images]), strict=True)
            except PartialFailureError as error:
                at, reason = next(iter(error.failed.items()))
                raise EmbedInputError(f"`input`[{images[at]}] cannot be embedded: {reason}") from error
        return [np.asarray(found[at], dtype=np.float32) for at in range(len(items))]

    def _load(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                self._embedder = LocalEmbedder(self._config, device=self._device)
            return self._embedder


_FIELDS = {field.name: field.default for field in dataclasses.fields(EmbeddingConfig)}
_OPTIONS = tuple(name for name in _FIELDS if name not in ("model", "tiling"))


def _given(config: EmbeddingConfig) -> dict[str, Any]:
    """The model, and the fields that differ from the defaults.

    Raises:
        EmbedInputError: the configuration has tiling.
    """
    if config.tiling is not None:
        raise EmbedInputError("the configuration has `tiling`, but Chroma has one vector for each record: leave it out")
    values = {name: getattr(config, name) for name in _OPTIONS}
    return {"model": config.model} | {name: value for name, value in values.items() if value != _FIELDS[name]}
