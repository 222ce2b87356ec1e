"""Records that a command could not carry to a collection: the first ones are named, and a file lists all."""

import json
from collections.abc import Mapping
from pathlib import Path

from jclip_connectors.cli import terminal
from jclip_connectors.store_kit.files import replace_file

_NAMED_FAILURES = 10


def say_records(failed: Mapping[str, str], report: Path | None) -> None:
    """Name some of the records, and write all of them to the report file, if there is one.

    Args:
        failed: why a record failed, by its id.
        report: the file.

    Raises:
        OSError: the file cannot be written.
    """
    for record_id, error in list(failed.items())[:_NAMED_FAILURES]:
        terminal.say(f"  {record_id}: {error}", style="red")
    if len(failed) > _NAMED_FAILURES:
        where = "--report FILE.jsonl lists all of them" if report is None else f"all of them are in {report}"
        terminal.say(f"  and {len(failed) - _NAMED_FAILURES} more; {where}")
    if report is not None:
        lines = [json.dumps({"id": record_id, "error": error}) + "\n" for record_id, error in failed.items()]
        replace_file(report, "".join(lines).encode())
