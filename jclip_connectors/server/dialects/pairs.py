"""Requests whose rows have a text, an image, or both: rows to items, and vectors back to rows."""

from collections.abc import Iterable
from dataclasses import dataclass

from jclip_connectors.server.dialects.encodings import encode_vector
from jclip_connectors.server.requests import Answer, Item, RequestError


@dataclass(frozen=True)
class Pairs:
    """The items of several rows.

    Attributes:
        num_rows: number of rows.
        items: of all rows, one row after the other.
        rows: row number of each item, which errors use to name it.
        names: the name of each item's vector in its row.
    """

    num_rows: int
    items: tuple[Item, ...]
    rows: tuple[int, ...]
    names: tuple[str, ...]

    @staticmethod
    def of(rows: Iterable[dict[str, Item]]) -> "Pairs":
        """List the items of all rows; each row has its items keyed by the names of their vectors."""
        listed = list(rows)
        flat = [(item, number, name) for number, row in enumerate(listed) for name, item in row.items()]
        items, numbers, names = zip(*flat, strict=True) if flat else ((), (), ())
        return Pairs(len(listed), items, numbers, names)

    def write(self, answer: Answer) -> list[dict[str, object]]:
        """Put the vectors into their rows."""
        rows: list[dict[str, object]] = [{} for _ in range(self.num_rows)]
        for row, name, vector in zip(self.rows, self.names, answer.vectors, strict=True):
            if not isinstance(vector, RequestError):
                rows[row][name] = encode_vector(vector, "float")
        return rows
