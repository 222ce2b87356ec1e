"""Ray as the engine of a job: shards are the items of a dataset, and a pool of actors embeds them, on many machines.

Nothing but descriptions of shards and what became of them travels through Ray; sources, files of vectors and keys are
the workers' own. This is the only module that imports Ray.
"""

import contextlib
import dataclasses
import logging
import os
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast

from core_encoder.errors import JinaClipError
from jclip_connectors.bulk.embed_shard import EmbedJob, EmbedShard, ShardDone
from jclip_connectors.bulk.ray_pool import Pool, Workers, check_options, host_and_port, plan_pool
from jclip_connectors.bulk.ray_token import arrange_token
from jclip_connectors.bulk.shards import Shard
from jclip_connectors.bulk.source_names import printable_name
from jclip_connectors.bulk.vector_files import VectorFolder
from jclip_connectors.errors import ConnectorError, EmbedInputError, MissingDependencyError, StoreUnavailableError

_OBJECT_STORE_BYTES = 100 * 2**20  # names and counts need little of it; the least that Ray takes is 75 MiB
# Of one shard: two for each batch that kills its process, which is then left out, and some for machines that end.
_RETRIES = 9
_MOST_UNDONE = 20  # shards that could not be embedded, before the job ends
_SEEN_AFTER_S = 60
_CONNECT_S = 20
_LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)


def run_on_ray(
    todo: Sequence[Shard],
    job: EmbedJob,
    *,
    address: str | None = None,
    workers: Workers | None = None,
    gpus_per_worker: float | None = None,
    loopback: bool = False,
) -> Generator[ShardDone, None, None]:
    """Embed shards with a pool of Ray's actors.

    A process that is killed starts again, and its shard with it. A Ray that this program has not started before is
    started, or joined, and left at the end.

    Args:
        todo: the shards.
        job: what they share. `device` and `threads` are the workers'; where they are `None`, the cluster decides them,
            once for all workers.
        address: HOST:PORT of the head of a cluster; "auto" is one that runs on this machine. `None` is the one that
            the environment variable RAY_ADDRESS names, else Ray is started on this machine for this job.
        workers: how many there are, or the fewest and the most. `None` takes as many as the cluster has room for.
        gpus_per_worker: how many GPUs each worker has to itself, or which part of one. 0 runs the model on CPUs. `None`
            is 1 where the cluster has GPUs, else 0.
        loopback: a Ray that is started here listens on 127.0.0.1 only; otherwise it listens on all interfaces.

    Raises:
        EmbedInputError: an option does not fit the others or the cluster, or a shard cannot be read as it is.
        MissingDependencyError: Ray is not installed.
        StoreUnavailableError: the cluster cannot be joined, or shards were left out as their workers died or a storage
            did not answer; the same call goes on.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    check_options(address, workers, gpus_per_worker, loopback=loopback)
    if "://" not in job.out:
        job = dataclasses.replace(job, out=str(Path(job.out).expanduser().absolute()))
    with ExitStack() as stack:
        _connect(stack, address, loopback=loopback)
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        grows = address is not None
        pool = plan_pool(nodes, job, len(todo), workers=workers, gpus=gpus_per_worker, grows=grows)
        stack.enter_context(closing(results := _results(todo, pool)))
        yield from results


class _Worker:
    """Embeds one shard at a time, in an actor.

    No error leaves it: Ray would take the error for a death of the worker, and many of ours cannot be pickled.
    """

    def __init__(self, job: EmbedJob, folder: str) -> None:
        self._job = job
        self._embed: EmbedShard | None = None
        if Path(folder).is_dir():
            os.chdir(folder)  # for what has a relative path; a node of a cluster is somewhere else

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Embed the one shard of a batch; one row: its position, and what became of it."""
        (at,), (shard,) = batch["at"].tolist(), batch["shard"]
        return {"at": [at], "outcome": [self._outcome(shard)]}

    def _outcome(self, shard: Shard) -> "ShardDone | _Undone":
        try:
            # Here, not in the constructor: of that, Ray tries again without end where it kills the process.
            if self._embed is None:
                self._embed = EmbedShard(self._job)  # first it sets the number of threads
            return self._embed(shard)
        except (StoreUnavailableError, OSError) as error:
            return _Undone("unavailable", str(error))
        except (ConnectorError, JinaClipError) as error:
            return _Undone("refused", f"{error} (on {socket.gethostname()})")
        except Exception:  # noqa: BLE001 (a mistake in a program; raised again where the job was started)
            return _Undone("broken", traceback.format_exc())


@dataclass(frozen=True)
class _Undone:  # no tuple: Ray makes columns of those
    """Why a shard was not embedded: it does not fit the job, a place did not answer, or a program has a mistake."""

    kind: Literal["refused", "unavailable", "broken"]
    message: str


def _results(todo: Sequence[Shard], pool: Pool) -> Generator[ShardDone, None, None]:
    import ray.exceptions

    undone = dict(enumerate(todo))
    machines: set[str] = set()
    reasons: list[str] = []
    try:
        for at, outcome in _outcomes(todo, pool):
            if isinstance(outcome, ShardDone):
                del undone[at]
                machine = outcome.worker.rpartition(":")[0]
                if machine not in machines:
                    _check_shared(VectorFolder(pool.job.out), outcome)
                    machines.add(machine)
                yield outcome
                continue
            if outcome.kind == "refused":
                raise EmbedInputError(outcome.message)
            if outcome.kind == "broken":
                raise RuntimeError(outcome.message)
            _log.warning("left out: %s", outcome.message)
            reasons.append(outcome.message)
            if len(reasons) >= _MOST_UNDONE:
                break
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        hint = "" if machines else f"; RAY_AUTH_MODE is {mode} here, and has to be the same on all machines"
        raise StoreUnavailableError(f"Ray has ended the job: {last}; the same call goes on{hint}") from error
    if undone:
        first = printable_name(next(iter(undone.values())).url)
        why = reasons[0] if reasons else f"its worker died each of the {_RETRIES + 1} times that it was tried"
        raise StoreUnavailableError(
            f"{len(undone)} of {len(todo)} shards are not done, {first} the first of them: {why}; the same call goes on"
        )


def _check_shared(folder: VectorFolder, done: ShardDone) -> None:
    """Refuse a folder that is on the disk of each machine: what is done would not be found again."""
    for _ in range(_SEEN_AFTER_S):
        if done.name in folder.files():
            return
        time.sleep(1)  # a network's file system may show it late
    raise EmbedInputError(
        f"{done.worker} wrote {done.name} to {folder.name}, and here it is not: name a folder that all machines share"
    )


def _outcomes(todo: Sequence[Shard], pool: Pool) -> Iterator[tuple[int, ShardDone | _Undone]]:
    """The position of each shard and what became of it, as soon as it is there."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = _MOST_UNDONE  # a shard whose worker died each time
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(
                logging.CRITICAL
            )  # else a shard that is left out is told in 50 lines; the log file has all
    items = [{"at": at, "shard": shard} for at, shard in enumerate(todo)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")  # there is no other way
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Worker,
            fn_constructor_args=[pool.job, str(Path.cwd())],
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(
                min_size=pool.fewest, max_size=pool.most, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            # Endless: the pool does not replace an actor that may not start again, and waits for ever for it.
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
    # Each block is the result of a shard. To prefetch would hold back each result until the next one is there.
    for block in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        yield from zip(block["at"].tolist(), block["outcome"], strict=True)


def _connect(stack: ExitStack, address: str | None, *, loopback: bool) -> None:
    """Join a cluster, or start one here; left when the stack ends. A connection of the program is used and kept."""
    if "ray" not in sys.modules:
        # Ray reads these when it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if loopback:
            # What Ray does for the sake of firewalls on other systems, and the one way to keep it on 127.0.0.1.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        arrange_token(joins=address is not None)
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependencyError("ray", extra="ray") from error
    if ray.is_initialized():
        return
    options: dict[str, Any] = {}
    if address is None:
        options = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    if address is not None:
        _check_reachable(address)
    stack.enter_context(contextlib.redirect_stdout(cast("TextIO", _Stdout(sys.stdout))))
    stack.callback(_shut_down)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **options)
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        where = "Ray cannot be started" if address is None else f"the Ray cluster at {address!r} cannot be joined"
        raise StoreUnavailableError(f"{where}: {error}") from error
    found = ray.util.get_node_ip_address()
    if loopback and found != _LOOPBACK:
        raise EmbedInputError(f"Ray listens on {found}, not on {_LOOPBACK} only: it was imported before this call")


def _check_reachable(address: str) -> None:
    """Tell soon that nothing answers: Ray itself waits for minutes, and then ends the process."""
    parts = host_and_port(address)
    if parts is not None:  # else it is on this machine
        try:
            socket.create_connection(parts, timeout=_CONNECT_S).close()
        except OSError as error:
            raise StoreUnavailableError(f"the Ray cluster at {address!r} cannot be reached: {error}") from error


def _shut_down() -> None:
    import ray

    with contextlib.redirect_stdout(sys.stderr):  # for the last messages, see below
        ray.shutdown()


class _Stdout:
    """Standard output, but that Ray's messages about workers that died go to standard error: results are told here."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (what the stream has)
        of_ray = threading.current_thread().name == "ray_listen_error_messages"
        return getattr(sys.stderr if of_ray else self._stream, name)
