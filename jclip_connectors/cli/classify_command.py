"""`jclip classify`: which of some labels is nearest to each picture."""

import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from jclip_connectors.cli import terminal
from jclip_connectors.cli.classification import Account, Classified, classify_files, load_classifier, pictures_of
from jclip_connectors.cli.classified_output import NONE, CsvWriter, JsonWriter, Sheet, TableWriter, Writer, counted
from jclip_connectors.cli.label_lines import read_labels, read_templates
from jclip_connectors.cli.options import (
    DeviceOption,
    MaxBytesOption,
    MaxPixelsOption,
    RenderingOption,
    ResamplingOption,
    RuntimeOption,
    check_output,
    configuration,
    parse_existing_file,
    parse_path,
)
from jclip_connectors.cli.progress_bar import progress as show_progress
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.indexing import find_files

CLASSIFY_NOTES = (
    "The score of a label is the cosine of its vector with the picture's. It is not a probability: a right label has "
    "0.3 with one model and 0.5 with another. It puts labels in order, and pictures for one label. Exit code 1 means "
    "that some pictures could not be read; the others are classified."
)
_FAILED = 1  # the exit code if some pictures could not be read


def classify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", parser=parse_path, help="Pictures, or folders.", show_default=False)
    ],
    *,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_existing_file, help="The labels, one a line, in any language."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A label; may be given several times.")
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=parse_existing_file, help="Templates, one a line: a label's vector is the mean."
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A text with {} in the place of the label, such as 'a photo of a {}'; may be given several times.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="A hub id, a folder with a model, or 'nano'.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Number of values to compare of each vector.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to show for each picture.")] = 5,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Show also a probability, which is among these labels and no others.")
    ] = False,
    where_none: Annotated[
        float | None,
        typer.Option(metavar="COSINE", min=-1, max=1, help=f"Below this cosine a picture is '{NONE}'."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_path, help="Write a page with the pictures of each label."),
    ] = None,
    rendering: RenderingOption = None,
    resampling: ResamplingOption = None,
    max_pixels: MaxPixelsOption = None,
    max_bytes: MaxBytesOption = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
) -> None:
    """Find which of some labels is nearest to each picture, without any training."""
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other: choose one")
    names = read_labels(labels, label if label is not None else ())
    forms = read_templates(templates, template if template is not None else ())
    if where_none is not None and NONE in names:
        raise EmbedInputError(f"{NONE!r} is a label and what --where-none says: leave out one of them")
    check_output(html)
    found = find_files(files)
    pictures = pictures_of(found)
    config = configuration(
        None,
        model=model,
        dimensions=dimensions,
        rendering=rendering,
        resampling=resampling,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
    )
    if config.tiling is not None:
        terminal.say("note: JCLIP_TILES has no effect: each picture is classified as a whole", style="yellow")
    terminal.say(f"{counted(len(pictures))}, {counted(len(names), 'label')}; model {config.model}")
    classifier = load_classifier(config, names, forms, device=device, runtime=runtime)
    account, sheet = Account(failed=list(found.failed)), Sheet(names, least=where_none)
    writer: Writer = TableWriter(probabilities=softmax)
    if as_json or as_csv:
        writer = JsonWriter(sys.stdout) if as_json else CsvWriter(sys.stdout, probabilities=softmax)
    with show_progress() as progress:
        results = classify_files(
            classifier,
            pictures,
            config,
            account,
            top=top,
            probabilities=softmax,
            least=where_none,
            progress=progress,
        )
        with closing(results):
            shown = _written(results, writer, sheet)
    for result in shown:
        writer.add(result)
    writer.end()
    _say(account, left_out=len(found.left_out) + len(found.files) - len(pictures))
    if html is not None:  # after the results are printed, as it may fail
        sheet.write(html, rendering=config.rendering, limits=config.image_limits)
    if account.failed:
        raise typer.Exit(_FAILED)


def _written(results: Iterable[Classified], writer: Writer, sheet: Sheet) -> list[Classified]:
    """Write results as they come; on a terminal, where they would tear the bar apart, give them back for later."""
    later: list[Classified] = []
    add = later.append if terminal.is_terminal(sys.stdout) else writer.add
    for result in results:
        sheet.add(result)
        add(result)
    return later


def _say(account: Account, *, left_out: int) -> None:
    terminal.say(f"{account.classified} classified, {len(account.failed)} failed")
    for bad in account.failed:
        terminal.say(f"  {bad.path}: {bad.error}", style="red")
    for note, count in account.notes.most_common():
        terminal.say(f"note: {counted(count)}: {note}", style="yellow")
    if left_out:
        what = "file that is no picture, or is hidden" if left_out == 1 else "files that are no pictures, or are hidden"
        terminal.say(f"left out: {left_out} {what}")
