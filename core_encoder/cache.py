"""The folder for what can be made again: converted models, and the hashes of large files."""

import os
import sys
from pathlib import Path

VARIABLE = "JCLIP_CACHE_DIR"


def cache_folder() -> Path:
    """The folder that `JCLIP_CACHE_DIR` names, else the system's usual place for a user's caches; it may not exist."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser() / "jclip-connectors" / "Cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/jclip-connectors").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jclip-connectors"
