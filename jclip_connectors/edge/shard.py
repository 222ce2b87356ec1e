"""The files of a local collection: creating, locking and indexing them, and translating the engine's errors.

    photos.jclip/
        collection.json        the fingerprint of the vectors: the engine stores no metadata of a collection
        shard/                 the engine's files; see `locks`
        shard.<32 hex>/        a shard that is being made

The engine raises bare `Exception`: a table translates its messages.
"""

import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import qdrant_edge as qdrant

from jclip_connectors.edge.locks import shard_lock
from jclip_connectors.edge.sidecar import SIDECAR_NAME, Sidecar
from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError

DAMAGED = "its files are damaged: restore them, or delete the folder and add again"

_MADE = re.compile(r"shard\.[0-9a-f]{32}")  # a name that `open_shard` makes; every other name is somebody else's
_ROOM_BYTES = 4 * 2**20  # what the engine's own files may need besides what is written
_ABANDONED_S = 3600  # a shard that is still unfinished after this time was abandoned
_HNSW_EDGES = 16  # per record; the engine's own default, like the next value
_HNSW_BUILD_CANDIDATES = 100
_FULL_SCAN_KIB = 10_000  # below this size of filtered vectors, all are compared; the engine's default
_INDEX_FROM_KIB = 1  # an explicit request always makes an index, however small the collection

# A pattern in the engine's message -> our error and advice; the first match is used.
_ERRORS: tuple[tuple[str, type[ConnectorError], str], ...] = (
    ("WouldBlock", StoreUnavailableError, "it is open elsewhere, in this process or another: close it there first"),
    (
        "already contains segment|os error 17",
        StoreUnavailableError,
        "another process is making it: open it again in a few seconds",
    ),
    ("(os error|Errno) 28", StoreUnavailableError, "the disk is full: make room and try again"),
    (
        "(os error|Errno) (13|30)",
        StoreRequestError,
        "it cannot be written: check the permissions of the folder and the disk",
    ),
    ("Shard is not initialized", StoreRequestError, "the store is closed: open it again"),
    ("deserialize|load", StoreRequestError, DAMAGED),
)


@contextmanager
def engine_errors(folder: Path) -> Iterator[None]:
    """Translate the engine's errors about the collection in `folder`.

    Raises:
        StoreUnavailableError: a retry may help.
        StoreRequestError: a retry will not help.
    """
    try:
        yield
    except ConnectorError:
        raise
    except Exception as error:
        for pattern, kind, advice in _ERRORS:
            if re.search(pattern, str(error)):
                raise kind(f"{str(folder)!r}: {advice} ({error})") from error
        raise StoreRequestError(f"{str(folder)!r}: the engine refuses the request: {error}") from error


def check_folder(folder: Path) -> None:
    """Refuse a path that is neither a collection nor an empty or new folder.

    Raises:
        StoreRequestError: `folder` is a file, or a folder with other files in it.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreRequestError(f"{str(folder)!r} is a file: name a folder")
    if folder.is_dir():
        entries = list(folder.iterdir())
        if entries and not any(map(_is_ours, entries)):
            raise StoreRequestError(f"{str(folder)!r} is a folder with other files in it: name an empty or new one")


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to write to a disk that is nearly full: on a full one, the engine kills the process.

    Args:
        folder: an existing folder on the disk.
        needed_bytes: what is about to be written.

    Raises:
        StoreUnavailableError: there is not enough room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + _ROOM_BYTES:
        raise StoreUnavailableError(
            f"{str(folder)!r}: the disk is full: {free} bytes are free, and the engine needs "
            f"{needed_bytes + _ROOM_BYTES}: make room and try again"
        )


def open_shard(folder: Path) -> qdrant.EdgeShard:
    """Load the shard in `folder`, or make one; call it inside `engine_errors` and `folder_lock`."""
    path = folder / "shard"
    check_room(folder, 0)
    if not path.exists():
        # Made under a temporary name and then renamed: a process that is killed leaves no incomplete shard.
        made = folder / f"shard.{uuid.uuid4().hex}"
        # The engine needs at least one kind of vector; the real vectors are added when their length is known.
        placeholder = {"none": qdrant.EdgeSparseVectorParams()}
        qdrant.EdgeShard.create(str(made), qdrant.EdgeConfig(sparse_vectors=placeholder)).close()
        try:
            made.rename(path)
        except OSError:
            if not path.exists():
                raise
            shutil.rmtree(made)  # another process was faster: use its shard
    with shard_lock(folder):
        shard = qdrant.EdgeShard.load(str(path))
    for entry in folder.iterdir():
        if _is_made(entry) and time.time() - entry.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(entry, ignore_errors=True)
    return shard


def load_copy(path: Path) -> qdrant.EdgeShard:
    """Load a copy of a shard, which no other process has."""
    return qdrant.EdgeShard.load(str(path))


def create_vectors(shard: qdrant.EdgeShard, sidecar: Sidecar) -> None:
    """Make the named vectors of a collection; existing ones are not changed."""
    for name, (size, multivector) in _vectors(sidecar).items():
        # With this distance the engine scales every vector to unit length, prefixes too.
        cosine = qdrant.Distance.Cosine
        shard.update(qdrant.UpdateOperation.create_dense_vector(name, size, cosine, multivector))


def open_for_indexing(folder: Path, sidecar: Sidecar) -> qdrant.EdgeShard:
    """Lock and load a shard whose `optimize` makes an HNSW graph only of the vectors that are searched first."""
    first = "full" if sidecar.coarse_dimensions is None else "coarse"
    vectors = {
        name: qdrant.EdgeVectorParams(
            size,
            qdrant.Distance.Cosine,
            multivector_config=multivector,
            hnsw_config=qdrant.HnswIndexConfig(
                _HNSW_EDGES if name == first else 0, _HNSW_BUILD_CANDIDATES, _FULL_SCAN_KIB
            ),
        )
        for name, (size, multivector) in _vectors(sidecar).items()
    }
    optimizers = qdrant.EdgeOptimizersConfig(indexing_threshold=_INDEX_FROM_KIB)
    return qdrant.EdgeShard.load(str(folder / "shard"), qdrant.EdgeConfig(vectors=vectors, optimizers=optimizers))


def _is_made(entry: Path) -> bool:
    """Whether `open_shard` has made this folder, under its temporary name."""
    return _MADE.fullmatch(entry.name) is not None and entry.is_dir() and not entry.is_symlink()


def _is_ours(entry: Path) -> bool:
    if entry.name == SIDECAR_NAME:
        return entry.is_file()
    return (entry.name == "shard" and entry.is_dir()) or _is_made(entry)


def _vectors(sidecar: Sidecar) -> dict[str, tuple[int, qdrant.MultiVectorConfig | None]]:
    """Name, length and kind of each vector of a record; empty until the length is known."""
    vectors: dict[str, tuple[int, qdrant.MultiVectorConfig | None]] = {}
    if sidecar.dimensions is None:
        return vectors
    vectors["full"] = (sidecar.dimensions, None)
    if sidecar.coarse_dimensions is not None:
        vectors["coarse"] = (sidecar.coarse_dimensions, None)
    if sidecar.fingerprint.get("tiling") is not None:
        vectors["tiles"] = (sidecar.dimensions, qdrant.MultiVectorConfig(qdrant.MultiVectorComparator.MaxSim))
    return vectors
