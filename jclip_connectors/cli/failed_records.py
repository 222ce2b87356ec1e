"""Records that a command could not carry to a collection: the first ones are named, and a file lists all."""

import json
from collections.abc import Mapping
from pathlib import Path

from jclip_connectors.cli import terminal
from jclip_connectors.store_kit.files import replace_file


def say_records(failed: Mapping[str, str], report: Path | None) -> None:
    """Name some of the records, and write all of them to the report file, if there is one.

    Args:
        failed: why a record failed, by its id.
        report: the file.

    Raises:
        OSError: the file cannot be written.
    """
    terminal.say_failed(list(failed.items()), report)
    if report is not None:
        lines = [json.dumps({"id": record_id, "error": error}) + "\n" for record_id, error in failed.items()]
        replace_file(report, "".join(lines).encode())
