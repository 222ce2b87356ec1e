"""Make the search index of a local collection in a separate process: the engine's call holds the GIL for seconds.

`optimize_collection` starts `python -m jclip_connectors.edge.optimize PATH`, which locks the collection while it works.
The engine replaces the index only when the new one is complete: killing the process leaves the collection unchanged.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.edge.locks import folder_lock, shard_lock
from jclip_connectors.edge.shard import (
    check_folder,
    check_room,
    create_vectors,
    engine_errors,
    open_for_indexing,
    open_shard,
)
from jclip_connectors.edge.sidecar import read_sidecar
from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError

_ERRORS = {kind.__name__: kind for kind in (StoreRequestError, StoreUnavailableError)}


@dataclass(frozen=True, kw_only=True)
class OptimizeReport:
    """The result of `optimize_collection`.

    Attributes:
        records: the number of records in the collection.
        changed: whether the index was changed.
    """

    records: int
    changed: bool


def optimize_collection(path: str | Path) -> OptimizeReport:
    """Make or update the index of the collection in the folder `path`, which must not be open elsewhere.

    Without the index, a search compares every vector. With it, an HNSW graph finds the vectors that are searched first:
    the short prefixes, or the full vectors of a collection without prefixes. Records added later are compared one by
    one until the next call.

    Raises:
        StoreUnavailableError: the collection is open elsewhere, or the process was killed.
        StoreRequestError: there is no collection, or it is damaged.
    """
    arguments = [sys.executable, "-m", "jclip_connectors.edge.optimize", str(Path(path).absolute())]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 (this very file)
    if done.returncode < 0:
        raise StoreUnavailableError(
            f"{str(path)!r}: the process that optimised it was killed by signal {-done.returncode}; the collection is "
            "unchanged: try again"
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise StoreRequestError(f"{str(path)!r}: the process that optimised it failed: {done.stderr[-500:]}") from error
    if "error" in answer:
        raise _ERRORS.get(answer["error"], StoreRequestError)(answer["message"])
    return OptimizeReport(**answer)


def _optimize(folder: Path) -> OptimizeReport:
    check_folder(folder)
    sidecar = read_sidecar(folder)
    if sidecar is None:
        raise StoreRequestError(f"{str(folder)!r} is not a collection: nothing to optimise")
    with engine_errors(folder), folder_lock(folder):
        check_room(folder, _used_bytes(folder / "shard"))  # the new files are made beside the old ones
        shard = open_shard(folder)
        with shard_lock(folder):
            # A process that was killed while it made the collection may have left it without its named vectors.
            create_vectors(shard, sidecar)
            records = shard.info().points_count
            shard.close()
            if not records:
                return OptimizeReport(records=0, changed=False)
            shard = open_for_indexing(folder, sidecar)
            changed = shard.optimize()
            shard.close()
    return OptimizeReport(records=records, changed=changed)


def _used_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk: they are sparse."""
    return sum(
        path.stat().st_size if sys.platform == "win32" else path.stat().st_blocks * 512
        for path in folder.rglob("*")
        if path.is_file()
    )


def _main(arguments: list[str]) -> int:
    try:
        report = _optimize(Path(arguments[0]))
    except ConnectorError as error:
        sys.stdout.write(json.dumps({"error": type(error).__name__, "message": str(error)}))
        return 1
    sys.stdout.write(json.dumps({"records": report.records, "changed": report.changed}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
