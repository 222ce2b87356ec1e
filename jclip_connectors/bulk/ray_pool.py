"""How many workers a cluster has room for, and what each of them gets."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jclip_connectors.bulk.embed_shard import EmbedJob
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_kit.validation import check_count

Workers = int | tuple[int, int]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The workers of a job, and what the cluster reserves for each.

    Attributes:
        job: with the device and the number of threads of all workers.
        fewest: the number of workers at the beginning, which is never below that.
        most: the largest number of workers.
        cpus: of each worker.
        gpus: of each worker; a part of one is shared.
    """

    job: EmbedJob
    fewest: int
    most: int
    cpus: int
    gpus: float


def check_options(address: str | None, workers: Workers | None, gpus: float | None, *, loopback: bool) -> None:
    """Check the options of the engine, before Ray is started.

    Raises:
        EmbedInputError: an option has a bad value, or does not fit the others.
    """
    if address is not None and address != "auto" and host_and_port(address) is None:
        raise EmbedInputError(f"`address` is {address!r}; use HOST:PORT of the head, from a machine of the cluster")
    if address is not None and loopback:
        raise EmbedInputError(f"`loopback` is for a Ray that is started here, not for the cluster at {address!r}")
    fewest, most = workers if isinstance(workers, tuple) else (workers, workers)
    for value in (fewest, most):
        if value is not None:
            check_count(value, name="workers")
    if fewest is not None and most is not None and fewest > most:
        raise EmbedInputError(f"`workers` is {fewest}:{most}; the first number is the smaller one")
    if gpus is not None and not 0 <= gpus <= 1:
        raise EmbedInputError(
            f"`gpus_per_worker` is {gpus!r}; a worker uses one GPU, a part of one (such as 0.5), or none"
        )


def host_and_port(address: str) -> tuple[str, int] | None:
    """The two parts of an address; `None` if it is none."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return None
    return host.strip("[]"), int(port)


def plan_pool(
    nodes: Sequence[Mapping[str, float]],
    job: EmbedJob,
    count: int,
    *,
    workers: Workers | None,
    gpus: float | None,
    grows: bool,
) -> Pool:
    """Decide once for all workers where the model runs: a folder has the vectors of one kind of device.

    Args:
        nodes: what each machine has of "CPU" and "GPU".
        job: what is embedded.
        count: the number of shards.
        workers: how many, or the fewest and the most; `None` is as many as have room.
        gpus: of each worker; `None` is 1 if there are any.
        grows: whether machines may come later.

    Raises:
        EmbedInputError: no worker has room, or `gpus` does not fit `job`.
    """
    if gpus is None:
        on_cpus = job.device == "cpu" or job.endpoint is not None or job.runtime == "onnx"
        gpus = 0 if on_cpus or not any(node.get("GPU") for node in nodes) else 1
    elif gpus and job.device == "cpu":
        raise EmbedInputError(f"`gpus_per_worker` is {gpus:g}, but `device` is 'cpu': leave one of them out")
    cpus = job.threads
    if cpus is None:
        shares = [node.get("CPU", 0) / node["GPU"] * gpus for node in nodes if gpus and node.get("GPU")]
        cpus = max(1, int(min(shares, default=1)))
    device = job.device
    if device is None and job.endpoint is None:
        device = "cuda" if gpus else "cpu"
    room = sum(_room(node, cpus, gpus) for node in nodes)
    if not room and (workers is None or not grows):
        raise EmbedInputError(f"no machine has room for a worker, which needs {cpus} CPUs and {gpus:g} GPUs")
    fewest, most = workers if isinstance(workers, tuple) else (workers or room, workers or room)
    if fewest > room:
        _log.warning("there is room for %d workers at the moment, not for %d", room, fewest)
    if not grows:
        fewest, most = min(fewest, room), min(most, room)
    return Pool(
        job=dataclasses.replace(job, device=device, threads=cpus),
        fewest=min(fewest, count),
        most=min(most, count),
        cpus=cpus,
        gpus=gpus,
    )


def _room(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpus = node.get("CPU", 0) // cpus
    return int(min(by_cpus, node.get("GPU", 0) // gpus) if gpus else by_cpus)
