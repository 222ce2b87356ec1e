"""A comparison of two evaluations as files and as a table."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from jclip_connectors.evaluation.bootstrap import CONFIDENCE, RESAMPLES, SEED
from jclip_connectors.evaluation.comparison import LEVEL, Comparison, PartDifference
from jclip_connectors.evaluation.markdown import markdown_table, number, signed
from jclip_connectors.store_kit.files import replace_file

_EXPLANATION = f"""\
The paired bootstrap draws the queries of a table {RESAMPLES} times; those of one picture are drawn together. p tells
how often a difference like this would come about by chance; p (Holm) allows for the number of rows with the same
lengths and variant. A difference is taken as shown if p (Holm) is at most {LEVEL:.2f}."""


def write_comparison(out: Path, comparisons: Sequence[Comparison], *, notes: Iterable[str] = ()) -> None:
    """Write `comparison.json` and `comparison.md` into the folder `out`; equal comparisons give equal files.

    Args:
        out: a folder; it is made.
        comparisons: what `compare_runs` found.
        notes: lines for the reader, such as what A and B are, and what was left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    said = list(notes)
    content = {
        "format": 1,
        "resamples": RESAMPLES,
        "seed": SEED,
        "confidence": CONFIDENCE,
        "notes": said,
        "comparisons": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in comparisons],
    }
    replace_file(out / "comparison.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    replace_file(out / "comparison.md", comparison_report(comparisons, notes=said).encode())


def comparison_table(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Rows of text, the heading first: what a terminal or a page shows."""
    heading = ["table", "metric", "values", "variant", "A", "B", "B - A", "95 % interval", "p", "p (Holm)"]
    return [heading, *([*_place(row), *_outcome(row), _p(row.p), _p(row.p_holm)] for row in comparisons)]


def comparison_report(comparisons: Sequence[Comparison], *, notes: Iterable[str] = ()) -> str:
    """The comparison as Markdown."""
    heading, *rows = comparison_table(comparisons)
    lines = ["# Comparison of two evaluations", "", *(f"- {note}" for note in notes), ""]
    lines += [f"- {row.verdict}" for row in comparisons]
    lines += ["", *markdown_table(heading, rows, text_columns=4), ""]
    lines += [_EXPLANATION, ""]
    for row in comparisons:
        if len(row.parts) > 1:
            lines += [f"## {', '.join(_place(row))}", ""]
            parts = [
                [part.task, part.split, part.language, *_outcome(part), str(part.queries), str(part.clusters)]
                for part in row.parts
            ]
            heading = ["task", "split", "language", "A", "B", "B - A", "95 % interval", "queries", "clusters"]
            lines += [*markdown_table(heading, parts, text_columns=3), ""]
    return "\n".join(lines)


def _place(row: Comparison) -> list[str]:
    lengths = dict.fromkeys((row.dimensions_a, row.dimensions_b))
    return [row.table, row.metric, " / ".join(map(str, lengths)), row.variant]


def _outcome(row: Comparison | PartDifference) -> list[str]:
    span = f"{signed(row.low)} to {signed(row.high)}"
    return [number(row.a), number(row.b), signed(row.difference), span]


def _p(value: float) -> str:
    least = 2 / RESAMPLES
    return f"< {least:.4f}" if value < least else f"{value:.3g}" if value < 0.01 else f"{value:.2f}"
