"""The store that a URL names.

| URL | store | key |
|---|---|---|
| `edge:PATH` | a collection in a folder | |
| `chroma:PATH#COLLECTION` | Chroma in a folder, collection "jclip" | |
| `chroma://HOST:PORT/COLLECTION`, `chromas://` with TLS | Chroma, port 8000 (443) | `CHROMA_API_KEY` |
| `lancedb:PATH#TABLE` | LanceDB in a folder, table "jclip" | |
| `qdrant://HOST:PORT/COLLECTION`, `qdrants://` with TLS | Qdrant, port 6333 | `QDRANT_API_KEY` |
| `weaviate://HOST:PORT/COLLECTION?grpc_port=N`, `weaviates://` with TLS | Weaviate, ports 8080 (443) and 50051 | `WEAVIATE_API_KEY` |
| `pinecone://INDEX/NAMESPACE` | Pinecone, namespace "jclip" | `PINECONE_API_KEY` |
| `postgresql://HOST:PORT/DATABASE/COLLECTION`, `postgres://` | PostgreSQL with pgvector, port 5432 | `PGPASSWORD`, or `~/.pgpass` |
| `milvus:PATH.db#COLLECTION` | Milvus Lite, collection "jclip" | |
| `milvus://HOST:PORT/COLLECTION`, `milvuss://` with TLS | Milvus, port 19530 (443) | `MILVUS_TOKEN` |

`?timeout=SECONDS` after the URL of a server sets how long each answer is waited for. Keys come from the environment. A URL with
credentials is refused, and the error does not repeat it. PostgreSQL's user comes from `PGUSER` and its TLS mode from `PGSSLMODE`,
as for every client of libpq.

A package that brings a store of its own names a `StoreScheme` in the group of entry points `jclip_connectors.stores`.
"""  # noqa: E501 (a table's row)

import importlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, urlsplit

from core_encoder.errors import ConfigError
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_kit.places import FolderUrl, Place, ServerUrl, StoreScheme

ENTRY_POINTS = "jclip_connectors.stores"
_NO_SERVER = "a collection in a folder has no server to wait for"
_FORMS = (
    "edge:PATH",
    "chroma:PATH",
    "chroma://HOST:PORT/COLLECTION",
    "lancedb:PATH#TABLE",
    "qdrant://HOST:PORT/COLLECTION",
    "weaviate://HOST:PORT/COLLECTION",
    "pinecone://INDEX",
    "postgresql://HOST:PORT/DATABASE/COLLECTION",
    "milvus:PATH.db",
    "milvus://HOST:PORT/COLLECTION",
)
_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "edge": "edge",
        "chroma": "chroma",
        "chromas": "chroma",
        "lancedb": "lancedb",
        "qdrant": "qdrant",
        "qdrants": "qdrant",
        "weaviate": "weaviate",
        "weaviates": "weaviate",
        "pinecone": "pinecone",
        "postgresql": "pgvector",
        "postgres": "pgvector",
        "milvus": "milvus",
        "milvuss": "milvus",
    }
)  # each has `url.py` with SCHEME
_TLS = frozenset({"qdrants", "weaviates", "chromas", "milvuss"})  # only of servers
_TIMEOUT = "timeout"
# PostgreSQL counts milliseconds in 32 bits, and clients fail for numbers that a socket cannot have.
_LONGEST_TIMEOUT_S = 86_400


@contextmanager
def connected(
    url: str, *, timeout: str | None = None, read_only: bool = False, argument: str = "`--store`"
) -> Iterator[Place]:
    """Connect to the database that `url` names; connections and stores are closed with the context.

    Args:
        url: the URL.
        timeout: the text of `--timeout`: how many seconds each answer is waited for, as `?timeout=` in the URL.
        read_only: read a collection in a folder without locking it: it may be open elsewhere, or on a read-only disk.
        argument: how messages call the URL.

    Raises:
        EmbedInputError: the URL has none of the known forms, or contains credentials; the timeout is no positive
            number, differs from the timeout in the URL, or would have no effect.
        MissingDependencyError: the database's SDK is not installed.
        ConfigError: the package that brings the scheme cannot be loaded, or several bring it.
        StoreUnavailableError: the database cannot be reached.
    """
    with ExitStack() as stack:
        check_timeout(timeout)
        scheme, _, rest = url.partition(":")
        if rest.startswith("//") and scheme != "edge":
            yield _on_server(url, stack, timeout, argument)
        else:
            yield _in_folder(url, stack, timeout, read_only=read_only, argument=argument)


def edge_url(folder: object) -> str:
    """The URL of the collection in a folder."""
    return f"edge:{folder}"


def is_store_url(text: str) -> bool:
    """Whether a text is the URL of a store, and no path."""
    scheme, colon, rest = text.partition(":")
    return rest.startswith("//") or (bool(colon) and (scheme in _PACKAGES or any(e.name == scheme for e in _others())))


def collection_identity(url: str) -> str:
    """What tells a collection from others: its URL without options, with the real path of a folder."""
    scheme, _, rest = url.partition(":")
    if rest.startswith("//") and scheme != "edge":
        return f"{scheme}:{rest.partition('?')[0].rstrip('/')}"
    place = FolderUrl(scheme=scheme, text=rest, read_only=True, argument=repr(url))
    if scheme == "edge":
        return f"{scheme}:{os.path.realpath(place.folder())}"
    folder, collection = place.folder_and_collection()
    return f"{scheme}:{os.path.realpath(folder)}#{collection}"


def check_no_secret(url: str, *, argument: str) -> None:
    """Refuse the URL of a collection on a server that has a secret in it, before the URL is kept or shown.

    Raises:
        EmbedInputError: the URL has credentials, or an option that is no number. The message does not repeat them.
    """
    scheme, _, rest = url.partition(":")
    if not rest.startswith("//") or scheme == "edge":
        return
    if "@" in url:
        raise _credentials(argument)
    for _, text in parse_qsl(rest.partition("?")[2], keep_blank_values=True):
        if not re.fullmatch(r"[\d.]+", text):
            raise EmbedInputError(
                f"{argument} has an option that is no number: leave it out, and give keys as environment variables"
            )


def check_timeout(text: str | None) -> str | None:
    """Check the text of `--timeout` before the work starts; returns the text.

    Raises:
        EmbedInputError: the text is not a positive number.
    """
    if text is not None:
        _seconds(text, f"`--timeout` is {text!r}")
    return text


def _in_folder(url: str, stack: ExitStack, timeout: str | None, *, read_only: bool, argument: str) -> Place:
    name, colon, rest = url.partition(":")
    scheme = _scheme(name) if colon else None
    if scheme is None or scheme.folder is None or name in _TLS:
        raise _credentials(argument) if "@" in url else _unknown(argument, url)
    if timeout is not None:
        raise EmbedInputError(f"`--timeout` is {timeout!r}, but {_NO_SERVER}: leave out `--timeout`")
    place = FolderUrl(scheme=name, text=rest, read_only=read_only, argument=argument)
    if re.search(r"\?timeout=[^/]*$", rest) and not place.folder().exists():  # a folder may have such a name
        raise EmbedInputError(f"{argument} has a timeout, but {_NO_SERVER}: leave out `?timeout=`")
    return scheme.folder(place, stack)


def _on_server(url: str, stack: ExitStack, timeout: str | None, argument: str) -> Place:
    parts, port, readable = None, None, False
    with suppress(ValueError):  # its text quotes a part of the URL, which may be secret
        parts = urlsplit(url)
        port = parts.port
        readable = True
    if parts is None or not readable:
        raise EmbedInputError(f"{argument} is not a valid URL; write {_forms()}")
    if "@" in url:
        raise _credentials(argument)
    scheme = _scheme(parts.scheme)
    if scheme is None or scheme.server is None or not parts.hostname or port == 0:
        raise _unknown(argument, url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    place = ServerUrl(
        scheme=parts.scheme,
        address=parts.netloc,
        host=parts.hostname,
        port=port,
        path=parts.path,
        options=tuple(option for option in options if option[0] != _TIMEOUT),
        timeout_s=_timeout_s(parts, timeout, argument),
        argument=argument,
    )
    return scheme.server(place, stack)


def _scheme(name: str) -> StoreScheme | None:
    """What opens URLs of a scheme: ours, else another package's; `None` if nothing does."""
    if name in _PACKAGES:
        ours: StoreScheme = importlib.import_module(f"jclip_connectors.{_PACKAGES[name]}.url").SCHEME
        return ours
    found = [entry for entry in _others() if entry.name == name]
    if not found:
        return None
    if len(found) > 1:
        raise ConfigError(f"several packages bring stores with URLs {name!r}, {_brought(found)}: remove all but one")
    try:
        scheme = found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"what opens URLs {name!r}, {_brought(found)}, cannot be loaded: {error}") from error
    if not isinstance(scheme, StoreScheme):
        raise ConfigError(f"what opens URLs {name!r}, {_brought(found)}, is no `StoreScheme`")
    return scheme


def _others() -> list[EntryPoint]:
    """Stores of other packages; each once, also where its package is found in two folders."""
    return sorted({(entry.name, entry.value): entry for entry in entry_points(group=ENTRY_POINTS)}.values())


def _brought(found: list[EntryPoint]) -> str:
    return " and ".join(repr(entry.value) for entry in found)


def _forms() -> str:
    others = [f"{name}:..." for name in sorted({entry.name for entry in _others()} - set(_PACKAGES))]
    *first, last = [*_FORMS, *others]
    return f"{', '.join(first)} or {last}"


def _unknown(argument: str, url: str) -> EmbedInputError:
    return EmbedInputError(f"{argument} is {url.partition('?')[0]!r}; write {_forms()}")


def _credentials(argument: str) -> EmbedInputError:
    return EmbedInputError(f"{argument} contains credentials: leave them out, and set the key's environment variable")


def _timeout_s(parts: SplitResult, option: str | None, argument: str) -> float | None:
    """The timeout in the URL or in the option, in seconds; errors do not repeat a text of the URL."""
    texts = [value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name == _TIMEOUT]
    given = [_seconds(text, f"`{_TIMEOUT}` in {argument} has a bad value") for text in texts]
    if option is not None:
        given.append(_seconds(option, f"`--timeout` is {option!r}"))
    different = [f"{seconds:g}" for seconds in dict.fromkeys(given)]
    if len(different) > 1:
        raise EmbedInputError(f"the timeout is given as {' and as '.join(different)} seconds: leave all but one out")
    return given[0] if given else None


def _seconds(text: str, found: str) -> float:
    seconds = math.nan
    with suppress(ValueError):
        seconds = float(text)
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise EmbedInputError(f"{found}; write a number of seconds above 0, {_LONGEST_TIMEOUT_S} at most")
    return seconds
