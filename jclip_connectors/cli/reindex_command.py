"""`jclip reindex`: a collection embedded again by another model, or with other options, beside the old one."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from core_encoder.models import RuntimeChoice
from core_encoder.rendering import Rendering
from core_encoder.tiling import Tiling
from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.bulk.found_sources import check_folders
from jclip_connectors.bulk.reindexing import ReindexReport, reindex_collection
from jclip_connectors.cli import terminal
from jclip_connectors.cli.copy_places import connected_place, place_url
from jclip_connectors.cli.failed_records import say_records
from jclip_connectors.cli.options import (
    DeviceOption,
    MaxBytesOption,
    MaxPixelsOption,
    RenderingOption,
    ResamplingOption,
    RuntimeOption,
    check_output,
    configuration,
    parse_path,
)
from jclip_connectors.cli.progress_bar import resumable_progress
from jclip_connectors.cli.swaps import finish_interrupted, mark_of, swap_of, url_beside
from jclip_connectors.config import EmbeddingConfig, Fingerprint, complete_fingerprint
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.port import Embedder
from jclip_connectors.store_urls import connected

REINDEX_NOTES = (
    "COLLECTION is a folder, edge:PATH, qdrant://HOST:PORT/NAME, weaviate://HOST:PORT/NAME, pinecone://INDEX or "
    "postgresql://HOST:PORT/DATABASE/NAME, as for --store. Texts come from the records, pictures from their files. "
    "The new collection gets the name of the old one when all is in, where the store can pass a name on: a folder, "
    "PostgreSQL, and an alias of Qdrant or Weaviate. The old collection is never removed. After an interrupt the same "
    "command goes on. Exit code 1 means that something is not in the new collection, or that it has not got the name."
)
_FAILED = 1  # the exit code if records are missing, or the swap was not made because of that
_MOST_LOOKS = 3  # at what has come to a collection in a folder meanwhile
_LARGEST_PART = 0.1  # of the records that may be missing without a second word


def reindex(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="The collection to embed again.", show_default=False)
    ],
    *,
    model: Annotated[
        str | None, typer.Option(help="The new model: a hub id, a folder with a model, or 'nano'; default: the same.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Number of values to keep of each vector.")] = None,
    tiles: Annotated[
        int | None,
        typer.Option(min=0, help="Cut large pictures into at most this many tiles; 0: no tiles; default: as before."),
    ] = None,
    rendering: RenderingOption = None,
    resampling: ResamplingOption = None,
    max_pixels: MaxPixelsOption = None,
    max_bytes: MaxBytesOption = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Records to process at a time.")] = 32,
    look_in: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            parser=parse_path,
            help="Look here for pictures that were moved, by their content; may be given several times.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", parser=parse_path, help="Write the list of missing records here."),
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap/--no-swap", help="Whether the new collection gets the name of the old one.")
    ] = True,
    swap_anyway: Annotated[
        bool,
        typer.Option("--swap-anyway", help="Swap also if more than a tenth of the records are missing."),
    ] = False,
) -> None:
    """Embed a collection again from its sources, beside the old one, which is kept; then let them change places."""
    if swap_anyway and not swap:
        raise typer.BadParameter("--swap-anyway has no effect with --no-swap: give one of them")
    check_output(report)
    folders = [] if look_in is None else look_in
    check_folders(folders)
    given = {
        "dimensions": dimensions,
        "rendering": rendering,
        "resampling": resampling,
        "max_pixels": max_pixels,
        "max_image_bytes": max_bytes,
        "tiling": None if not tiles else Tiling(max_tiles=tiles),
    }
    given = {name: value for name, value in given.items() if value is not None}
    names = _prepare(collection, model, given, tiles=tiles, swap=swap)
    if names is None:
        return
    done = _run(names, device=device, runtime=runtime, look_in=folders, batch_size=batch_size)
    _say(done, report)
    reasons = _reasons_to_wait(done)
    waits = bool(reasons) and not swap_anyway
    if not swap or waits:
        _say_unswapped(names, reasons if swap else [])
    else:
        _swap(names)
    if done.missing or (swap and waits):
        raise typer.Exit(_FAILED)


@dataclass(frozen=True, kw_only=True)
class _Names:
    """An old collection, and the new one beside it."""

    url: str
    new_url: str
    stored: Fingerprint
    config: EmbeddingConfig


def _prepare(
    collection: str, model: str | None, given: dict[str, Any], *, tiles: int | None, swap: bool
) -> _Names | None:
    """What is to be done; `None` if the collection is already as it is wanted."""
    url = place_url(collection)
    finish_interrupted(url)
    with connected_place(url, "COLLECTION", read_only=True) as old:
        stored = old.fingerprint()
        if stored is None:
            raise StoreRequestError(f"there is no collection in {old.name}")
        config = _new_configuration(stored, model)
        config = dataclasses.replace(config, tiling=None if tiles == 0 else config.tiling)
        config = dataclasses.replace(config, **given)
        wanted = config.fingerprint()
        if wanted == complete_fingerprint(stored):
            terminal.say(f"{old.name} was made with this model and these options: there is nothing to do")
            return None
        terminal.say(f"{old.name}: {', '.join(_changes(stored, wanted))}")
        reason = swap_of(url, old, mark_of(stored)).reason if swap else None
    if reason is not None:
        terminal.say(f"note: the new collection will keep a name of its own: {reason}", style="yellow")
    return _Names(url=url, new_url=url_beside(url, mark_of(wanted)), stored=stored, config=config)


def _new_configuration(stored: Fingerprint, model: str | None) -> EmbeddingConfig:
    """The options of the collection; those that belong to a model, where the model is another one, are its defaults."""
    if model is None or model == stored.get("model"):
        return configuration(stored, model=model)
    old = complete_fingerprint(stored)
    named = {**old, "model": model, **dict.fromkeys(("revision", "dimensions", "max_tokens", "resize_mode"))}
    if old["rendering"] not in get_args(Rendering):
        named["rendering"] = EmbeddingConfig.rendering  # a version before had another one
    asked = EmbeddingConfig.from_env()
    return dataclasses.replace(
        EmbeddingConfig.from_fingerprint(named),
        revision=asked.revision,
        precision=asked.precision,
        max_pixels=asked.max_pixels,
        max_image_bytes=asked.max_image_bytes,
    )


def _changes(stored: Fingerprint, wanted: Fingerprint) -> list[str]:
    old = complete_fingerprint(stored)
    return [f"{name} {old.get(name)} -> {value}" for name, value in wanted.items() if old.get(name) != value]


def _run(
    names: _Names, *, device: str | None, runtime: RuntimeChoice, look_in: Sequence[Path], batch_size: int
) -> ReindexReport:
    from jclip_connectors.local import LocalEmbedder

    # The model first: if it cannot be loaded, no collection is made.
    embedder = LocalEmbedder(names.config, device=device, runtime=runtime)
    done = _read_once(names, embedder, look_in, batch_size)
    # A collection in a folder is read as it was when it was opened, so it is opened again to see what has come since.
    for _ in range(_MOST_LOOKS if names.url.startswith("edge:") else 0):
        again = _read_once(names, embedder, look_in, batch_size)
        settled = again.settled and not again.embedded
        done = dataclasses.replace(
            again,
            embedded=done.embedded + again.embedded,
            unchanged=done.unchanged,
            moved=done.moved + again.moved,
            settled=settled,
        )
        if settled:
            break
    return done


def _read_once(names: _Names, embedder: Embedder, look_in: Sequence[Path], batch_size: int) -> ReindexReport:
    with connected(names.url, read_only=True) as old, connected(names.new_url) as new:
        source = old.open(carried_config(names.stored), None)
        target = new.open(names.config, embedder.dimensions)
        terminal.say(f"{source.count()} records in {old.name}; those of {new.name} are compared")
        with resumable_progress(unit="records") as progress:
            return reindex_collection(
                source, target, embedder, look_in=look_in, batch_size=batch_size, progress=progress
            )


def _say(done: ReindexReport, report: Path | None) -> None:
    moved = f"{done.moved} of them found at another place, " if done.moved else ""
    terminal.say(f"{done.embedded} embedded, {moved}{done.unchanged} unchanged, {len(done.missing)} missing")
    say_records(done.missing, report)


def _reasons_to_wait(done: ReindexReport) -> list[str]:
    reasons = []
    if len(done.missing) > _LARGEST_PART * done.total:
        reasons.append(f"{len(done.missing)} of {done.total} records are missing, which is more than a tenth")
    if done.extra:
        reasons.append(
            f"the new collection has {done.extra} records that the old one does not have: they were removed there "
            "since a run before, or the new collection is in use"
        )
    if not done.settled:
        reasons.append("the old collection is being written to: stop that, and run the same command again")
    return reasons


def _say_unswapped(names: _Names, reasons: Sequence[str]) -> None:
    with connected(names.new_url, read_only=True) as new:
        kept = f"the new collection is {new.name}, and the old one is as it was"
    if not reasons:
        terminal.say(kept)
        return
    terminal.say(f"not swapped: {kept}", style="red")
    for reason in reasons:
        terminal.say(f"  {reason}", style="red")
    terminal.say("if this is as it should be, the same command with --swap-anyway swaps")


def _swap(names: _Names) -> None:
    with connected(names.url, read_only=True) as old, connected(names.new_url, read_only=True) as new:
        now = old.fingerprint()
        if now != names.stored:
            raise StoreRequestError(f"{old.name} is another collection than when this run began: look who changed it")
        swap = swap_of(names.url, old, mark_of(names.stored))
        if swap.reason is not None:
            terminal.say(
                f"not swapped, as {swap.reason}: the new collection is {new.name}, and the old one is as it was"
            )
            return
        swap.run(new)
        terminal.say(f"{old.name} is the new collection now; the old one is {swap.kept} until you remove it")
