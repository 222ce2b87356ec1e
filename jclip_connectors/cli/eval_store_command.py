"""`jclip eval store`: what a collection's search finds of the exact ranking, and how fast."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from core_encoder.models import RuntimeChoice
from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import (
    CollectionOption,
    DeviceOption,
    RuntimeOption,
    StoreOption,
    TimeoutOption,
    collection_url,
    configuration,
    parse_existing_file,
    parse_path,
)
from jclip_connectors.config import EmbeddingConfig, Fingerprint
from jclip_connectors.errors import EmbedInputError, EvaluationError, StoreRequestError
from jclip_connectors.evaluation.environment import describe_environment
from jclip_connectors.evaluation.exact_ranking import Question, exact_ranking
from jclip_connectors.evaluation.plots import can_plot, recall_plot
from jclip_connectors.evaluation.store_recall import RecallPoint, measure, own_queries, settings_to_try
from jclip_connectors.indexing.files import read_text
from jclip_connectors.port import FloatArray, Modality, VectorStore
from jclip_connectors.store_kit.blank_text import is_blank
from jclip_connectors.store_kit.files import replace_file
from jclip_connectors.store_kit.places import Place
from jclip_connectors.store_kit.validation import check_embeddings
from jclip_connectors.store_urls import connected

STORE_FILE, STORE_PLOT = "store.json", "store.svg"
_DISK_BLOCK = 512  # bytes; POSIX, `st_blocks`


def store(
    *,
    collection: CollectionOption = None,
    store: StoreOption = None,
    timeout: TimeoutOption = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy",
            parser=parse_existing_file,
            help="Vectors to search for, an array (Q, E); default: vectors of the collection's own records.",
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_existing_file, help="Texts to search for instead, one on each line."),
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many of the nearest records are looked for.")] = 10,
    modality: Annotated[
        Modality | None,
        typer.Option(help="Search among pictures or among texts; default: among pictures, if there are any."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            metavar="NAME=N,...",
            help="Options of the store's search to measure, such as candidates=400; again for more. Default: a sweep.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", parser=parse_path, help="The folder for the results.")] = Path(
        "evaluation"
    ),
    model: Annotated[
        str | None,
        typer.Option(help="With --texts: the folder of the model, if the collection's model is from a folder."),
    ] = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
) -> None:
    """Measure what a collection's search finds of the k nearest records, and how fast, for settings of its search."""
    if queries is not None and texts is not None:
        raise typer.BadParameter("--queries and --texts exclude each other: choose one")
    lines = None if texts is None else _read_lines(texts)
    rows = None if queries is None else _read_rows(queries)
    with connected(collection_url(collection, store), timeout=timeout, read_only=True) as place:
        fingerprint = place.fingerprint()
        if fingerprint is None:
            raise StoreRequestError(f"there is no collection in {place.name}")
        if lines is not None:
            rows = _embed(lines, configuration(fingerprint, model=model), device=device, runtime=runtime)
        given = [_read_setting(text, place) for text in settings or ()]
        out.mkdir(parents=True, exist_ok=True)  # before the work: it may be impossible
        points, about = _measure(place, fingerprint, rows, k=k, modality=modality, settings=given)
    about["queries_from"] = "the collection" if rows is None else str(queries or texts)
    terminal.show(_table(points))
    measured = [dataclasses.asdict(point) for point in points]
    content = {**about, "settings": measured, "environment": describe_environment()}
    replace_file(out / STORE_FILE, (json.dumps(content, indent=1) + "\n").encode())
    terminal.say(f"{len(points)} settings: {out / STORE_FILE}")
    if can_plot():
        recall_plot(points, out / STORE_PLOT)
        terminal.say(f"recall against speed: {out / STORE_PLOT}")
    else:
        (out / STORE_PLOT).unlink(missing_ok=True)  # of earlier results
        terminal.say("a plot of recall against speed needs matplotlib, which the extra 'eval' brings")


def _measure(
    place: Place,
    fingerprint: Fingerprint,
    rows: FloatArray | None,
    *,
    k: int,
    modality: Modality | None,
    settings: list[dict[str, float]],
) -> tuple[list[RecallPoint], dict[str, Any]]:
    config = carried_config(fingerprint)
    opened = place.open(config, None)
    wanted = modality or ("image" if opened.count(modality="image") else "text")
    question = _question(opened, config, rows, k=k, modality=wanted)
    ranking = exact_ranking(opened.scroll(modality=wanted), question)
    total = opened.count()
    opened.close()
    whose = "given vectors" if rows is not None else "vectors of the collection, each without its own record"
    terminal.say(
        f"{place.name}: {ranking.records} of {total} records have the modality {wanted!r}; {len(question.rows)} "
        f"queries ({whose}), k {k}{', over tiles' if question.tiles else ''}"
    )
    if not place.search_options:
        terminal.say("this store has no setting of its search: what it does is measured once")
    disk_bytes = None if place.folder is None else _disk_bytes(place.folder)
    points = []
    for setting in settings or settings_to_try(place.search_options, records=total, limit=question.limit):
        opened = place.open(config, None, setting)
        points.append(measure(opened, question, ranking, setting=setting, disk_bytes=disk_bytes))
        opened.close()
    about = {
        "store": place.name,
        "fingerprint": dict(fingerprint),
        "records": total,
        "compared": ranking.records,
        "modality": wanted,
        "tiles": question.tiles,
        "k": k,
        "length": question.rows.shape[1],
        "queries": len(question.rows),
    }
    return points, about


def _question(
    opened: VectorStore, config: EmbeddingConfig, rows: FloatArray | None, *, k: int, modality: Modality
) -> Question:
    tiles = config.tiling is not None  # as a search of the collection
    if rows is None:
        return own_queries(opened, k=k, modality=modality, tiles=tiles)
    first = next(opened.scroll(modality=modality), None)
    if first is None:
        raise EvaluationError(f"the collection has no record of the modality {modality!r}")
    checked = check_embeddings(rows, dimensions=first.embedding.shape[0])
    return Question(rows=checked, k=k, modality=modality, tiles=tiles)


def _read_setting(text: str, place: Place) -> dict[str, float]:
    setting: dict[str, float] = {}
    for pair in text.split(","):
        name, _, number = pair.partition("=")
        if name not in place.search_options:
            known = ", ".join(place.search_options) or "none"
            raise EmbedInputError(f"--setting is {text!r}: {name!r} is no option of this store's search ({known})")
        try:
            setting[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            raise EmbedInputError(f"--setting is {text!r}: write it like {name}=400") from None
    return setting


def _read_rows(path: Path) -> FloatArray:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EmbedInputError(f"{str(path)!r} is not an array of numpy (.npy): {error}") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or not len(rows) or rows.dtype.kind != "f":
        raise EmbedInputError(f"{str(path)!r} is not an array (Q, E) of floating-point numbers with at least one row")
    return rows


def _read_lines(path: Path) -> list[str]:
    try:
        lines = read_text(path).removesuffix("\n").split("\n")
    except EmbedInputError as error:
        raise EmbedInputError(f"{str(path)!r}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if is_blank(line):
            raise EmbedInputError(f"line {number} of {str(path)!r} is blank: write one text on each line")
    return [line.strip() for line in lines]


def _embed(lines: list[str], config: EmbeddingConfig, *, device: str | None, runtime: RuntimeChoice) -> FloatArray:
    from jclip_connectors.local import LocalEmbedder  # loads the model

    return LocalEmbedder(config, device=device, runtime=runtime).embed_queries(lines)


def _disk_bytes(folder: Path) -> int | None:
    """What the files take on the disk: the engine's files are sparse."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    if not all(hasattr(stat, "st_blocks") for stat in stats):  # Windows
        return None
    return _DISK_BLOCK * sum(stat.st_blocks for stat in stats)


def _table(points: list[RecallPoint]) -> Table:
    made = terminal.table("setting", "recall", "5 % below", "worst", "p50 ms", "p95 ms", "queries/s", "MB on disk")
    for point in points:
        name = ", ".join(f"{option} {value}" for option, value in point.setting.items()) or "its own"
        disk = "" if point.disk_bytes is None else f"{point.disk_bytes / 1e6:.1f}"
        made.add_row(
            name,
            f"{point.recall_mean:.4f}",
            f"{point.recall_p5:.2f}",
            f"{point.recall_min:.2f}",
            f"{point.p50_ms:.2f}",
            f"{point.p95_ms:.2f}",
            f"{point.queries_per_second:.0f}",
            disk,
        )
    return made
