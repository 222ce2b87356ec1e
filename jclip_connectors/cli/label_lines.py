"""Labels and templates of the command line: lines of a file, and options; what is wrong is named by its line."""

from collections.abc import Callable, Sequence
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.labels import check_labels, check_templates
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.indexing.files import read_text

WHOLE_LABEL = "{}"  # the template of a label by itself


def read_labels(file: Path | None, options: Sequence[str]) -> tuple[str, ...]:
    """Read the labels of `--labels FILE`, one a line, and of `--label TEXT`.

    Raises:
        EmbedInputError: the file cannot be read or is not text; a label is blank or repeated; or there are none.
    """
    if file is None and not options:
        raise EmbedInputError("there are no labels: name a file with --labels FILE, or give each with --label TEXT")
    return _read(file, options, "--label", check_labels)


def read_templates(file: Path | None, options: Sequence[str]) -> tuple[str, ...]:
    """Read the templates of `--templates FILE`, one a line, and of `--template TEXT`; the bare label if there are none.

    Raises:
        EmbedInputError: as for `read_labels`; or a template has no place for the label.
    """
    if file is None and not options:
        return (WHOLE_LABEL,)
    return _read(file, options, "--template", check_templates)


def _read(
    file: Path | None, options: Sequence[str], option: str, check: Callable[[Sequence[str], Sequence[str]], None]
) -> tuple[str, ...]:
    lines = [] if file is None else _lines(file)
    places = [f"line {number} of {str(file)!r}" for number in range(1, len(lines) + 1)]
    places += [f"{option} number {number}" for number in range(1, len(options) + 1)]
    texts = tuple(text.strip() for text in (*lines, *options))
    try:
        check(texts, places)
    except InputError as error:
        raise EmbedInputError(str(error)) from error
    return texts


def _lines(file: Path) -> list[str]:
    try:
        text = read_text(file)
    except EmbedInputError as error:
        raise EmbedInputError(f"{str(file)!r}: {error}") from error
    return text.removesuffix("\n").split("\n")  # a carriage return before it is white space
