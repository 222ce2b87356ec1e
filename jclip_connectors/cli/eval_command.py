"""`jclip eval`: the tables of the release notes, the comparison of two runs, and what a store's index finds."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

from core_encoder.models import Precision
from jclip_connectors.cli import terminal
from jclip_connectors.cli.eval_compare_command import compare
from jclip_connectors.cli.eval_store_command import store
from jclip_connectors.cli.options import DeviceOption, RuntimeOption, parse_path
from jclip_connectors.errors import ConnectorError, EmbedInputError
from jclip_connectors.evaluation.figures import RESULTS_FILE, VARIANTS, Results, Variant

_FAILED = 1  # the exit code if a figure is not the published one
_OWN_COLUMNS = 6  # of the main table; the others are about published figures
_TABLES = "tables"  # the action that computes them; its name may be left out


class _Actions(TyperGroup):
    """The actions; what is not the name of one is the name of a table."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (typer's own classes move)
        """Read the arguments; names of tables, and options, go to the action that computes tables."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_TABLES, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Actions,
    help="Compute tables of the models' release notes (jclip eval TABLE...), compare two runs, or measure a store.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="`jclip eval TABLE... --model M` computes tables; `jclip eval tables --help` shows its options.",
)


@app.command(
    _TABLES,
    epilog="Tables: flickr30k, coco, xm3600, multilingual-coco, xtd10, classification, mteb-retrieval-en, mteb-sts-en, "
    "mteb-retrieval-multi, mteb-sts-multi, mieb; `truncation` and `all` stand for several.",
)
def tables(
    names: Annotated[list[str], typer.Argument(metavar="TABLE...", help="Names of tables.", show_default=False)],
    *,
    model: Annotated[
        str,
        typer.Option(
            help="A hub id, a folder with a model, or 'nano'; open_clip:ARCHITECTURE,WEIGHTS or mteb:NAME for a model "
            "that the harness loads itself.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A folder with one folder for each data set, see docs/evaluation.md; 'synthetic' draws small ones.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", parser=parse_path, help="The folder for the results.")] = Path(
        "evaluation"
    ),
    dims: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Lengths of vectors; default: the full one, and all that the model was trained for."
        ),
    ] = None,
    variants: Annotated[
        str, typer.Option(metavar="NAME,...", help=f"How vectors are kept: any of {', '.join(VARIANTS)}, or all.")
    ] = "float32",
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The most pictures or queries of a task, for a first look.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let the harness fetch the data that --data lacks.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="A commit of the model on the hub.")] = None,
    precision: Annotated[Precision, typer.Option(help="Of the model's matrices.")] = "auto",
    device: DeviceOption = None,
    runtime: RuntimeOption = "auto",
    query_prefix: Annotated[
        Literal["auto", "never"],
        typer.Option(help="Whether queries of text retrieval get the model's prefix for queries."),
    ] = "auto",
    expect: Annotated[
        Literal["published"] | None,
        typer.Option(help="Exit with 1 if a figure is further from the published one than docs/evaluation.md says."),
    ] = None,
) -> None:
    """Compute tables of the release notes with the harnesses that made them."""
    from jclip_connectors.evaluation.job import ModelChoice
    from jclip_connectors.evaluation.references import refuse_incomparable
    from jclip_connectors.evaluation.report import REPORT_FILE
    from jclip_connectors.evaluation.running import Evaluation, evaluate

    if data is None and not download:
        raise typer.BadParameter("say where the data are: --data DIR, --data synthetic, or --download")
    if expect is not None:
        refuse_incomparable(data or "", limit)
    choice = ModelChoice.parse(model, revision=revision, precision=precision, runtime=runtime, device=device)
    evaluation = Evaluation(
        model=choice,
        tables=names,
        out=out,
        data="synthetic" if data == "synthetic" else parse_path(out / "data" if data is None else data),
        dimensions=_lengths(dims),
        variants=_variants(variants),
        download=download,
        limit=limit,
        query_prefix=query_prefix,
    )
    try:
        results = evaluate(evaluation, progress=terminal.say)
    except ConnectorError:
        if (out / REPORT_FILE).exists():
            terminal.say(f"what is done: {out / REPORT_FILE}")
        raise
    _show(results)
    terminal.say(f"{len(results.figures)} figures: {out / RESULTS_FILE}; for people: {out / REPORT_FILE}")
    if expect is not None:
        _judge(results)


app.command("compare")(compare)
app.command("store")(store)


def _lengths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        lengths = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise EmbedInputError(f"--dims is {text!r}: write numbers with commas between them, such as 512,64") from None
    if min(lengths) < 1:
        raise EmbedInputError(f"--dims is {text!r}: a vector has at least 1 value")
    return lengths


def _variants(text: str) -> tuple[Variant, ...]:
    names = VARIANTS if text == "all" else tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise EmbedInputError(f"there is no variant {unknown[0]!r}: choose from {', '.join(VARIANTS)}")
    return cast(tuple[Variant, ...], names)


def _show(results: Results) -> None:
    """Print what the release notes would show; columns of published figures only if there are any."""
    from jclip_connectors.evaluation.references import main_rows
    from jclip_connectors.evaluation.report import main_table

    found = main_rows(results)
    columns = slice(None) if any(one.published is not None for one in found) else slice(_OWN_COLUMNS)
    heading, *rows = main_table(found)
    shown = terminal.table(*heading[columns])
    for row in rows:
        shown.add_row(*row[columns])
    terminal.show(shown)


def _judge(results: Results) -> None:
    """Say which figures are not the published ones.

    Raises:
        Exit: there are some.
    """
    from jclip_connectors.evaluation.references import judge

    judged = judge(results)
    failed = [one for one in judged if one.failed]
    for one in failed:
        terminal.say(f"not as published: {one.verdict}", style="red")
    terminal.say(f"{len(judged) - len(failed)} of {len(judged)} figures that can be judged are as published")
    if failed:
        raise typer.Exit(_FAILED)
