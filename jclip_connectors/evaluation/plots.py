"""Plots of an evaluation, as SVG: what shorter and rounded vectors keep, and recall against speed.

Equal figures give equal files. matplotlib, of the extra `eval`, is imported only when something is drawn.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jclip_connectors.evaluation.figures import VARIANTS, Results, Variant, read_results
from jclip_connectors.evaluation.means import Row, headline_groups, lengths, table_rows
from jclip_connectors.evaluation.variants import bytes_searched

if TYPE_CHECKING:
    from jclip_connectors.evaluation.store_recall import RecallPoint

_PANELS = 2  # of a plot of variants: the first metrics
_INCHES = 4.0  # the height of a plot
_MARKERS = "osD^vPX"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def plot_names(out: Path, results: Results) -> list[str]:
    """The names of the plots that are in the folder `out`, in the order of the tables."""
    names = [name for table in results.tables for name in (_sweep_name(table), _variants_name(table))]
    return [name for name in names if (out / name).exists()]


def write_plots(out: Path) -> list[str]:
    """Draw the figures of the `results.json` of the folder `out`; returns the names of the files.

    A table has a plot of the lengths of vectors if there are several, and one of the bytes of a vector if there are
    rounded ones. Without matplotlib nothing is drawn. Plots of earlier results are removed.

    Raises:
        EvaluationError: there are no results.
    """
    results = read_results(out)
    for name in plot_names(out, results):
        (out / name).unlink()
    if not can_plot():
        return []
    found = lengths(results)
    used = [variant for variant in VARIANTS if any(figure.variant == variant for figure in results.figures)]
    settings = [(length, variant) for length in found for variant in used]
    rows = {(length, variant): table_rows(results, dimensions=length, variant=variant) for length, variant in settings}
    for group in headline_groups(row for of_setting in rows.values() for row in of_setting):
        table = group[0].table.name
        values = {
            (row.metric, row.variant, row.dimensions): row.value
            for of_setting in rows.values()
            for row in of_setting
            if (row.table.name, row.what) == (table, group[0].what) and row.value is not None
        }
        metrics = [
            metric for metric in dict.fromkeys(row.metric for row in group) if any(metric in key for key in values)
        ]
        if len(found) > 1 and any(variant == "float32" for _, variant, _ in values):
            _sweep_plot(group[0], metrics, values, out / _sweep_name(table))
        if len(used) > 1 and metrics:
            _variants_plot(group[0], metrics[:_PANELS], values, out / _variants_name(table))
    return plot_names(out, results)


def recall_plot(points: Sequence["RecallPoint"], path: Path) -> None:
    """Draw recall against queries a second, for settings of a store's search: the mean, and the worst query.

    Args:
        points: of one store; those whose settings name the same options are joined.
        path: the file, SVG.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; `can_plot` tells.
    """

    def draw(figure: Any) -> None:  # noqa: ANN401 (matplotlib is imported late)
        axes = figure.subplots()
        by_options = sorted(points, key=lambda point: tuple(point.setting))
        for at, (options, of_family) in enumerate(groupby(by_options, key=lambda point: tuple(point.setting))):
            family = sorted(of_family, key=lambda point: tuple(point.setting.values()))
            speeds = [point.queries_per_second for point in family]
            name, mark, colour = " and ".join(options) or "its own setting", _MARKERS[at % len(_MARKERS)], f"C{at}"
            means = [point.recall_mean for point in family]
            axes.plot(means, speeds, marker=mark, color=colour, label=f"{name}: mean")
            worst = [point.recall_min for point in family]
            axes.plot(worst, speeds, f"{mark}--", color=colour, markerfacecolor="white", label=f"{name}: worst query")
            for point in family:
                text = ", ".join(map(str, point.setting.values()))
                place = point.recall_mean, point.queries_per_second
                axes.annotate(text, place, xytext=(6, 5), textcoords="offset points", fontsize=8)
        axes.set_yscale("log")
        axes.set_xlabel("recall: share of the nearest records that are found")
        axes.set_ylabel("queries a second, one thread")
        axes.margins(x=0.12, y=0.15)
        _legend(figure, axes)

    _save(draw, path, width=6.5)


def _sweep_name(table: str) -> str:
    return f"dimensions-{table}.svg"


def _variants_name(table: str) -> str:
    return f"bytes-{table}.svg"


def _sweep_plot(row: Row, metrics: Sequence[str], values: dict[tuple[str, Variant, int], float], path: Path) -> None:
    def draw(figure: Any) -> None:  # noqa: ANN401 (matplotlib is imported late)
        axes = figure.subplots()
        for at, metric in enumerate(metrics):
            points = sorted(
                (length, value)
                for (of, variant, length), value in values.items()
                if (of, variant) == (metric, "float32")
            )
            axes.plot(*zip(*points, strict=True), marker=_MARKERS[at % len(_MARKERS)], label=metric)
        _lengths_axis(axes, {length for _, _, length in values}, "values of a vector")
        axes.set_ylabel("metric")
        axes.set_title(row.title, fontsize=10)
        _legend(figure, axes)

    _save(draw, path, width=6.5)


def _variants_plot(row: Row, metrics: Sequence[str], values: dict[tuple[str, Variant, int], float], path: Path) -> None:
    def draw(figure: Any) -> None:  # noqa: ANN401 (matplotlib is imported late)
        panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            sizes: set[int] = set()
            for at, one in enumerate(VARIANTS):
                points = sorted(
                    (bytes_searched(length, variant), value)
                    for (of, variant, length), value in values.items()
                    if (of, variant) == (metric, one)
                )
                if points:
                    sizes.update(size for size, _ in points)
                    axes.plot(
                        *zip(*points, strict=True), marker=_MARKERS[at], color=f"C{at}", label=one.replace("_", ", ")
                    )
            _lengths_axis(axes, sizes, "bytes of a vector that a search reads")
            axes.set_title(metric, fontsize=10)
        panels[0].set_ylabel("metric")
        figure.suptitle(row.title, fontsize=10)
        _legend(figure, panels[0])

    _save(draw, path, width=4.5 * len(metrics) + 1)


def _lengths_axis(axes: Any, sizes: Iterable[int], label: str) -> None:  # noqa: ANN401 (matplotlib is imported late)
    ticks = sorted(sizes)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(size) for size in ticks], rotation=45 if len(ticks) > 7 else 0, fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel(label)


def _legend(figure: Any, axes: Any) -> None:  # noqa: ANN401 (matplotlib is imported late)
    """Below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8, frameon=False)


def _save(draw: Callable[[Any], None], path: Path, *, width: float) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "jclip"}):  # the ids in the file are the same each time
        figure = Figure(figsize=(width, _INCHES), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        for axes in figure.axes:
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})
