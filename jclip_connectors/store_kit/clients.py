"""What is given to a store's `open` as its client and its configuration: the right kind, or one sentence.

No message shows a value: it may be a key or an address with a password.
"""

import inspect
import os
from collections.abc import Mapping, Sequence

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError

_KINDS: Mapping[type, str] = {str: "a string", bytes: "bytes", dict: "a dict", list: "a list", tuple: "a tuple"}


def check_client(
    client: object,
    *,
    kinds: Sequence[type],
    needs: str,
    asyncio: bool,
    twin: str,
    example: str,
    parameter: str = "client",
) -> None:
    """Check the kind of a client.

    Args:
        client: what the caller gave.
        kinds: the classes that are right.
        needs: an attribute that every right client has, also one of another class that wraps an SDK's.
        asyncio: whether the store needs an asyncio client.
        twin: the store for clients of the other kind, blocking or asyncio.
        example: how to make a right client.
        parameter: the name of the parameter.

    Raises:
        EmbedInputError: it is no client, or one of the other kind.
    """
    if _is_value(client) or not (isinstance(client, tuple(kinds)) or hasattr(client, needs)):
        raise EmbedInputError(f"`{parameter}` is {_told(client)}: pass `{example}`")
    if _is_asyncio(client, needs) is not asyncio:
        found, wanted = ("a blocking", "an asyncio") if asyncio else ("an asyncio", "a blocking")
        raise EmbedInputError(
            f"`{parameter}` is {found} {type(client).__name__}, and this store needs {wanted} one: pass `{example}`, "
            f"or use `{twin}`"
        )


def check_config(config: object) -> None:
    """Check that a configuration is one.

    Raises:
        EmbedInputError: it is something else.
    """
    if not isinstance(config, EmbeddingConfig):
        raise EmbedInputError(f"`config` is {_told(config)}: pass `EmbeddingConfig(model=...)`")


def check_path(path: object) -> None:
    """Check that the path of a folder is one.

    Raises:
        EmbedInputError: it is something else, empty, or a URL.
    """
    if not isinstance(path, str | os.PathLike):
        raise EmbedInputError(f"`path` is {_told(path)}: pass the path of a folder")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise EmbedInputError("`path` is a path of bytes: pass the path of a folder as a string")
    if not text:
        raise EmbedInputError("`path` is an empty string: pass the path of a folder, '.' for the current one")
    if "://" in text:
        raise EmbedInputError("`path` is a URL: pass the path of a folder; a server has a store of its own")


def _is_value(client: object) -> bool:
    """Whether this is no object with methods of its own, but a value, a class or a function."""
    if client is None or isinstance(client, type | str | bytes | int | float | dict | list | tuple | os.PathLike):
        return True
    return isinstance(client, EmbeddingConfig) or inspect.isroutine(client) or inspect.isawaitable(client)


def _is_asyncio(client: object, needs: str) -> bool:
    """Whether a client is for asyncio: it has an asyncio method, or is entered by `async with`."""
    methods = (getattr(type(client), name, None) for name in ("close", needs))
    return any(map(inspect.iscoroutinefunction, methods)) or hasattr(type(client), "__aenter__")


def _told(value: object) -> str:
    """Name the kind of a value."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it"
    if inspect.isawaitable(value):
        return "something that has to be awaited first"
    known = next((name for kind, name in _KINDS.items() if isinstance(value, kind)), None)
    return f"an object of the type {type(value).__name__}" if known is None else known
