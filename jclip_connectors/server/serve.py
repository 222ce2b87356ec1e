"""`serve`: load a model, and run the web application until the process is told to stop."""

import gc
import logging.config
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jclip_connectors.errors import MissingDependencyError

try:
    import resource
except ModuleNotFoundError:  # not on Windows
    resource = None  # type: ignore[assignment]

import httptools as _  # noqa: F401 (for `protocol`, which is imported below)
import uvicorn
from starlette.applications import Starlette

from core_encoder.errors import ConfigError
from core_encoder.models import RuntimeChoice, is_hub_id
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.api_keys import ApiKeys
from jclip_connectors.server.app import create_app
from jclip_connectors.server.cors import Origins
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.page_app import create_page_app
from jclip_connectors.server.protocol import IDLE_TIMEOUT_S, LimitedProtocol
from jclip_connectors.server.service import LoadedModel
from jclip_connectors.server.stopping import StoppingServer
from jclip_connectors.server.ui.access import LOOPBACK
from jclip_connectors.server.ui.gallery import Shown

_LOG = logging.getLogger("jclip_connectors.server")
# On a CPU, a larger batch is no faster per token and makes the next request wait; a smaller one is slower per token.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
_FILES = 65_536  # that may be open, which limits the connections
_FILES_OF_MACOS = 10_240  # the most, although macOS may report no limit
_BACKLOG = 2048  # connections that wait to be accepted
_OBJECTS_BETWEEN_COLLECTIONS = 200_000  # more than a full queue allocates
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "jclip_connectors": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}


def serve(
    config: EmbeddingConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    api_keys: Sequence[str] = (),
    limits: ServerLimits | None = None,
    device: str | None = None,
    runtime: RuntimeChoice = "auto",
    names: Sequence[str] = (),
    local_files_only: bool = False,
    image_urls: bool = False,
    allowed_hosts: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    predict_route: str = "/predict",
    health_route: str = "/health",
    collection: Shown | None = None,
) -> None:
    """Load a model and serve it until the process is told to stop; accepted requests are finished first.

    Args:
        config: the model, and the defaults for options that a request leaves out.
        host: address to listen on.
        port: to listen on.
        api_keys: a client must send one of these; empty leaves the server open.
        limits: on requests; `ServerLimits()` if `None`.
        device: "cpu", "cuda", ...; `None` is CUDA if there is a GPU.
        runtime: "onnx" or "torch"; "auto" is torch on CUDA, and ONNX Runtime on a CPU where it is installed.
        names: further names of the model for clients; the first is the listed one.
        local_files_only: use the local cache of models and never the network.
        image_urls: whether a request may give an image as a URL; the server fetches only from public addresses.
        allowed_hosts: hosts that images may be fetched from; empty allows every public host.
        cors_origins: origins of pages that may read the answers in a browser, such as "https://app.example.com"; "*"
            allows every page, and empty allows none.
        predict_route: the path of Vertex AI's dialect.
        health_route: a second path for `/health`, for hosting platforms that need their own.
        collection: shown on the search page, `/ui`; its configuration must be `config`.

    Raises:
        MissingDependencyError: a package of the extra "onnx" (or "local", for torch) is not installed.
        ConfigError: the model does not have an option of `config`; a key, a host or an origin is malformed; or the
            search page would be open to other machines without a key.
        CheckpointError: the weights are absent or damaged.
    """
    if collection is not None and not api_keys and host not in LOOPBACK:
        raise ConfigError(
            f"the search page would be open to everyone who reaches {host}: set an API key, or listen on 127.0.0.1"
        )
    logging.config.dictConfig(_LOGGING)
    if config.tiling is not None and collection is None:
        _LOG.warning("`tiling` (JCLIP_TILES) has no effect on a server: clients cut tiles, and send each as an image")
    ApiKeys(api_keys)  # these are checked before gigabytes are read
    Origins(cors_origins)
    model = load_served_model(config, device=device, runtime=runtime, names=names, local_files_only=local_files_only)
    app = create_app(
        model,
        config,
        api_keys=api_keys,
        limits=limits,
        image_urls=image_urls,
        allowed_hosts=allowed_hosts,
        cors_origins=cors_origins,
        predict_route=predict_route,
        health_route=health_route,
        collection=collection,
    )
    run(app, host=host, port=port)


def run(app: Starlette, *, host: str, port: int) -> None:
    """Answer requests until the process is told to stop; accepted requests are finished first."""
    _spare_the_collector()
    _raise_file_limit()
    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        # uvloop accepts one new connection per iteration of its loop, and under load an iteration takes long.
        loop="asyncio",
        http=LimitedProtocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=IDLE_TIMEOUT_S,
        log_config=None,
    )
    with _ends_in_order():
        StoppingServer(settings).serve_until_told()


def serve_page(
    collection: Shown,
    *,
    listening: socket.socket,
    device: str | None = None,
    runtime: RuntimeChoice = "auto",
    limits: ServerLimits,
) -> None:
    """Show a collection's search page until the process is told to stop; the model is loaded meanwhile.

    Args:
        collection: what is shown.
        listening: the socket to answer on, which listens already.
        device: as for `serve`, like `runtime`.
        runtime: what runs the model.
        limits: on requests.
    """
    app = create_page_app(
        collection, lambda: load_served_model(collection.config, device=device, runtime=runtime), limits=limits
    )
    settings = uvicorn.Config(
        app,
        loop="asyncio",
        http=LimitedProtocol,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
    )
    with _ends_in_order():
        StoppingServer(settings).serve_until_told([listening])


@contextmanager
def _ends_in_order() -> Iterator[None]:
    """Let a signal end the program as an error does, so that what it has opened is closed.

    uvicorn finishes the accepted requests at SIGTERM and SIGINT, and then raises the signal again. A closed terminal
    (SIGHUP) is the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_arguments: object) -> None:
        raise SystemExit(0)

    def end_as_by_sigterm(*_arguments: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    former = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        former[signal.SIGHUP] = signal.signal(signal.SIGHUP, end_as_by_sigterm)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _spare_the_collector() -> None:
    """Collect garbage rarely, and skip the objects that are already loaded: a full run stops the server for 0.1 s.

    A request leaves no reference cycles behind, a connection leaves ten objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 10, 10)


def _raise_file_limit() -> None:
    """Allow many connections, as far as the system permits: many shells start with 1024, macOS with 256."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = resource.RLIM_INFINITY
        wanted = _FILES_OF_MACOS if hard == unlimited else min(hard, _FILES)
        if soft != unlimited and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def load_served_model(
    config: EmbeddingConfig,
    *,
    device: str | None = None,
    runtime: RuntimeChoice = "auto",
    names: Sequence[str] = (),
    local_files_only: bool = False,
) -> LoadedModel:
    """Load the model of `config`; arguments as for `serve`."""
    try:
        from core_encoder.encoder import JinaClipEncoder  # here: it needs packages of an extra

        encoder = JinaClipEncoder.load(
            config.model,
            revision=config.revision,
            device=device,
            precision=config.precision,
            runtime=runtime,
            local_files_only=local_files_only,
        )
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), extra="local" if error.name == "torch" else "onnx") from error
    encoder.encode_text([], max_tokens=config.max_tokens)  # a bad option fails now, not at the first request
    name = Path(config.model).name
    hub_id = config.model if is_hub_id(config.model) and not Path(config.model).is_dir() else ""
    return LoadedModel(
        encoder=encoder,
        preprocessing=encoder.preprocessing,
        names=tuple(dict.fromkeys([*names, name, *([hub_id] if hub_id else [])])),
        batch_tokens=BATCH_TOKENS.get(encoder.device.split(":")[0], BATCH_TOKENS["cpu"]),
        hub_id=hub_id,
    )
