"""Check the arguments of `from_pretrained`: each is applied or refused by name."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from transformers import PreTrainedConfig

from core_encoder.checkpoint import FILES
from core_encoder.config import parse_config, read_json
from core_encoder.errors import CheckpointError, ConfigError
from core_encoder.models import AttentionChoice, Precision
from core_encoder.torch.device import PRECISIONS

# Arguments that `AutoModel` adds, and arguments about memory use: no vector depends on them.
_WITHOUT_EFFECT = frozenset({"_from_auto", "adapter_kwargs", "low_cpu_mem_usage", "trust_remote_code"})
_DONE_ANYWAY = frozenset({"use_safetensors", "weights_only"})
# Fields of config.json that a caller may override; every other one describes the weights.
_MAY_DIFFER = frozenset({"_name_or_path", "dtype", "return_dict", "transformers_version", "truncate_dim"})
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "device_map": "load the model and move it: `model.to('cuda')`",
        "output_loading_info": "loading is strict, a missing or unexpected tensor is an error",
        "quantization_config": "the towers compute in float32 or bfloat16",
        "state_dict": "weights are read from the checkpoint's safetensors",
        "subfolder": "the files of a checkpoint lie in one folder: pass that folder",
        "use_auth_token": "its name is `token`",
        "use_safetensors": "weights are read from safetensors only, never from a pickle",
    }
)


class JinaCLIPConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """config.json of a checkpoint; both sections stay plain dicts.

    Attributes:
        truncate_dim: keep this many values of each vector; `None` keeps all.
    """

    model_type = "jina_clip"
    truncate_dim: int | None = None

    def get_text_config(self, *_: object, **__: object) -> Self:
        """Give the whole configuration: the text section is a dict, not a configuration of transformers."""
        return self


def check_arguments(kwargs: Mapping[str, object]) -> None:
    """Refuse unsupported arguments; `None`, and a flag that asks for what is done anyway, are accepted.

    Raises:
        ConfigError: naming the argument, and what to do instead.
    """
    for name, value in kwargs.items():
        if name in _WITHOUT_EFFECT or value is None or value is (name in _DONE_ANYWAY):
            continue
        # The message leaves the value out: an argument of another library may be a credential.
        raise ConfigError(f"`{name}` is not supported here: {_INSTEAD.get(name, 'leave it out')}")


def download(source: str, *, revision: str | None, **options: Any) -> Path:  # noqa: ANN401 - the hub's own options
    """Download the files of a checkpoint, or find them in the cache, and return their folder.

    Raises:
        CheckpointError: a file is absent, or the hub cannot be reached.
    """
    try:
        files = [Path(hf_hub_download(source, name, revision=revision, **options)) for name in FILES]
    except (OSError, HFValidationError) as error:  # the hub's errors are OSErrors
        raise CheckpointError(
            f"{source!r} at revision {str(revision or 'main')!r} is not available ({type(error).__name__}): {error}; "
            "download it once with a connection, or pass a folder that holds the files"
        ) from error
    return files[0].parent


def check_config(given: JinaCLIPConfig | None, folder: Path, source: str) -> tuple[JinaCLIPConfig, AttentionChoice]:
    """Compare the caller's configuration with config.json, which describes the weights.

    Returns:
        The configuration to use, and the attention backend of the text tower.

    Raises:
        ConfigError: naming the fields that differ, or an unsupported `attn_implementation`.
    """
    path = folder / "config.json"
    stored = JinaCLIPConfig.from_dict(dict(read_json(path)), name_or_path=source)
    config = stored if given is None else given
    asked, found = config.to_dict(), stored.to_dict()
    parse_config(found)
    changed = [name for name in {**asked, **found} if asked.get(name) != found.get(name) and name not in _MAY_DIFFER]
    if changed:
        raise ConfigError(f"{sorted(changed)} differ from config.json in {str(folder)!r}, which describes the weights")
    attention = config._attn_implementation
    if attention not in {None, "sdpa"}:
        raise ConfigError(f"`attn_implementation` is {attention!r}: leave it out, or use 'sdpa'")
    return config, "auto" if attention is None else "sdpa"


def precision_of(dtype: torch.dtype | str | None) -> Precision:
    """Translate `dtype`.

    Raises:
        ConfigError: neither float32 nor bfloat16.
    """
    if dtype is None or dtype == "auto":
        return "fp32"
    found: dict[object, Literal["fp32", "bf16"]] = {}
    for known in PRECISIONS:
        found[known] = found[str(known).removeprefix("torch.")] = "fp32" if known is torch.float32 else "bf16"
    if dtype not in found:
        raise ConfigError(f"`dtype` is {dtype!r}: choose one of {sorted(map(str, PRECISIONS))}, or leave it out")
    return found[dtype]
