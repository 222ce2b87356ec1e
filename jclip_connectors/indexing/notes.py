"""What there is to say about files that were indexed: of which only a part counts, or which were mended."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FileNote:
    """One thing to know about a file that was indexed.

    Attributes:
        path: its path.
        kind: a word that is equal for all notes of the kind.
        text: the same as a phrase for people.
    """

    path: str
    kind: str
    text: str


class FileNotes:
    """Collects the notes of an embedder on files: it is passed as `on_note` to a `LocalEmbedder`, and to `index_files`.

    Attributes:
        notes: the notes so far, in the order in which they came.
    """

    def __init__(self) -> None:
        """Start without notes."""
        self.notes: list[FileNote] = []
        self._paths: Mapping[str, str] = {}

    def expect(self, texts: Mapping[str, str]) -> None:
        """Tell which files have the texts that are embedded next: an embedder knows texts by their content alone.

        Args:
            texts: the path of the file with each text.
        """
        self._paths = texts

    def __call__(self, item: object, kind: str, text: str) -> None:
        """Add a note on an image, which is a path, or on one of the expected texts."""
        path = str(item) if isinstance(item, Path) else self._paths.get(str(item))
        if path is not None:
            self.notes.append(FileNote(path=path, kind=kind, text=text))
