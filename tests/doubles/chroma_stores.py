"""Collections of Chroma's real engine: in a folder, or in the server at CHROMA_URL, or in a `chroma run` of its own."""

import atexit
import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import VectorStore
from jclip_connectors.testing.store_contract import E
from tests.every_store.live_stores import OpenStore
from tests.late import late

chromadb: Any = late("chromadb")
chroma: Any = late("jclip_connectors.chroma")
_PATIENCE_S = 60.0
_PR_SET_PDEATHSIG = 1


def settings():
    """A new one for each client: an HTTP client writes its address into it."""
    return late("chromadb.config")().Settings(anonymized_telemetry=False)


def folder_client(path):
    return chromadb().PersistentClient(str(path), settings=settings())


@contextmanager
def http_client(port, host="127.0.0.1", headers=None):
    """chromadb's own, but that its connections are closed."""
    client = chromadb().HttpClient(host=host, port=port, settings=settings(), headers=headers)
    try:
        yield client
    finally:
        sessions = [each._server._session for each in (client, client._admin_client)]
        client.close()
        for session in sessions:
            session.close()


def _end_with_parent() -> None:
    """For a server: end even where the process that has started it is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ChromaServer:
    """A `chroma run` over a folder: `start`, `stop`, `kill`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self):
        program = Path(sys.executable).with_name("chroma")
        command = [str(program), "run", "--host", "127.0.0.1", "--port", str(self.port), "--path", str(self.folder)]
        with (self.folder.with_suffix(".log")).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (chromadb's own program)
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{self.port}/api/v2/heartbeat", timeout=5).raise_for_status()
                return
            assert self._process.poll() is None, self.folder.with_suffix(".log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self):
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


@contextmanager
def _over(client) -> Iterator[OpenStore]:
    opened: dict[EmbeddingConfig, Any] = {}
    prefix = f"jclip-test-{uuid.uuid4().hex}"
    with ExitStack() as stack:

        def open_store(config: EmbeddingConfig) -> VectorStore:
            if config not in opened:
                name = f"{prefix}-{len(opened)}"
                dimensions = E if config.embedding_dim is None else None
                opened[config] = chroma().ChromaStore.open(client, name, config, dimensions=dimensions)
                for each in (name, *((f"{name}.tiles",) if config.tiling else ())):
                    stack.callback(client.delete_collection, each)
            opened[config].delete(where={})
            store: VectorStore = opened[config]
            return store

        yield open_store


@contextmanager
def stores() -> Iterator[OpenStore]:
    """In a folder."""
    with TemporaryDirectory() as folder, folder_client(folder) as client, _over(client) as open_store:
        yield open_store


@functools.cache
def shared_server() -> int:
    """The port of the server of this process, which ends with it."""
    folder = TemporaryDirectory()
    (Path(folder.name) / "data").mkdir()
    server = ChromaServer(Path(folder.name) / "data")
    server.start()
    atexit.register(folder.cleanup)
    atexit.register(server.stop)  # first
    return server.port


@contextmanager
def server_stores() -> Iterator[OpenStore]:
    """In the server at CHROMA_URL, or in one of this process."""
    parts = urlsplit(os.environ.get("CHROMA_URL") or f"http://127.0.0.1:{shared_server()}")
    with http_client(parts.port or 8000, str(parts.hostname)) as client, _over(client) as open_store:
        yield open_store
