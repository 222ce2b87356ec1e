"""The report file of `jclip index`: a JSON object for each file that was not indexed, or not as a whole."""

import json
from collections.abc import Sequence
from pathlib import Path

from jclip_connectors.indexing import BadFile, FileNote, LeftOut
from jclip_connectors.store_kit.files import replace_file


def write_report(path: Path, failed: Sequence[BadFile], left_out: Sequence[LeftOut], notes: Sequence[FileNote]) -> None:
    """Write the report: failed files with `error`, those left out with `left_out`, and indexed ones with `note`.

    Raises:
        OSError: the file cannot be written; an older report is unchanged.
    """
    entries = [{"path": bad.path, "error": bad.error} for bad in failed]
    entries += [{"path": item.path, "left_out": item.kind} for item in left_out]
    entries += [{"path": item.path, "note": item.text} for item in notes]
    replace_file(path, "".join(f"{json.dumps(entry)}\n" for entry in entries).encode())
