"""The report file of `jclip index`: a JSON object for each file that was not indexed."""

import json
from collections.abc import Sequence
from pathlib import Path

from jclip_connectors.indexing import BadFile, LeftOut
from jclip_connectors.store_kit.files import replace_file


def write_report(path: Path, failed: Sequence[BadFile], left_out: Sequence[LeftOut]) -> None:
    """Write the report: failed files with `error`, and files and folders that were left out with `left_out`.

    Raises:
        OSError: the file cannot be written; an older report is unchanged.
    """
    entries = [{"path": bad.path, "error": bad.error} for bad in failed]
    entries += [{"path": item.path, "left_out": item.kind} for item in left_out]
    replace_file(path, "".join(f"{json.dumps(entry)}\n" for entry in entries).encode())
