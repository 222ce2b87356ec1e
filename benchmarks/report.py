"""Tables, JSON, and rows for benchmarks/README.md."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row, interval_of_median


def print_environment(found: Mapping[str, object]) -> None:
    """One line a fact."""
    for name, value in found.items():
        print(f"{name}: {value}")


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print a line for each row."""
    table = Table(title=title, title_justify="left")
    for column in ("comparison", "baseline", "ours", "measured (95 %)", "rounds", "bar", "hope"):
        table.add_column(column, justify="left" if column == "comparison" else "right")
    for row in rows:
        table.add_row(
            row.what,
            _milliseconds(row.details.get("baseline_s")),
            _milliseconds(row.details.get("ours_s")),
            row.measured,
            str(len(row.values)),
            row.verdict(row.bar),
            row.verdict(row.hope),
        )
    Console(width=160).print(table)


def _milliseconds(seconds: object) -> str:
    if not isinstance(seconds, list):
        return ""
    return f"{interval_of_median(seconds)[0] * 1000:.1f} ms"


def write_json(path: Path, *, name: str, quick: bool, found: Mapping[str, object], rows: Sequence[Row]) -> None:
    """Write everything that was measured.

    Args:
        path: of the file; it is replaced.
        name: the benchmark's.
        quick: whether the sizes were tiny.
        found: the environment.
        rows: the results.
    """
    written = [
        asdict(row)
        | dict(
            zip(("median", "low", "high"), interval_of_median(row.values) if row.values else [None] * 3, strict=True)
        )
        | {"measured": row.measured, "bar_verdict": row.verdict(row.bar), "hope_verdict": row.verdict(row.hope)}
        for row in rows
    ]
    document = {"benchmark": name, "mode": "quick" if quick else "full", "environment": found, "rows": written}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def markdown_rows(document: Mapping[str, object]) -> list[str]:
    """The rows of one benchmark's JSON as lines for the table of benchmarks/README.md."""
    rows = document["rows"]
    command = f"`python -m benchmarks.{document['benchmark']} --{document['mode']}`"
    if not isinstance(rows, list):
        raise TypeError(f"`rows` must be a list, not {rows!r}")
    return [
        f"| {row['what']} | {row['bar_verdict']} | {row['hope_verdict']} | {row['measured']} | {command} |"
        for row in rows
    ]
