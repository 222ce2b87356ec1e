"""The arguments of `encode_text` and `encode_image` as the published class has them, and the form of their results."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from tqdm.auto import tqdm

from core_encoder.errors import ConfigError
from core_encoder.torch.device import resolve_device
from jclip_connectors.port import FloatArray

Vectors: TypeAlias = FloatArray | Tensor | list[Tensor]

# The values with which an argument of the tokenizer changes no vector.
_WITHOUT_EFFECT: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {
        "add_special_tokens": (True,),
        "padding": (True, False, "longest", "max_length", "do_not_pad"),
        "pad_to_multiple_of": (None,),
        "return_attention_mask": (True, False, None),
        "return_tensors": ("pt", "np", None),
        "return_token_type_ids": (True, False, None),
        "verbose": (True, False),
    }
)
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "is_query": "write `task='retrieval.query'`",
        "max_tokens": "its name is `max_length`",
        "normalize": "its name is `normalize_embeddings`",
        "prompt": "put it before each text",
        "prompt_name": "write `task='retrieval.query'` for queries",
    }
)


def check_tokenizer_arguments(given: Mapping[str, object]) -> Literal["truncate", "error"]:
    """Check the arguments that the published class passes to its tokenizer.

    Returns:
        What is done with a text over the limit: "error" if `truncation` is false.

    Raises:
        ConfigError: naming an argument that would change something and is not supported.
    """
    for name, value in given.items():
        if name == "truncation":
            if value not in (True, False, None, "longest_first", "only_first", "do_not_truncate"):
                raise ConfigError(f"`truncation` is {value!r}: use True, or False to refuse longer texts")
        elif not any(value is allowed or value == allowed for allowed in _WITHOUT_EFFECT.get(name, ())):
            raise ConfigError(f"`{name}` is not supported here: {_INSTEAD.get(name, 'leave it out')}")
    return "error" if given.get("truncation", True) in (False, "do_not_truncate") else "truncate"


def check_device(device: str | torch.device | None) -> torch.device | None:
    """Read `device`.

    Raises:
        ConfigError: torch does not have the device.
    """
    return None if device is None else resolve_device(str(device), "fp32")[0]


def check_batch_size(batch_size: int | None) -> None:
    """Check a value that has no effect.

    Raises:
        ConfigError: it is not a positive int.
    """
    given: object = batch_size
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
        raise ConfigError(f"`batch_size` is {batch_size!r}: use an int of 1 or more")


@contextmanager
def progress_bar(*, shown: bool | None) -> Iterator[Callable[[int, int], None] | None]:
    """Make the function that moves a bar on the terminal, or `None` if no bar is wanted."""
    if not shown:
        yield None
        return
    with tqdm(desc="Encoding") as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


def as_result(
    rows: FloatArray, device: torch.device, *, single: bool, convert_to_numpy: bool, convert_to_tensor: bool
) -> Vectors:
    """Give rows in the form that was asked for, as the published class does.

    Args:
        rows: (B, E) float32.
        device: where tensors are put.
        single: whether one text or image was given: its vector, (E,), is the result.
        convert_to_numpy: an array; `convert_to_tensor` has precedence.
        convert_to_tensor: one tensor.

    Returns:
        An array; one tensor; or, if both are false, a list of B tensors (E,).
    """
    if convert_to_numpy and not convert_to_tensor:
        return rows[0] if single else rows
    tensor = torch.from_numpy(rows).to(device)  # (B, E)
    if single:
        return tensor[0]
    return tensor if convert_to_tensor else list(tensor)
