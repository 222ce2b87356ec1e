"""Which model makes the vectors of a component, and where it runs: in this process, or behind a server.

A model in this process is loaded once for all components that use it, and forgotten with the last of them.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from haystack.utils import Secret

from core_encoder.errors import ConfigError
from core_encoder.forks import ForkSafeLock
from jclip_connectors.collection.async_hosts import ThreadedEmbedder
from jclip_connectors.collection.hosts import as_it_is
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.haystack.serialising import config_to_dict
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.port import AsyncEmbedder, Embedder
from jclip_connectors.remote import AsyncRemoteEmbedder, RemoteEmbedder
from jclip_connectors.store_kit.async_flows import run_async
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.store_kit.patience import Patience

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """A model, and where it runs.

    Attributes:
        config: the configuration of the vectors.
        device: where a model in this process runs: "cpu", "cuda", ...; `None` prefers CUDA.
        url: the URL of a server without `/embeddings`; `None` runs the model in this process.
        api_key: the server's key, or `None`.
    """

    config: EmbeddingConfig
    device: str | None
    url: str | None
    api_key: Secret | None = field(repr=False)  # Haystack's own repr of a token shows the token

    @classmethod
    def of(
        cls, config: EmbeddingConfig | None, *, device: str | None, url: str | None, api_key: Secret | None
    ) -> "ModelPlace":
        """Check the options of a component.

        Raises:
            ConfigError: an option has a bad value, or no effect beside another.
        """
        if config is not None and not isinstance(config, EmbeddingConfig):
            raise ConfigError(f"`config` is {type(config).__name__}; use an EmbeddingConfig")
        if api_key is not None and not isinstance(api_key, Secret):
            raise ConfigError(f"`api_key` is {type(api_key).__name__}; use Secret.from_env_var('...')")
        if url is not None and device is not None:
            raise ConfigError("`device` is for a model in this process, and `url` names a server: leave one out")
        if url is None and api_key is not None:
            raise ConfigError("`api_key` is for a server: give its `url`, or leave `api_key` out")
        return cls(config=EmbeddingConfig() if config is None else config, device=device, url=url, api_key=api_key)

    def to_dict(self) -> dict[str, Any]:
        """The options for a saved pipeline.

        Raises:
            ValueError: the key is a text: only the name of a variable can be saved.
        """
        key = None if self.api_key is None else self.api_key.to_dict()
        return {"config": config_to_dict(self.config), "device": self.device, "url": self.url, "api_key": key}


class Model:
    """The model of one component, made when it is first needed, or by `warm_up`."""

    def __init__(self, place: ModelPlace) -> None:
        """Nothing is loaded yet."""
        self.place = place
        self._lock = ForkSafeLock()
        self._base: LocalEmbedder | None = None  # keeps the shared model
        self._embedder: LocalEmbedder | RemoteEmbedder | None = None
        self._asynchronous: AsyncRemoteEmbedder | ThreadedEmbedder | None = None

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors."""
        return self.place.config

    def embedder(self) -> Embedder:
        """The blocking embedder.

        Raises:
            MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
            CheckpointError: the weights are absent or damaged.
            ConfigError: an option cannot be sent to a server.
        """
        with self._lock:
            if self._embedder is None:
                self._embedder = self._make()
            return self._embedder

    async def async_embedder(self) -> AsyncEmbedder:
        """The asyncio embedder; a model is loaded in a thread."""
        # Without the lock, which a thread holds while it loads the model.
        made = self._asynchronous
        return await asyncio.to_thread(self._make_asynchronous) if made is None else made

    def run(self, flow: Flow[_Result]) -> _Result:
        """Run a flow that calls an embedder."""
        return run(flow, self.embedder(), translate=as_it_is, attempts=1, patience=Patience(0.0))

    async def run_async(self, flow: Flow[_Result]) -> _Result:
        """Run a flow that calls an embedder; the event loop goes on meanwhile."""
        embedder = await self.async_embedder()
        return await run_async(flow, embedder, translate=as_it_is, attempts=1, patience=Patience(0.0))

    def close(self) -> None:
        """Forget the model, or close the connections; the next use makes them anew."""
        with self._lock:
            closing, self._embedder, self._base = self._embedder, None, None
            if isinstance(self._asynchronous, ThreadedEmbedder):
                self._asynchronous = None
        if isinstance(closing, RemoteEmbedder):
            closing.close()

    async def close_async(self) -> None:
        """`close`, and the connections of this event loop."""
        awaited, self._asynchronous = self._asynchronous, None
        if isinstance(awaited, AsyncRemoteEmbedder):
            await awaited.close()
        await asyncio.to_thread(self.close)

    def _make(self) -> LocalEmbedder | RemoteEmbedder:
        if self.place.url is not None:
            return RemoteEmbedder(self.config, base_url=self.place.url, api_key=self._key())
        self._base = _shared(self.config, self.place.device)
        return self._base if self._base.config == self.config else self._base.with_config(self.config)

    def _make_asynchronous(self) -> AsyncRemoteEmbedder | ThreadedEmbedder:
        embedder = self.embedder() if self.place.url is None else None
        with self._lock:
            if self._asynchronous is None:
                if embedder is not None:
                    self._asynchronous = ThreadedEmbedder(embedder)
                else:
                    url = str(self.place.url)
                    self._asynchronous = AsyncRemoteEmbedder(self.config, base_url=url, api_key=self._key())
            return self._asynchronous

    def _key(self) -> str | None:
        return None if self.place.api_key is None else self.place.api_key.resolve_value()


_loaded: WeakValueDictionary[tuple[object, ...], LocalEmbedder] = WeakValueDictionary()
_loading = ForkSafeLock()


def _shared(config: EmbeddingConfig, device: str | None) -> LocalEmbedder:
    """An embedder whose model other components may have loaded."""
    key = (config.model, config.revision, config.precision, device)
    with _loading:
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = LocalEmbedder(config, device=device)
        return found
