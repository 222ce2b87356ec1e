"""The two places of `jclip copy`: a collection by its URL or its folder, or a folder of files of vectors.

`parquet:PATH` is a folder of files of vectors, also at a URL of fsspec's (`parquet:s3://bucket/vectors`). A plain path
is one if it has the sidecar of one, else a collection in a folder.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jclip_connectors.bulk.carried import CarriedConfig, carried_config
from jclip_connectors.bulk.copying import RecordSource, RecordTarget
from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import EmbedInputError, MissingDependencyError, StoreRequestError
from jclip_connectors.store_kit.places import Place
from jclip_connectors.store_urls import collection_identity, connected, edge_url, is_store_url

if TYPE_CHECKING:
    from jclip_connectors.bulk.vector_files import VectorFolder

_FILES = "parquet:"
_SIDECAR = "_jclip.json"  # as in `vector_files`, which is not loaded to look for it


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where records are read from.

    Attributes:
        name: for messages; without credentials.
        records: the records.
    """

    name: str
    records: RecordSource


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where records are written to.

    Attributes:
        name: for messages; without credentials.
        fingerprint: reads the fingerprint of what is there; `None` if there is nothing yet.
        open: opens or makes it for vectors of a configuration, and of the given length where that is known.
    """

    name: str
    fingerprint: Callable[[], Fingerprint | None]
    open: Callable[[CarriedConfig, int | None], RecordTarget]


@contextmanager
def opened_source(text: str, argument: str) -> Iterator[Source]:
    """Open what records are read from; a collection in a folder is read without locking it.

    Args:
        text: the place.
        argument: what errors call it.

    Raises:
        StoreRequestError: there is no collection.
        EmbedInputError: a bad URL.
    """
    if (files := _files(text)) is not None:
        from jclip_connectors.bulk.file_records import FileRecords

        yield Source(name=files.name, records=FileRecords.open(files))
        return
    with connected_place(text, argument, read_only=True) as place:
        fingerprint = place.fingerprint()
        if fingerprint is None:
            raise StoreRequestError(f"there is no collection in {place.name}")
        yield Source(name=place.name, records=place.open(carried_config(fingerprint), None))


@contextmanager
def connected_target(text: str, argument: str) -> Iterator[Target]:
    """Connect to what records are written to.

    Args:
        text: the place.
        argument: what errors call it.

    Raises:
        EmbedInputError: a bad URL.
    """
    if (files := _files(text)) is not None:
        with ExitStack() as stack:
            yield Target(name=files.name, fingerprint=lambda: _files_fingerprint(files), open=_open_files(files, stack))
        return
    with connected_place(text, argument, read_only=False) as place:
        yield Target(name=place.name, fingerprint=place.fingerprint, open=place.open)


def _files_fingerprint(files: "VectorFolder") -> Fingerprint | None:
    sidecar = files.read_sidecar()
    return None if sidecar is None else sidecar.fingerprint


def _open_files(files: "VectorFolder", stack: ExitStack) -> Callable[[CarriedConfig, int | None], RecordTarget]:
    """Opens a folder of files of vectors; what waits for a file is written when `stack` is closed."""
    from jclip_connectors.bulk.file_records import FileRecords

    def open_files(config: CarriedConfig, length: int | None) -> RecordTarget:
        if length is None:
            raise EmbedInputError("there is no record to copy, and the fingerprint does not say how long vectors are")
        return stack.enter_context(closing(FileRecords.make(files, config, length=length)))

    return open_files


def _files(text: str) -> "VectorFolder | None":
    """The folder of files of vectors that `text` names, if it names one.

    Raises:
        MissingDependencyError: the packages for files of vectors are not installed.
        EmbedInputError: no such file system is known.
    """
    path = text.removeprefix(_FILES)
    if path == text and ("://" in text or not text or not Path(_expanded(text), _SIDECAR).is_file()):
        return None
    if not path:
        raise EmbedInputError("`parquet:` names no folder; write parquet:PATH")
    try:
        from jclip_connectors.bulk.vector_files import VectorFolder
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pyarrow", extra="bulk") from error
    return VectorFolder(path)


def _expanded(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 (Path.expanduser fails for a user that does not exist)


def parquet_url(folder: str) -> str:
    """FROM or TO for a folder of files of vectors."""
    return folder if folder.startswith(_FILES) else f"{_FILES}{folder}"


def check_different(source: str, target: str, names: tuple[str, str]) -> None:
    """Refuse to copy a collection into itself.

    Raises:
        EmbedInputError: both texts name one collection.
    """
    if _identity(source) == _identity(target):
        raise EmbedInputError(f"{' and '.join(names)} are the same, {target!r}: name another place to copy to")


def connected_place(text: str, argument: str, *, read_only: bool) -> AbstractContextManager[Place]:
    """Connect to the database of a collection, or name its folder; errors about the text call it `argument`."""
    return connected(place_url(text), read_only=read_only, argument=argument)


def place_url(text: str) -> str:
    """The URL of a collection that is named by a folder or by a URL."""
    if is_store_url(text):
        return text
    return edge_url(Path(text)) if text else "edge:"


def _identity(text: str) -> str:
    if text.startswith(_FILES) and "://" not in text:
        return os.path.realpath(_expanded(text.removeprefix(_FILES)))
    url = place_url(text)
    return (
        os.path.realpath(_expanded(url.removeprefix("edge:"))) if url.startswith("edge:") else collection_identity(url)
    )
