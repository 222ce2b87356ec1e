"""Tables and numbers as they stand in reports."""

from collections.abc import Iterable, Sequence


def number(value: float) -> str:
    """A share of 1, with four digits."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference, with four digits and its sign; what rounds to 0 has none."""
    text = f"{value:+.4f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int) -> list[str]:
    """The lines of a table; the first columns hold text, the others numbers, on the right."""
    marks = [":--" if at < text_columns else "--:" for at in range(len(heading))]
    return [_row(heading), _row(marks), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
