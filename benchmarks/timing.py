"""Interleaved timing: every side once a round, so that a machine that slows down slows all of them down."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table


def interleave(sides: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Run every side once without a clock, then `rounds` times in turn; seconds of each run by side."""
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(baseline: list[float], ours: list[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of the ratio within a round."""
    ratios = [theirs / mine for theirs, mine in zip(baseline, ours, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def print_table(title: str, rows: Sequence[tuple[str, list[float], list[float], float | None]]) -> None:
    """Print a line per comparison: (what, baseline seconds, our seconds, ratio that is claimed or `None`)."""
    table = Table(title=title, title_justify="left")
    for column in ("comparison", "baseline", "ours", "ratio", "spread", "claimed"):
        table.add_column(column, justify="left" if column == "comparison" else "right")
    for what, baseline, ours, claimed in rows:
        median, low, high = ratio(baseline, ours)
        table.add_row(
            what,
            f"{statistics.median(baseline) * 1000:.1f} ms",
            f"{statistics.median(ours) * 1000:.1f} ms",
            f"{median:.2f} x",
            f"{low:.2f} - {high:.2f}",
            "" if claimed is None else f">= {claimed} x " + ("(met)" if median >= claimed else "(MISSED)"),
        )
    Console(width=140).print(table)
