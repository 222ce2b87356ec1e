"""The store that a URL names, for the command line.

| URL | store | key |
|---|---|---|
| `edge:PATH` | a collection in a folder | |
| `qdrant://HOST:PORT/COLLECTION`, `qdrants://` with TLS | Qdrant, port 6333 | `QDRANT_API_KEY` |
| `weaviate://HOST:PORT/COLLECTION?grpc_port=N`, `weaviates://` with TLS | Weaviate, ports 8080 (443) and 50051 | `WEAVIATE_API_KEY` |
| `pinecone://INDEX/NAMESPACE` | Pinecone, namespace "jclip" | `PINECONE_API_KEY` |
| `postgresql://HOST:PORT/DATABASE/COLLECTION`, `postgres://` | PostgreSQL with pgvector, port 5432 | `PGPASSWORD`, or `~/.pgpass` |

`?timeout=SECONDS` after the URL of a server sets how long each answer is waited for. Keys come from the environment. A URL with credentials is refused, and the error does not repeat it. PostgreSQL's user
comes from `PGUSER` and its TLS mode from `PGSSLMODE`, as for every client of libpq.
"""  # noqa: E501 (a table's row)

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import VectorStore
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.store_kit.keys import read_key

if TYPE_CHECKING:
    from weaviate import WeaviateClient

_NO_SERVER = "a collection in a folder has no server to wait for"
_FORMS = (
    "edge:PATH, qdrant://HOST:PORT/COLLECTION, weaviate://HOST:PORT/COLLECTION, pinecone://INDEX or "
    "postgresql://HOST:PORT/DATABASE/COLLECTION"
)
_TIMEOUT = "timeout"
_DEFAULTS: Mapping[str, Any] = MappingProxyType({})
_WEAVIATE_GRPC_PORT = 50051
# gRPC's own wait before it connects again grows to two minutes, and would outlive an outage.
_RECONNECT_SOON = [("grpc.initial_reconnect_backoff_ms", 500), ("grpc.max_reconnect_backoff_ms", 1000)]
# PostgreSQL counts milliseconds in 32 bits, and clients fail for numbers that a socket cannot have.
_LONGEST_TIMEOUT_S = 86_400
_WEAVIATE_CLOUD = (".weaviate.cloud", ".weaviate.network")  # they have a separate host for gRPC


class OpenStore(Protocol):
    """Opens a collection."""

    def __call__(
        self, config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = _DEFAULTS
    ) -> VectorStore:
        """Open the collection for a configuration, or make it for vectors of the given length.

        Args:
            config: the configuration.
            dimensions: the length of the vectors; without it, the collection must exist.
            search: options of the store's own `open` that change how it searches.
        """


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of an existing or new collection.

    Attributes:
        name: for messages; without credentials.
        fingerprint: reads the collection's fingerprint; `None` if there is no collection yet.
        open: opens the collection.
        folder: the folder of a collection in a folder.
        search_options: the options of the store's `open` that change how it searches.
        client: the database's client; `None` for a collection in a folder.
        collection: what the database calls the collection.
    """

    name: str
    fingerprint: Callable[[], Fingerprint | None]
    open: OpenStore
    folder: Path | None = None
    search_options: tuple[str, ...] = ()
    client: Any = None
    collection: str = ""


_Client = TypeVar("_Client")
_Connect: TypeAlias = Callable[[SplitResult, ExitStack, float | None], Place]  # with the timeout in seconds


@contextmanager
def connected(url: str, *, timeout: str | None = None, read_only: bool = False) -> Iterator[Place]:
    """Connect to the database that `url` names; connections and stores are closed with the context.

    Args:
        url: a URL of `--store`.
        timeout: the text of `--timeout`: how many seconds each answer is waited for, as `?timeout=` in the URL.
        read_only: read a collection in a folder without locking it: it may be open elsewhere, or on a read-only disk.

    Raises:
        EmbedInputError: the URL has none of the known forms, or contains credentials; the timeout is no positive
            number, differs from the timeout in the URL, or would have no effect.
        MissingDependencyError: the database's SDK is not installed.
        StoreUnavailableError: the database cannot be reached.
    """
    with ExitStack() as stack:
        yield _place(url, stack, timeout=timeout, read_only=read_only)


def edge_url(folder: Path) -> str:
    """The URL of the collection in a folder."""
    return f"edge:{folder}"


def check_timeout(text: str | None) -> str | None:
    """Check the text of `--timeout` before the work starts; returns the text.

    Raises:
        EmbedInputError: the text is not a positive number.
    """
    if text is not None:
        _seconds(text, f"`--timeout` is {text!r}")
    return text


def _place(url: str, stack: ExitStack, *, timeout: str | None, read_only: bool) -> Place:
    check_timeout(timeout)
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "edge":
        if timeout is not None:
            raise EmbedInputError(f"`--timeout` is {timeout!r}, but {_NO_SERVER}: leave out `--timeout`")
        return _edge(rest, stack, read_only=read_only)
    parts, port, readable = None, None, False
    with suppress(ValueError):  # its text quotes a part of the URL, which may be secret
        parts = urlsplit(url)
        port = parts.port
        readable = True
    if parts is None or not readable:
        raise EmbedInputError(f"`--store` is not a valid URL; write {_FORMS}")
    if "@" in url:
        raise EmbedInputError("`--store` contains credentials: leave them out, and set the key's environment variable")
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise EmbedInputError(f"`--store` is {url.partition('?')[0]!r}; write {_FORMS}")
    return _SCHEMES[parts.scheme](parts, stack, _timeout_s(parts, timeout))


def _edge(path: str, stack: ExitStack, *, read_only: bool) -> Place:
    from jclip_connectors.edge import QdrantEdgeStore
    from jclip_connectors.edge.shard import check_folder
    from jclip_connectors.edge.sidecar import read_sidecar

    if not path:
        raise EmbedInputError("`--store` names no folder; write edge:PATH")
    folder = Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser fails for a user that does not exist)
    if re.search(r"\?timeout=[^/]*$", path) and not folder.exists():  # a folder may have such a name
        raise EmbedInputError(f"`--store` has a timeout, but {_NO_SERVER}: leave out `?timeout=`")
    check_folder(folder)

    def fingerprint() -> Fingerprint | None:
        sidecar = read_sidecar(folder) if folder.is_dir() else None
        return None if sidecar is None else sidecar.fingerprint

    def open_store(config: EmbeddingConfig, _: int | None, /, search: Mapping[str, Any] = _DEFAULTS) -> VectorStore:
        return stack.enter_context(QdrantEdgeStore.open(folder, config, read_only=read_only, **search))

    return Place(
        name=repr(path), fingerprint=fingerprint, open=open_store, folder=folder, search_options=("candidates",)
    )


def _qdrant(parts: SplitResult, stack: ExitStack, timeout_s: float | None) -> Place:
    from jclip_connectors.qdrant import QdrantStore, stored_fingerprint  # first: it says which extra is missing

    # isort: split
    from qdrant_client import QdrantClient

    collection = _collection(parts)
    _options(parts, {})
    key = read_key(os.environ, "QDRANT_API_KEY")
    secure = parts.scheme == "qdrants"
    client = QdrantClient(
        host=parts.hostname,
        port=parts.port or 6333,
        https=secure,
        api_key=key,
        timeout=None if timeout_s is None else math.ceil(timeout_s),
        check_compatibility=False,
    )
    stack.callback(client.close)

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = _DEFAULTS
    ) -> VectorStore:
        return QdrantStore.open(client, collection, config, dimensions=dimensions, **search)

    return Place(
        name=_name(parts),
        fingerprint=lambda: stored_fingerprint(client, collection),
        open=open_store,
        search_options=("candidates", "hnsw_ef", "oversampling"),
        client=client,
        collection=collection,
    )


def _weaviate(parts: SplitResult, stack: ExitStack, timeout_s: float | None) -> Place:
    from jclip_connectors.weaviate import WeaviateStore, stored_fingerprint
    from jclip_connectors.weaviate.aliases import aliased_collection

    named = _collection(parts)
    client = _connect_weaviate(parts, timeout_s)
    stack.callback(client.close)
    aliased = aliased_collection(client, named)  # a server takes an alias for objects, not for definitions
    collection = named if aliased is None else aliased

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = _DEFAULTS
    ) -> VectorStore:
        return WeaviateStore.open(client, collection, config, dimensions=dimensions, **search)

    return Place(
        name=_name(parts),
        fingerprint=lambda: stored_fingerprint(client, collection),
        open=open_store,
        client=client,
        collection=collection,
    )


def _connect_weaviate(parts: SplitResult, timeout_s: float | None) -> "WeaviateClient":
    import weaviate
    from weaviate.auth import Auth
    from weaviate.config import AdditionalConfig, GrpcConfig, Timeout

    from jclip_connectors.weaviate.errors import translate

    host, secure = str(parts.hostname), parts.scheme == "weaviates"
    grpc_port = _options(parts, {"grpc_port": _WEAVIATE_GRPC_PORT})["grpc_port"]
    http_port = parts.port or (443 if secure else 8080)
    if not 0 < grpc_port < 2**16 or (grpc_port == http_port and not secure):
        raise EmbedInputError(f"`--store`: grpc_port is {grpc_port}; use another port than {http_port}, up to 65535")
    key = read_key(os.environ, "WEAVIATE_API_KEY")
    credentials = None if key is None else Auth.api_key(key)
    timeouts = Timeout() if timeout_s is None else Timeout(query=timeout_s, insert=timeout_s, init=timeout_s)
    additional = AdditionalConfig(grpc_config=GrpcConfig(channel_options=_RECONNECT_SOON), timeout=timeouts)
    # Skip the client's checks at the start: one of them asks the package index for a newer client.
    if credentials is not None and host.endswith(_WEAVIATE_CLOUD):

        def connect(_: object) -> "WeaviateClient":
            return weaviate.connect_to_weaviate_cloud(
                host, auth_credentials=credentials, additional_config=additional, skip_init_checks=True
            )

    else:

        def connect(_: object) -> "WeaviateClient":
            return weaviate.connect_to_custom(
                http_host=host,
                http_port=http_port,
                http_secure=secure,
                grpc_host=host,
                grpc_port=grpc_port,
                grpc_secure=secure,
                auth_credentials=credentials,
                additional_config=additional,
                skip_init_checks=True,
            )

    return run(_one(connect), None, translate=translate, attempts=1)


def _pinecone(parts: SplitResult, stack: ExitStack, timeout_s: float | None) -> Place:
    from jclip_connectors.pinecone import DEFAULT_NAMESPACE, PineconeStore, stored_fingerprint  # first, as for Qdrant
    from jclip_connectors.pinecone.errors import translate

    # isort: split
    from pinecone import Pinecone, RetryConfig

    index, namespace = str(parts.hostname), parts.path.strip("/") or DEFAULT_NAMESPACE
    _options(parts, {})
    if parts.port is not None:
        raise EmbedInputError(
            "`--store`: a Pinecone index has no port; write pinecone://INDEX or pinecone://INDEX/NAMESPACE"
        )
    key = read_key(os.environ, "PINECONE_API_KEY")
    given: dict[str, Any] = (
        {} if key == os.environ.get("PINECONE_API_KEY") else {"api_key": key}
    )  # else the SDK reads the variable
    if timeout_s is not None:
        given["timeout"] = timeout_s
    # The SDK tries again within a second where the service asks to wait: the store waits instead.
    given["retry_config"] = RetryConfig(retryable_status_codes=RetryConfig().retryable_status_codes - {429})
    client = run(_one(lambda _: Pinecone(**given)), None, translate=translate, attempts=1)
    stack.callback(client.close)

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = _DEFAULTS
    ) -> VectorStore:
        store = PineconeStore.open(client, index, config, namespace=namespace, dimensions=dimensions, **search)
        stack.callback(store.close)
        return store

    return Place(
        name=_name(parts),
        fingerprint=lambda: stored_fingerprint(client, index, namespace=namespace),
        open=open_store,
    )


def _postgresql(parts: SplitResult, stack: ExitStack, timeout_s: float | None) -> Place:
    from jclip_connectors.pgvector import PgVectorStore, stored_fingerprint  # first, as for Qdrant
    from jclip_connectors.pgvector.errors import translate
    from jclip_connectors.pgvector.reconnecting import Reconnecting

    # isort: split
    import psycopg

    database, slash, collection = (unquote(part) for part in parts.path.strip("/").partition("/"))
    if not database or not slash or not collection or "/" in collection:
        raise EmbedInputError(
            f"`--store` names no database and collection; write {parts.scheme}://{parts.netloc}/DATABASE/COLLECTION"
        )
    _options(parts, {})

    timeouts: dict[str, Any] = {}
    if timeout_s is not None:
        # `options` takes the place of PGOPTIONS, so what the variable says is repeated first.
        options = f"{os.environ.get('PGOPTIONS', '')} -c statement_timeout={math.ceil(timeout_s * 1000)}ms"
        timeouts = {"connect_timeout": math.ceil(timeout_s), "options": options.strip()}

    def connect() -> psycopg.Connection:
        # Not as a URL, because psycopg's errors would repeat it.
        return psycopg.connect(
            host=parts.hostname, port=parts.port or 5432, dbname=database, autocommit=True, **timeouts
        )

    connection = run(_one(lambda _: Reconnecting(connect)), None, translate=translate, attempts=1)
    stack.callback(connection.close)

    def open_store(
        config: EmbeddingConfig, dimensions: int | None, /, search: Mapping[str, Any] = _DEFAULTS
    ) -> VectorStore:
        return PgVectorStore.open(connection, collection, config, dimensions=dimensions, **search)

    return Place(
        name=_name(parts),
        fingerprint=lambda: stored_fingerprint(connection, collection),
        open=open_store,
        search_options=("candidates",),
        client=connection,
        collection=collection,
    )


_SCHEMES: Mapping[str, _Connect] = MappingProxyType(
    {
        "qdrant": _qdrant,
        "qdrants": _qdrant,
        "weaviate": _weaviate,
        "weaviates": _weaviate,
        "pinecone": _pinecone,
        "postgresql": _postgresql,
        "postgres": _postgresql,
    }
)


def _one(call: Callable[[Any], _Client]) -> Flow[_Client]:
    client: _Client = yield call
    return client


def _collection(parts: SplitResult) -> str:
    name = unquote(parts.path.strip("/"))
    if not name or "/" in name:
        raise EmbedInputError(f"`--store` names no collection; write {parts.scheme}://{parts.netloc}/COLLECTION")
    return name


def _options(parts: SplitResult, defaults: Mapping[str, int]) -> dict[str, int]:
    """The numbers after the question mark; errors do not repeat other content, which may be secret."""
    options = dict(defaults)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == _TIMEOUT:
            continue
        if name not in defaults or not value.isdecimal():
            allowed = ", ".join([f"{_TIMEOUT}=SECONDS", *(f"{key}=N" for key in defaults)])
            raise EmbedInputError(
                f"`--store` has an unknown option or a bad value ({allowed}); give keys as environment variables"
            )
        options[name] = int(value)
    return options


def _timeout_s(parts: SplitResult, option: str | None) -> float | None:
    """The timeout in the URL or in the option, in seconds; errors do not repeat a text of the URL."""
    texts = [value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name == _TIMEOUT]
    given = [_seconds(text, f"`{_TIMEOUT}` in `--store` has a bad value") for text in texts]
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


def _name(parts: SplitResult) -> str:
    return repr(f"{parts.scheme}://{parts.netloc}{parts.path}")
