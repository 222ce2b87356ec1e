"""How `jclip classify` writes its results: a table, JSON, CSV, and a page with pictures."""

import csv
import heapq
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from rich.text import Text

from core_encoder.image_limits import ImageLimits
from core_encoder.rendering import Rendering
from jclip_connectors.cli import terminal
from jclip_connectors.cli.classification import Classified
from jclip_connectors.port import SearchHit

if TYPE_CHECKING:
    from core_encoder.zero_shot import LabelScore

NONE = "none of these"
_PROBABILITY = "probability among these labels"
_TABLE_ROWS = 1000  # a long run has several tables, as a table is made as a whole
_SHOWN = 48  # pictures of a label on the page
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a cell that begins so


def counted(number: int, what: str = "picture") -> str:
    """A number and its noun: "1 picture", "2 pictures"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Writer(Protocol):
    """Takes the results one after another."""

    def add(self, result: Classified) -> None:
        """Take a result."""
        ...

    def end(self) -> None:
        """Write what is left."""
        ...


class TableWriter:
    """A row for each picture: its label, the cosine, and the labels that come next."""

    def __init__(self, *, probabilities: bool) -> None:
        """Begin without a row."""
        self._probabilities = probabilities
        self._rows: list[Classified] = []
        self._written = 0

    def add(self, result: Classified) -> None:
        """Take a result."""
        self._rows.append(result)
        if len(self._rows) == _TABLE_ROWS:
            self._show()

    def end(self) -> None:
        """Write what is left; the columns at least."""
        if self._rows or not self._written:
            self._show()

    def _show(self) -> None:
        further = any(len(_further(row)) > 0 for row in self._rows)
        numbers = ["cosine", *([_PROBABILITY] if self._probabilities else [])]
        table = terminal.table("file", "label", *numbers, *(["next"] if further else []))
        on_terminal = terminal.is_terminal(sys.stdout)
        for row in self._rows:
            first = row.scores[0]
            cells = [row.path, row.label, f"{first.score:.4f}"] if row.label is not None else [row.path, NONE, ""]
            if first.probability is not None:
                cells.append(f"{first.probability:.4f}" if row.label is not None else "")
            if further:
                cells.append(", ".join(f"{one.label} {one.score:.4f}" for one in _further(row)))
            table.add_row(*(Text(terminal.printable(cell, terminal=on_terminal)) for cell in cells))
        terminal.show(table)
        self._written += len(self._rows)
        self._rows.clear()


def _further(row: Classified) -> "Sequence[LabelScore]":
    """The labels that are not in the column of labels."""
    return row.scores if row.label is None else row.scores[1:]


class JsonWriter:
    """One JSON document: a list with an object for each picture, written as they come."""

    def __init__(self, stream: TextIO) -> None:
        """Begin without an object."""
        self._stream = stream
        self._separator = "[\n"

    def add(self, result: Classified) -> None:
        """Write a result."""
        document = {"path": result.path, "label": result.label, "scores": list(map(_as_json, result.scores))}
        self._stream.write(self._separator + _indented(json.dumps(document, indent=2)))
        self._separator = ",\n"

    def end(self) -> None:
        """Close the list."""
        self._stream.write("[]\n" if self._separator == "[\n" else "\n]\n")
        self._stream.flush()


def _as_json(score: "LabelScore") -> dict[str, Any]:
    found: dict[str, Any] = {"label": score.label, "cosine": score.score}
    return found if score.probability is None else {**found, _PROBABILITY.replace(" ", "_"): score.probability}


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


class CsvWriter:
    """A row for each of the nearest labels of each picture; no cell is a formula."""

    def __init__(self, stream: TextIO, *, probabilities: bool) -> None:
        """Begin without a row."""
        self._rows = csv.writer(stream, lineterminator="\n")
        self._stream = stream
        self._header: list[str] | None = ["path", "result", "rank", "label", "cosine"]
        self._header += [_PROBABILITY] if probabilities else []

    def add(self, result: Classified) -> None:
        """Write a result."""
        self._begin()
        for rank, one in enumerate(result.scores, start=1):
            shown = NONE if result.label is None else result.label
            numbers = [f"{one.score:.6f}", *([] if one.probability is None else [f"{one.probability:.6f}"])]
            self._rows.writerow([_cell(result.path), _cell(shown), rank, _cell(one.label), *numbers])

    def end(self) -> None:
        """Write the header if there is no row."""
        self._begin()
        self._stream.flush()

    def _begin(self) -> None:
        if self._header is not None:
            self._rows.writerow(self._header)
            self._header = None


def _cell(text: str) -> str:
    """The text as a cell that no spreadsheet computes.

    Source: OWASP, "CSV Injection".
    """
    text = terminal.printable(text, terminal=False)
    return f"'{text}" if text.startswith(_FORMULAS) else text


class Sheet:
    """Keeps the best pictures of each label for a page; a label has no more than 48."""

    def __init__(self, labels: Sequence[str], *, least: float | None) -> None:
        """Begin without a picture; `least` is the cosine below which a picture has no label."""
        self._least = least
        self._counts: dict[str | None, int] = dict.fromkeys((*labels, None), 0)
        self._best: dict[str | None, list[tuple[float, int, str]]] = {label: [] for label in self._counts}
        self._order = itertools.count()

    def add(self, result: Classified) -> None:
        """Take a result."""
        self._counts[result.label] += 1
        best = self._best[result.label]
        # Of equally near pictures the earlier ones are kept, and come first.
        heapq.heappush(best, (result.scores[0].score, -next(self._order), result.path))
        if len(best) > _SHOWN:
            heapq.heappop(best)

    def write(self, path: Path, *, rendering: Rendering, limits: ImageLimits) -> None:
        """Write the page: a section for each label that has pictures, in the order of the labels.

        Raises:
            OSError: it cannot be written.
        """
        from jclip_connectors.cli.contact_sheet import Section, write_contact_sheet  # pictures take long to load

        sections = [
            Section(heading=self._heading(label), hits=[_as_hit(score, path) for score, _, path in sorted(best)[::-1]])
            for label, best in self._best.items()
            if best
        ]
        write_contact_sheet(path, "jclip classify", sections, rendering=rendering, limits=limits)

    def _heading(self, label: str | None) -> str:
        count, shown = self._counts[label], len(self._best[label])
        name = f"{NONE}: no cosine of {self._least:g} or more" if label is None else label
        return f"{name} ({counted(count)}{f', the nearest {shown}' if shown < count else ''})"


def _as_hit(score: float, path: str) -> SearchHit:
    return SearchHit(score=score, record_id=path, modality="image", metadata={}, uri=path)
