"""Make a local collection's search index, in a process of its own: the engine's call holds the GIL for seconds.

`optimize_collection` starts `python -m jclip_connectors.edge.optimize PATH`, which owns the collection while it works.
The engine puts the index in place when it is whole: killing the process leaves the collection as it was.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.edge.shard import check_folder, create_vectors, engine_errors, open_for_indexing, open_shard
from jclip_connectors.edge.sidecar import read_sidecar
from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError

_ERRORS = {kind.__name__: kind for kind in (StoreRequestError, StoreUnavailableError)}


@dataclass(frozen=True, kw_only=True)
class OptimizeReport:
    """What `optimize_collection` has done.

    Attributes:
        records: how many the collection has.
        changed: whether there was anything to do.
    """

    records: int
    changed: bool


def optimize_collection(path: str | Path) -> OptimizeReport:
    """Make or renew the index of the collection in the folder `path`; nobody can have it open meanwhile.

    Until then a search compares every vector. Afterwards a graph leads it to those that are searched first: the short
    prefixes, or the whole vectors of a collection without. What is added later is compared one by one until the next
    call.

    Raises:
        StoreUnavailableError: the collection is open elsewhere, or the process was killed.
        StoreRequestError: there is no collection, or it is damaged.
    """
    arguments = [sys.executable, "-m", "jclip_connectors.edge.optimize", str(Path(path).absolute())]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 (this very file)
    if done.returncode < 0:
        raise StoreUnavailableError(
            f"{str(path)!r}: the process that optimised it was killed by signal {-done.returncode}; the collection is "
            "as it was: try again"
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
        raise StoreRequestError(f"{str(folder)!r} is no collection: there is nothing to optimise")
    with engine_errors(folder):
        shard = open_shard(folder)
        # A process that was killed while it made the collection may have left one without its vectors.
        create_vectors(shard, sidecar)
        records = shard.info().points_count
        shard.close()
        if not records:
            return OptimizeReport(records=0, changed=False)
        shard = open_for_indexing(folder, sidecar)
        changed = shard.optimize()
        shard.close()
    return OptimizeReport(records=records, changed=changed)


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
