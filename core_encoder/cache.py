"""The folder for what can be made again: converted models, and the hashes of large files."""

import os
import sys
from pathlib import Path

from core_encoder.errors import ConfigError

VARIABLE = "JCLIP_CACHE_DIR"


def cache_folder() -> Path:
    """The folder that `JCLIP_CACHE_DIR` names, else the system's usual place for a user's caches; it may not exist.

    Raises:
        ConfigError: the user has no home folder, and the variable is not set.
    """
    try:
        return Path(os.environ.get(VARIABLE) or _usual_place()).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"there is no home folder for the cache: set {VARIABLE} to a folder") from error


def _usual_place() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")) / "jclip-connectors" / "Cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/jclip-connectors")
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "jclip-connectors"
