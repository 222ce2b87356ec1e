"""The configuration of the vectors in a saved pipeline: the options that differ from the defaults."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core_encoder.errors import ConfigError
from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig


def config_to_dict(config: EmbeddingConfig) -> dict[str, Any]:
    """The model, and every option that is not the default."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(EmbeddingConfig)}
    if config.tiling is not None:
        values["tiling"] = dataclasses.asdict(config.tiling)
    defaults = {field.name: field.default for field in dataclasses.fields(EmbeddingConfig)}
    return {name: value for name, value in values.items() if name == "model" or value != defaults[name]}


def config_from_dict(values: object) -> EmbeddingConfig:
    """The configuration that `config_to_dict` has written, or a person.

    Raises:
        ConfigError: not a mapping, an unknown option, or a bad value.
    """
    options = _known(values, EmbeddingConfig, name="config")
    tiling = options.get("tiling")
    if tiling is not None:
        options["tiling"] = Tiling(**_known(tiling, Tiling, name="tiling"))
    return EmbeddingConfig(**options)


def parameters(data: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a saved component, with its `config` made."""
    found = dict(data.get("init_parameters", {}))
    if found.get("config") is not None:
        found["config"] = config_from_dict(found["config"])
    return found


def _known(values: object, options: type[EmbeddingConfig | Tiling], *, name: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"`{name}` of a saved component is {type(values).__name__}, not a mapping of options")
    known = [field.name for field in dataclasses.fields(options)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError(f"`{name}` of a saved component has {unknown[0]!r}; known are {', '.join(known)}")
    return dict(values)
