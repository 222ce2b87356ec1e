"""What all components with a model have in common: they load it, let it go, and are saved without it."""

from typing import Any, Self

from haystack import default_from_dict, default_to_dict

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.haystack.models import Model
from jclip_connectors.haystack.serialising import parameters


class ModelComponent:
    """A component with a model.

    Haystack makes the class of a component anew, so methods of this one and of its subclasses do not use `super()`.
    """

    model: Model

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration of the vectors, for opening a store."""
        return self.model.config

    def warm_up(self) -> None:
        """Load the model, once for all components with the same model.

        Raises:
            MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
            CheckpointError: the weights are absent or damaged.
        """
        self.model.embedder()

    async def warm_up_async(self) -> None:
        """`warm_up` in a thread."""
        await self.model.async_embedder()

    def close(self) -> None:
        """Let the model go, or close the connections to the server; a later run makes them anew."""
        self.model.close()

    async def close_async(self) -> None:
        """`close`, also for the connections of this event loop."""
        await self.model.close_async()

    def to_dict(self) -> dict[str, Any]:
        """The component for a saved pipeline: its options, without weights and without the key.

        Raises:
            ValueError: the key was given as a text: only `Secret.from_env_var` can be saved.
        """
        return default_to_dict(self, **self.model.place.to_dict(), **self._options())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make the component of a saved pipeline; `data` is what `to_dict` gave.

        Raises:
            ConfigError: an option of the configuration is unknown or has a bad value.
        """
        return default_from_dict(cls, {**data, "init_parameters": parameters(data)})

    def _options(self) -> dict[str, Any]:
        """The options beside those of the model."""
        return {}
