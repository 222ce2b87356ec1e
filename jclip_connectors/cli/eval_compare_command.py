"""`jclip eval compare`: which of two evaluations is better, and whether that may be chance."""

from pathlib import Path
from typing import Annotated

import typer

from jclip_connectors.cli import terminal
from jclip_connectors.cli.options import parse_path

_NAMED = 5  # of what only one evaluation has


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", parser=parse_path, help="The folder of an evaluation.")],
    run_b: Annotated[
        Path, typer.Argument(metavar="RUN_B", parser=parse_path, help="That of another, over the same data.")
    ],
    *,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this metric, such as ndcg@10 or text_retrieval_recall@5.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=parse_path, help="Write comparison.md and comparison.json into this folder."
        ),
    ] = None,
) -> None:
    """Compare two evaluations query by query: differences, their 95 % intervals, and whether they may be chance."""
    from jclip_connectors.evaluation.comparison import compare_runs
    from jclip_connectors.evaluation.comparison_report import comparison_table, write_comparison
    from jclip_connectors.evaluation.figures import read_results
    from jclip_connectors.evaluation.paired_runs import left_out
    from jclip_connectors.evaluation.references import model_name

    rows = compare_runs(run_a, run_b, metric=metric)
    sides = [
        f"{side} is {model_name(read_results(folder))} in {folder}" for side, folder in (("A", run_a), ("B", run_b))
    ]
    single = left_out(run_a, run_b)
    for note in sides:
        terminal.say(note)
    for one in single[:_NAMED]:
        terminal.say(f"not compared: {one}", style="yellow")
    if len(single) > _NAMED:
        terminal.say(f"not compared: {len(single) - _NAMED} more")
    heading, *lines = comparison_table(rows)
    table = terminal.table(*heading)
    for line in lines:
        table.add_row(*line)
    terminal.show(table)
    for row in rows:
        if (row.dimensions_a, row.variant) == (rows[0].dimensions_a, rows[0].variant):  # the longest, in full
            terminal.say(row.verdict)
    if out is not None:
        write_comparison(out, rows, notes=[*sides, *(f"not compared: {one}" for one in single)])
        terminal.say(f"the comparison of every task and language: {out / 'comparison.md'}")
