"""The server of a Milvus Lite database: one for each path of this process, which holds a lock on the folder.

`close` of a client leaves the server running and the folder locked until the process ends. So the stores of a path are
counted, and the last one that is closed stops the server, unless something else in this process had started it. A
process that is forked has no server: its copies of the stores use that of the parent, and stop nothing.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from jclip_connectors.errors import EmbedInputError, MissingDependencyError, StoreRequestError, StoreUnavailableError
from jclip_connectors.milvus.client_log import starting_quietly

_LOCK = threading.RLock()
_HELD: dict[str, int] = {}  # how many stores use a path whose server we have started
_ALONE: dict[str, threading.RLock] = {}
_OF_PARENT: list[Any] = []  # servers, which a forked process neither stops nor destroys


def lite_path(client: object, *, example: str) -> Path | None:
    """The full path of the Milvus Lite database that is given in the place of a client; `None` for a client.

    Args:
        client: what the caller gave; no message shows a text that is no such path, as it may be a key.
        example: how to make a client.

    Raises:
        EmbedInputError: a text or path that does not end in ".db", a file, or there is no folder for it.
    """
    if not isinstance(client, str | os.PathLike):
        return None
    text = os.fspath(client)
    if not isinstance(text, str) or not text.rstrip("/").endswith(".db") or "://" in text:
        found = "a string" if isinstance(client, str) else "a path"
        raise EmbedInputError(
            f"`client` is {found}, but not of a Milvus Lite database, which ends in '.db': pass `{example}`, "
            "or such a path"
        )
    full = Path(os.path.realpath(text))  # one server for all names of a folder
    if not full.parent.is_dir():
        raise EmbedInputError(f"`client` is the path {text!r}, and there is no folder {str(full.parent)!r}: make it")
    if full.exists() and not full.is_dir():
        raise EmbedInputError(f"`client` is the path {text!r}, which is a file: a Milvus Lite database is a folder")
    return full


class Lease:
    """A use of the server of a path, which ends with `release`.

    Attributes:
        uri: the address of the server.
        alone: to be held during a call, and while a collection is opened or made: of two threads that do so at once,
            Milvus Lite may give each an engine of its own for the same files.
    """

    uri: str

    def __init__(self, path: Path) -> None:
        """Name the path."""
        self._path = str(path)
        self._counted = False
        self._ended = False
        self._process = os.getpid()
        with _LOCK:
            self.alone = _ALONE.setdefault(self._path, threading.RLock())

    def start(self) -> None:
        """Start the server, or use the one that runs.

        Raises:
            StoreUnavailableError: another process has the database open.
            StoreRequestError: the database cannot be opened.
            MissingDependencyError: Milvus Lite is not installed.
        """
        manager = _manager()
        with _LOCK:
            if self._ended:  # by a task that was cancelled
                raise StoreRequestError("the store is closed: open it again")
            ours = self._path in _HELD or self._path not in manager._servers
            self.uri = _started(self._path, manager)
            if ours:
                self._counted = True
                _HELD[self._path] = _HELD.get(self._path, 0) + 1

    def release(self) -> None:
        """End this use; a second call does nothing, nor does one in a forked process, whose parent has the server."""
        if self._process != os.getpid():
            return
        with _LOCK:
            self._ended = True
            if not self._counted:
                return
            self._counted = False
            _HELD[self._path] -= 1
            if not _HELD[self._path]:
                del _HELD[self._path]
                _manager().release_server(self._path)


def _after_fork() -> None:
    """Forget, in the new process, the servers that are the parent's: Milvus Lite would stop them at its end."""
    global _LOCK
    _LOCK = threading.RLock()
    _HELD.clear()
    _ALONE.clear()
    module = sys.modules.get("milvus_lite.server_manager")
    if module is not None:
        manager = module.server_manager_instance
        manager._lock = threading.Lock()
        _OF_PARENT.append(manager._servers)
        manager._servers = {}


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)


def _manager() -> Any:  # noqa: ANN401 (Milvus Lite has no types)
    try:
        from milvus_lite.server_manager import server_manager_instance
    except ModuleNotFoundError as error:
        raise MissingDependencyError("milvus-lite", extra="milvus-lite") from error
    return server_manager_instance


def _started(path: str, manager: Any) -> str:  # noqa: ANN401 (Milvus Lite has no types)
    with starting_quietly():
        uri: str | None = manager.start_and_get_uri(path)
        if uri is None:
            _raise_reason(path)  # the manager has only logged it
            uri = manager.start_and_get_uri(path)
    if uri is None:
        raise StoreUnavailableError(f"Milvus Lite cannot open {path!r}: another process opens it as well; try again")
    return uri


def _raise_reason(path: str) -> None:
    """Open the database as the server does, which raises what hinders it."""
    from milvus_lite.db import MilvusLite
    from milvus_lite.exceptions import DataDirLockedError, ManifestCorruptedError, WALCorruptedError

    try:
        MilvusLite(path).close()
    except DataDirLockedError as error:
        raise StoreUnavailableError(
            f"the Milvus Lite database {path!r} is open in another process, and only one can have it open: close it "
            "there, or use a Milvus server"
        ) from error
    except (ManifestCorruptedError, WALCorruptedError) as error:
        raise StoreRequestError(f"the Milvus Lite database {path!r} is damaged: {error}") from error
    except OSError as error:
        raise StoreRequestError(f"Milvus Lite cannot open {path!r}: {error.strerror}") from error
