"""Our encoder behind qdrant-client's `models.Document` and `models.Image`.

    register()
    client.upsert("photos", [PointStruct(id=1, vector=models.Image(image="cat.jpg", model="jinaai/jina-clip-v2@256"))])
    client.query_points("photos", models.Document(text="a cat", model="jinaai/jina-clip-v2@256"))

qdrant-client passes these objects to fastembed. fastembed has two lists of classes and uses the first class of a list
that knows the model's name. `register` puts our classes first in both lists, so our names come first, also
"jinaai/jina-clip-v1", for which fastembed has an ONNX export. fastembed downloads nothing for our names.

A text within a query is embedded as a query, any other text as a document. qdrant-client decides these three things:
an `InferenceObject` is always a text if the model takes texts, so use `Image` for an image; `AsyncQdrantClient` embeds
on the event loop's thread; with `parallel` > 1 its uploads embed in new processes. These know our models only if the
program's main module calls `register` when it is imported, outside of `if __name__ == "__main__"`; otherwise they fail,
or use fastembed's jina-clip-v1.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from PIL import Image

from core_encoder.errors import ConfigError
from core_encoder.forks import ForkSafeLock
from core_encoder.models import KNOWN_MODELS, default_revision, known_model
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, MissingDependencyError, PartialFailureError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import Embedder, FloatArray

try:
    from fastembed import ImageEmbedding, TextEmbedding
    from fastembed.common.model_description import DenseModelDescription, ModelSource
    from fastembed.common.types import ImageInput
    from fastembed.image.image_embedding_base import ImageEmbeddingBase
    from fastembed.text.text_embedding_base import TextEmbeddingBase
except ModuleNotFoundError as error:
    raise MissingDependencyError(str(error.name), extra="qdrant-inference") from error

__all__ = ["register"]

_Item = TypeVar("_Item")
_Loaded = tuple[str, str | None, str, str | None, str | None]  # model, revision, precision, device, runtime

_PREFIXES = (32, 64, 128, 256, 512, 768)  # the lengths "<model>@<length>" of a Matryoshka-trained model
_LOADING = ("device", "runtime", "local_files_only")  # options of `LocalEmbedder`; all others are of `EmbeddingConfig`
_OPTIONS = tuple(field.name for field in dataclasses.fields(EmbeddingConfig) if field.name not in ("model", "tiling"))
# Values that both packages pass for ONNX options that are not set; `threads` is 1 in qdrant-client's own processes.
_ONNX_UNSET: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "cache_dir": (None,),
        "threads": (None, 1),
        "providers": (None,),
        "cuda": (False, "auto"),
        "device_ids": (None,),
        "lazy_load": (False,),
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Model:
    """A registered name: its embedder or configuration, and its description for fastembed."""

    source: Embedder | EmbeddingConfig
    description: DenseModelDescription

    @property
    def config(self) -> EmbeddingConfig:
        return self.source if isinstance(self.source, EmbeddingConfig) else self.source.config


# Global to the process, as fastembed's lists are. Both are written under the lock.
_MODELS: dict[str, _Model] = {}  # by name in lower case: fastembed ignores case
_LOADED: dict[_Loaded, LocalEmbedder] = {}
_LOCK = ForkSafeLock()


def register(embedder: Embedder | EmbeddingConfig | None = None, *, name: str | None = None) -> None:
    """Let every qdrant-client in this process embed with our encoder; call it before the first use.

    A model's name is its hub id or "nano". A model trained for shortened vectors also has names like
    "jinaai/jina-clip-v2@256", for which `client.get_embedding_size` knows the length too. The `options` of a `Document`
    or an `Image` are the fields of `EmbeddingConfig` except `model` and `tiling`, plus `device`, `runtime` and
    `local_files_only`. A model is loaded when it is first used, once for each revision, precision, device and runtime;
    calls with other options share it.

    Args:
        embedder: a configuration, whose model is loaded here (at once if the length of its vectors is not known), or an
            embedder, which is used as it is. `None` registers the known models.
        name: the name to pass as `model`; `None` takes the configuration's model, with "@" and `dimensions` if set.
            The same vectors may be registered again; an embedder takes precedence over a configuration.

    Raises:
        ConfigError: `name` without `embedder`, or `name` is already registered for other vectors.
        CheckpointError: the model was loaded at once and its weights are absent or damaged.
    """
    if embedder is not None:
        _add(embedder, name)
    elif name is not None:
        raise ConfigError(f"`name` is {name!r} without an `embedder`: give both, or neither for the known models")
    else:
        for model in KNOWN_MODELS:
            _add(EmbeddingConfig(model=model.name), None)
            for length in _PREFIXES if model.matryoshka else ():
                if length < model.embedding_dim:
                    _add(EmbeddingConfig(model=model.name, dimensions=length), None)
    with _LOCK:
        for registry, tower in _REGISTRIES:
            if tower not in registry:
                registry.insert(0, tower)


def _add(source: Embedder | EmbeddingConfig, name: str | None) -> None:
    config = source if isinstance(source, EmbeddingConfig) else source.config
    if name is None:
        name = config.model if config.dimensions is None else f"{config.model}@{config.dimensions}"
    description = _describe(name, source)
    with _LOCK:
        there = _MODELS.get(name.lower())
        if there is not None and there.config.fingerprint() != config.fingerprint():
            # A client keeps the model that it first got for a name: one name would give two kinds of vectors.
            raise ConfigError(f"{name!r} is registered for other vectors ({there.config}): use another `name`")
        if there is None or not isinstance(source, EmbeddingConfig):
            _MODELS[name.lower()] = _Model(source=source, description=description)


def _describe(name: str, source: Embedder | EmbeddingConfig) -> DenseModelDescription:
    if isinstance(source, EmbeddingConfig):
        config, length = source, source.embedding_dim
    else:
        config, length = source.config, source.dimensions
    known = known_model(config.model)
    return DenseModelDescription(
        model=name,
        sources=ModelSource(hf=config.model),  # for people: not used for downloads
        model_file="model.safetensors",
        description=f"text and image vectors of {config.model}, by jclip-connectors",
        license="" if known is None else known.license,
        size_in_GB=0.0,
        dim=_load(config, {}).dimensions if length is None else length,
    )


def _open(name: str, given: Mapping[str, Any]) -> Embedder:
    """The embedder for a name and the options of a call, ONNX options included.

    Raises:
        ConfigError: an option that is unknown, out of range, or in conflict with the name.
    """
    options = {key: value for key, value in given.items() if value not in _ONNX_UNSET.get(key, ())}
    for key in options:
        if key not in (*_OPTIONS, *_LOADING):
            onnx = ", which is for ONNX models (`device` says where this one runs)" if key in _ONNX_UNSET else ""
            raise ConfigError(f"{name!r} has no option `{key}`{onnx}; it takes {', '.join((*_OPTIONS, *_LOADING))}")
    model = _MODELS[name.lower()]
    loading = {key: options.pop(key) for key in _LOADING if key in options}
    if isinstance(model.source, EmbeddingConfig):
        if model.source.dimensions not in (None, options.get("dimensions", model.source.dimensions)):
            raise ConfigError(f"{name!r} has {model.source.dimensions} `dimensions`, not {options['dimensions']!r}")
        return _load(dataclasses.replace(model.source, **options), loading)
    # For an embedder, options may only repeat what it does anyway.
    fixed = dataclasses.replace(model.source.config, dimensions=model.source.dimensions)
    if loading or dataclasses.replace(fixed, **options) != fixed:
        changed = [*loading, *(key for key, value in options.items() if getattr(fixed, key) != value)]
        raise ConfigError(
            f"{name!r} is an embedder that was registered: `{'`, `'.join(changed)}` cannot be changed for a call; "
            "register an embedder or an EmbeddingConfig with these values under another name"
        )
    return model.source


def _load(config: EmbeddingConfig, loading: Mapping[str, Any]) -> LocalEmbedder:
    revision = config.revision if config.revision is not None else default_revision(config.model)
    key = (config.model, revision, config.precision, loading.get("device"), loading.get("runtime"))
    with _LOCK:
        if key not in _LOADED:
            whole = EmbeddingConfig(model=config.model, revision=config.revision, precision=config.precision)
            _LOADED[key] = LocalEmbedder(whole, **loading)
    return _LOADED[key].with_config(config)


class _TextTower(TextEmbeddingBase):
    def __init__(
        self, model_name: str, cache_dir: str | None = None, threads: int | None = None, **options: object
    ) -> None:
        super().__init__(model_name, cache_dir, threads)
        self._embedder = _open(model_name, {"cache_dir": cache_dir, "threads": threads, **options})

    @classmethod
    def _list_supported_models(cls) -> list[DenseModelDescription]:
        return [model.description for model in list(_MODELS.values())]

    def embed(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None, **kwargs: object
    ) -> Iterator[FloatArray]:
        """Embed documents: a row (E,) each; `batch_size` of them are in memory at a time."""
        _check_call(parallel, kwargs)
        for texts in _chunks([documents] if isinstance(documents, str) else documents, batch_size):
            yield from self._embedder.embed_texts(texts)

    def query_embed(self, query: str | Iterable[str], batch_size: int = 256, **kwargs: object) -> Iterator[FloatArray]:  # noqa: ARG002 (of the interface; each query is embedded by itself)
        """Embed queries: a row (E,) each."""
        _check_call(None, kwargs)
        yield from map(self._embedder.embed_query, [query] if isinstance(query, str) else query)


class _ImageTower(ImageEmbeddingBase):
    def __init__(
        self, model_name: str, cache_dir: str | None = None, threads: int | None = None, **options: object
    ) -> None:
        super().__init__(model_name, cache_dir, threads)
        self._embedder = _open(model_name, {"cache_dir": cache_dir, "threads": threads, **options})

    @classmethod
    def _list_supported_models(cls) -> list[DenseModelDescription]:
        return [model.description for model in list(_MODELS.values())]

    def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        batch_size: int = 16,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[FloatArray]:
        """Embed images: a row (E,) each; `batch_size` of them are in memory at a time."""
        _check_call(parallel, kwargs)
        many = [images] if isinstance(images, str | Path | Image.Image) else images
        for chunk in _chunks(many, batch_size):
            try:
                yield from self._embedder.embed_images(chunk)
            except PartialFailureError as error:
                raise EmbedInputError("; ".join(map(str, error.failed.values()))) from error


_REGISTRIES: tuple[tuple[list[Any], type], ...] = (
    (TextEmbedding.EMBEDDINGS_REGISTRY, _TextTower),
    (ImageEmbedding.EMBEDDINGS_REGISTRY, _ImageTower),
)


def _check_call(parallel: int | None, unknown: Mapping[str, object]) -> None:
    for key in unknown:
        raise ConfigError(f"`{key}` is not an option of a call; options of the model are {', '.join(_OPTIONS)}")
    if parallel not in (None, 1):
        raise ConfigError(f"`parallel` is {parallel!r}: the model runs in this process, on all cores; leave it out")


def _chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
