"""`jclip embed`: the pictures and texts of sources embedded into Parquet files, without a store."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jclip_connectors.cli import terminal
from jclip_connectors.cli.embed_progress import EmbedLines, ended_if_stalled
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
    parse_time,
)
from jclip_connectors.cli.ray_options import (
    AddressOption,
    GpusOption,
    LoopbackOption,
    WorkersOption,
    on_ray,
    ray_options,
)
from jclip_connectors.errors import MissingDependencyError, StoreUnavailableError

if TYPE_CHECKING:
    from jclip_connectors.bulk.columns import Columns
    from jclip_connectors.bulk.embedding import Engine
    from jclip_connectors.bulk.reports import FailedRow
    from jclip_connectors.bulk.shards import Shard

EMBED_NOTES = (
    "SOURCE is a tar file of webdataset, a Parquet file with pictures or texts, a picture, a folder of these, a name "
    "with * or {00000..00099}, or a URL of one: s3:// gs:// az:// hf://. OUT is a folder, or its URL. Each shard of a "
    "source becomes one Parquet file, named by what it is made of, so after an interrupt the same command goes on. A "
    "picture that cannot be read is a row with `error`. `jclip load OUT --store URL` writes the vectors to a database. "
    "Exit code 1 means that some rows have failed. The key for --endpoint comes from ENDPOINT_API_KEY."
)
_FAILED = 1  # the exit code if rows have failed
_NAMED_FAILURES = 10
_CUT = re.compile(r"\d+ of \d+ texts were cut")


def embed(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE... OUT", help="What is embedded, and where to.", show_default=False),
    ] = None,
    *,
    images: Annotated[
        str | None,
        typer.Option(metavar="COL", help="The column of the pictures; in a tar file, their suffix, such as jpg."),
    ] = None,
    texts: Annotated[str | None, typer.Option(metavar="COL", help="The column of the texts, or their suffix.")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            help="The column that has the ids of the records; in a tar file, __key__ is the name without the suffix. "
            "Without it, the ids come from the content.",
        ),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="COL,COL", help="Columns for the metadata of the records; of a JSON part, its fields."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Number of values to keep of each vector.")] = None,
    tiles: Annotated[int | None, typer.Option(min=1, help="Cut large pictures into at most this many tiles.")] = None,
    rendering: RenderingOption = None,
    resampling: ResamplingOption = None,
    max_pixels: MaxPixelsOption = None,
    max_bytes: MaxBytesOption = None,
    vector_type: Annotated[
        Literal["float32", "float16"] | None,
        typer.Option(help="The type of the values: float16 halves the files; default: that of OUT, else float32."),
    ] = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Embed with this endpoint instead, such as http://localhost:8080/v1."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: one shard after another, here; ray: on many machines.")
    ] = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusOption = None,
    loopback: LoopbackOption = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="CPU threads of the model, in each worker.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="The most pictures or texts in memory at a time.")] = 256,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Embed the first N rows only.")] = None,
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="End the job if more than this part of its rows fails.")
    ] = 0.05,
    redo_failed: Annotated[
        bool, typer.Option("--redo-failed", help="Embed the shards again in which rows have failed.")
    ] = False,
    stalled: Annotated[
        float | None,
        typer.Option(
            metavar="TIME", parser=parse_time, help="End with exit code 2 if nothing is done for so long, such as 30m."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", parser=parse_path, help="Write the list of failed rows here."),
    ] = None,
    progress_json: Annotated[
        bool, typer.Option("--progress-json", help="Print the progress as lines of JSON, on stdout.")
    ] = False,
    status: Annotated[
        str | None,
        typer.Option(metavar="OUT", help="Embed nothing: say what is in OUT, and how much of SOURCE... is done."),
    ] = None,
) -> None:
    """Embed pictures and texts of any number into Parquet files of vectors."""
    try:
        from jclip_connectors.bulk.columns import Columns
        from jclip_connectors.bulk.embed_shard import EmbedJob
        from jclip_connectors.bulk.embedding import embed_shards, first_rows, run_locally
        from jclip_connectors.bulk.shards import find_shards
        from jclip_connectors.bulk.vector_files import VectorFolder
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name).partition(".")[0], extra="bulk") from error

    names = () if metadata is None else tuple(name for name in metadata.split(",") if name)
    columns = Columns(images=images, texts=texts, key=key, metadata=names)
    sources = places if places is not None else []
    if status is not None:
        given = {
            "--report": report,
            "--redo-failed": redo_failed,
            "--progress-json": progress_json,
            "--endpoint": endpoint,
        }
        _refuse_with_status(given)
        _say_status(status, sources, columns, limit)
        return
    rays = ray_options(engine, address=address, workers=workers, gpus=gpus_per_worker, loopback=loopback)
    if len(sources) < 2:
        raise typer.BadParameter("name one source or more, and then the folder for the files of vectors")
    *sources, out = sources
    if "" in (*sources, out):
        raise typer.BadParameter("an empty name is not allowed; write . for the current folder")
    check_output(report)
    found = VectorFolder(out).read_sidecar()
    config = configuration(
        None if found is None else found.fingerprint,
        model=model,
        dimensions=dimensions,
        tiles=tiles,
        rendering=rendering,
        resampling=resampling,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
    )
    shards = find_shards(sources, columns=columns, out=out)
    if report is not None and str(report.resolve()) in {shard.url for shard in shards}:
        raise typer.BadParameter(f"the report would replace the source {str(report)!r}: name another file")
    if limit is not None:
        shards = first_rows(shards, limit)
    if vector_type is None:
        vector_type = "float32" if found is None else found.vector_type
    job = EmbedJob(
        config=config,
        out=out,
        columns=columns,
        vector_type=vector_type,
        batch_size=batch_size,
        device=device,
        threads=threads,
        runtime=runtime,
        endpoint=endpoint,
    )
    terminal.say(f"{len(shards)} shards; model {config.model}")
    lines = EmbedLines(as_json=progress_json)
    run: Engine = partial(run_locally, on_rows=lines.rows) if engine == "local" else on_ray(rays)
    with _said_that_it_goes_on(), _cut_texts_told_once(), ended_if_stalled(lines, seconds=stalled):
        done = embed_shards(shards, job, run=run, max_failed=max_failed, redo_failed=redo_failed, progress=lines.shard)
    lines.end()
    terminal.say(f"{done.shards} shards, {done.unchanged} of them unchanged; {done.rows} rows, {done.failed} failed")
    if done.failed:
        fingerprint = config.fingerprint()
        _say_failures(out, [shard.name(fingerprint, columns) for shard in shards], report)
        raise typer.Exit(_FAILED)
    if report is not None:
        _write_report(report, iter(()))


@contextmanager
def _said_that_it_goes_on() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError:
        terminal.say("stopped; shards that are done are kept, and the same command goes on")
        raise


@contextmanager
def _cut_texts_told_once() -> Iterator[None]:
    """Show the first warning of texts that were cut, and none of the other batches."""
    with warnings.catch_warnings():
        show = warnings.showwarning
        told = False

        def show_first(message: Warning | str, *args: Any, **options: Any) -> None:  # noqa: ANN401 (of `warnings`)
            nonlocal told
            if _CUT.match(str(message)):
                if told:
                    return
                told, message = True, f"{message}; texts of further batches that are cut are not told"
            show(message, *args, **options)

        warnings.showwarning = show_first
        warnings.filterwarnings("always", message=_CUT.pattern)
        yield


def _refuse_with_status(options: Mapping[str, object]) -> None:
    """Refuse options that have no effect with --status."""
    useless = [name for name, value in options.items() if value]
    if useless:
        raise typer.BadParameter(f"{', '.join(useless)}: no effect with --status; leave it out")


def _say_status(out: str, sources: list[str], columns: "Columns", limit: int | None) -> None:
    from jclip_connectors.bulk.embedding import first_rows
    from jclip_connectors.bulk.reports import read_status
    from jclip_connectors.bulk.shards import find_shards

    shards: list[Shard] | None = None
    if sources:
        shards = find_shards(sources, columns=columns, out=out)
        shards = shards if limit is None else first_rows(shards, limit)
    found = read_status(out, shards, columns=columns)
    made = terminal.table("", "")
    if found.shards is not None:
        made.add_row("shards done", f"{found.done} of {found.shards}")
        made.add_row("files of other shards", str(found.files - (found.done or 0)))
    made.add_row("files", str(found.files))
    made.add_row("rows", str(found.rows))
    made.add_row("failed rows", str(found.failed))
    made.add_row("bytes", str(found.size_bytes))
    made.add_row("shards begun", str(found.begun))
    terminal.show(made)


def _say_failures(out: str, names: list[str], report: Path | None) -> None:
    from jclip_connectors.bulk.reports import failed_rows

    failed = failed_rows(out, names)
    if report is not None:
        _write_report(report, failed)
        terminal.say(f"the failed rows are in {report}")
        return
    for row in islice(failed, _NAMED_FAILURES):
        terminal.say(f"  {row.shard} {row.key}: {row.error}", style="red")
    if next(failed, None) is not None:
        terminal.say("  and more; --report FILE.jsonl lists all of them")


def _write_report(path: Path, failed: "Iterator[FailedRow]") -> None:
    """Write the failed rows, of which there may be millions, one by one."""
    written = path.with_name(f".{path.name}.tmp")
    with written.open("w", encoding="utf-8") as file:
        for row in failed:
            file.write(json.dumps({"shard": row.shard, "key": row.key, "error": row.error}) + "\n")
    written.replace(path)
