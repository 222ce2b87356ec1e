"""The options of `jclip embed --engine ray`."""

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from jclip_connectors.bulk.embedding import Engine

_WORKERS = re.compile(r"([1-9]\d*)(?::([1-9]\d*))?")


def parse_workers(text: str) -> int | tuple[int, int]:
    """Read a number of workers, or the fewest and the most."""
    found = _WORKERS.fullmatch(text)
    if found is None or (found[2] is not None and int(found[2]) < int(found[1])):
        raise typer.BadParameter(f"{text!r} is no number of workers: write 8, or 2:8 for two to eight")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="With ray: the head of a cluster. Without it, Ray is started here for this job."
    ),
]
WorkersOption = Annotated[
    Any,
    typer.Option(
        metavar="N|MIN:MAX", parser=parse_workers, help="With ray: how many workers. Without it, as many as have room."
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="GPUS",
        help="With ray: 1 gives each worker a GPU, 0.5 gives one to two, 0 uses CPUs. Without it, 1 if there are any.",
    ),
]
LoopbackOption = Annotated[
    bool, typer.Option("--loopback", help="With ray: a Ray that is started here listens on 127.0.0.1 only.")
]


def ray_options(
    engine: str, *, address: str | None, workers: int | tuple[int, int] | None, gpus: float | None, loopback: bool
) -> dict[str, Any]:
    """The options as `run_on_ray` takes them; those of Ray need the engine "ray"."""
    given = {"--address": address, "--workers": workers, "--gpus-per-worker": gpus, "--loopback": loopback or None}
    if engine != "ray" and (named := [name for name, value in given.items() if value is not None]):
        raise typer.BadParameter(f"{', '.join(named)}: give --engine ray as well")
    return {"address": address, "workers": workers, "gpus_per_worker": gpus, "loopback": loopback}


def on_ray(options: dict[str, Any]) -> "Engine":
    """The engine with its options."""
    from jclip_connectors.bulk.ray_engine import run_on_ray

    return partial(run_on_ray, **options)
