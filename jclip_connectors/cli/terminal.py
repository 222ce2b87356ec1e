"""The output of `jclip`: lines on stderr, tables on stdout.

The stream itself is asked whether it is a terminal: the variable FORCE_COLOR, which many CI systems set, asks for
colours in a pipe as well, and nothing may be cut there.
"""

import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jclip_connectors.port import SearchHit

if TYPE_CHECKING:
    from jclip_connectors.cli.contact_sheet import Section
    from jclip_connectors.indexing import BadFile, FileNote, LeftOut

_NAMED_FAILURES = 10  # all are in the report
_NAMED_NOTES = 3  # files of each kind
_NAMED_KINDS = 10  # of files that were left out
_PIPE_WIDTH = 1_000_000  # so that nothing is cut or wrapped in a pipe or a file
# Characters that change the order of the text around them. Source: Unicode Standard Annex 9, section 2.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of surrogate pairs, separators of lines and paragraphs
_OTHER_COLUMNS = 45  # characters of a row besides the name


def say(message: str, *, style: str = "") -> None:
    """Print a line for people, on stderr."""
    shown = printable(message, terminal=is_terminal(sys.stderr))
    Console(stderr=True).print(Text(shown, style=style), soft_wrap=True)


def show(line: Text | Table) -> None:
    """Print a result, on stdout."""
    _console().print(line, soft_wrap=isinstance(line, Text))


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table."""
    made = Table(title=None if title is None else Text(printable(title)), title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def hits_table(hits: Sequence[SearchHit]) -> Table:
    """Search results as a table: rank, score, file and how many are equal to it, and the nearest tile."""
    room = max(20, _console().width - _OTHER_COLUMNS)
    with_boxes = any(hit.box is not None for hit in hits)
    made = table("", "score", "file", *(["nearest tile"] if with_boxes else []))
    for rank, hit in enumerate(hits, start=1):
        name = _elide(printable(path_of(hit), terminal=is_terminal(sys.stdout)), room)
        name += f" (+{len(hit.duplicates)} equal)" if hit.duplicates else ""
        box = [] if not with_boxes else ["" if hit.box is None else ", ".join(map(str, hit.box))]
        made.add_row(str(rank), f"{hit.score:.4f}", Text(name), *box)
    return made


def path_of(hit: SearchHit) -> str:
    """The path of the file that was found, or the id of a record that is of no file."""
    return hit.uri if hit.uri is not None else str(hit.metadata.get("path", hit.record_id))


def print_paths(hits: Sequence[SearchHit], *, end: bytes) -> None:
    """Print nothing but paths, on stdout: the exact bytes of each, and `end`."""
    sys.stdout.flush()
    for hit in hits:
        sys.stdout.buffer.write(os.fsencode(path_of(hit)) + end)
    sys.stdout.buffer.flush()


def answer_table(answer: "Section", captions: Mapping[str, str]) -> Table:
    """Search results of the demo, with each picture's description and whether it is right."""
    made = table("", "score", "picture", "shows", "", title=answer.heading)
    for rank, hit in enumerate(answer.hits, start=1):
        mark = Text("✓", style="green") if hit.record_id in answer.right_ids else Text("-")
        made.add_row(str(rank), f"{hit.score:.4f}", Path(hit.record_id).name, captions[hit.record_id], mark)
    return made


def say_failures(failed: "Sequence[BadFile]", report: Path | None) -> None:
    """Name the failed files, or the first ten if there are more."""
    say_failed([(bad.path, bad.error) for bad in failed], report)


def say_failed(failed: Sequence[tuple[str, str]], report: Path | None) -> None:
    """Name what failed and why, or the first ten if there are more; `report` is the file that lists all."""
    for name, error in failed[:_NAMED_FAILURES]:
        say(f"  {name}: {error}", style="red")
    if len(failed) > _NAMED_FAILURES:
        where = "--report FILE.jsonl lists all of them" if report is None else f"all of them are in {report}"
        say(f"  and {len(failed) - _NAMED_FAILURES} more; {where}")


def say_left_out(left_out: "Sequence[LeftOut]", report: Path | None) -> None:
    """Count the files and folders that were left out by kind, the most frequent kinds first."""
    if not left_out:
        return
    kinds = Counter(item.kind for item in left_out).most_common()
    named = [f"{count} {kind}" for kind, count in kinds[:_NAMED_KINDS]]
    if len(kinds) > _NAMED_KINDS:
        named.append(f"{sum(count for _, count in kinds[_NAMED_KINDS:])} of {len(kinds) - _NAMED_KINDS} more kinds")
    where = "--report FILE.jsonl lists them" if report is None else f"they are listed in {report}"
    say(f"left out: {', '.join(named)}; {where}")


def say_notes(notes: "Sequence[FileNote]", report: Path | None) -> None:
    """Say once what there is to say about files that were indexed, with their number and the first of them."""
    by_kind: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        by_kind.setdefault((note.kind, note.text), []).append(note.path)
    for (kind, text), paths in by_kind.items():
        what = "texts" if kind == "text_cut" else "pictures"
        option = "; index them with --tiles 9" if kind == "centre_only" else ""
        more = f" and {len(paths) - _NAMED_NOTES} more" if len(paths) > _NAMED_NOTES else ""
        named = ", ".join(paths[:_NAMED_NOTES])
        say(f"note: {len(paths)} {what}: {text}{option} ({named}{more})", style="yellow")
    if report is None and any(len(paths) > _NAMED_NOTES for paths in by_kind.values()):
        say("  --report FILE.jsonl lists all of them")


def printable(text: str, *, terminal: bool = True) -> str:
    """Escape characters that could move the cursor or cannot be encoded: a file name may contain them.

    Args:
        text: of any language and script; it is not changed but for such characters.
        terminal: whether a person looks at the result: the marks of Unicode that reverse the order of the text around
            them are escaped as well, because they can make a name look like another one.
    """
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in _CONTROLS or (terminal and c in _DIRECTIONS)
        else c
        for c in text
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at a stream."""
    return stream is not None and stream.isatty()


def _console() -> Console:
    return Console() if is_terminal(sys.stdout) else Console(width=_PIPE_WIDTH)


def _elide(text: str, room: int) -> str:
    """The text, without its middle if it is long, because the end of a path matters most."""
    if len(text) <= room:
        return text
    head = (room - 1) // 3
    return f"{text[:head]}…{text[len(text) - (room - 1 - head) :]}"
