"""Two folders of collections that change places: one takes the name, and the other one is kept under a third name.

photos.jclip             ->  photos.jclip-1111
photos.jclip-2222        ->  photos.jclip
.photos.jclip.swap           while that is going on: what is to be done, for the next run if this one is killed
"""

import json
import os
from pathlib import Path
from typing import Any

from jclip_connectors.edge.locks import folder_lock
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.store_kit.files import replace_file


def swap_folders(folder: Path, new: Path, kept: Path) -> None:
    """Give the name of a collection to another one beside it; the old one is kept under a third name.

    A process that is killed meanwhile leaves a note, with which `finish_swap` does the rest.

    Args:
        folder: the collection whose name it is; nobody may have it open for writing.
        new: the collection that gets the name.
        kept: the new name of the old one, which is free.

    Raises:
        StoreUnavailableError: a collection is open elsewhere.
        StoreRequestError: the third name is taken, or the folder cannot be renamed.
    """
    if os.path.lexists(kept):
        raise StoreRequestError(f"the old collection cannot be kept as {str(kept)!r}, which exists: move it away first")
    with folder_lock(folder), folder_lock(new):
        replace_file(_note(folder), json.dumps({"new": new.name, "kept": kept.name}).encode())
        _rename(folder, new, kept)


def finish_swap(folder: Path) -> None:
    """Do what is left of a swap that was interrupted, if there was one.

    Raises:
        StoreRequestError: the note about it is damaged, or the folder cannot be renamed.
    """
    note = _note(folder)
    try:
        values: Any = json.loads(note.read_bytes())
        new, kept = (folder.with_name(values[name]) for name in ("new", "kept"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreRequestError(
            f"{str(note)!r} is damaged: it says which folders were about to change places; look at them, and delete it"
        ) from error
    _rename(folder, new, kept)


def _rename(folder: Path, new: Path, kept: Path) -> None:
    try:
        if not os.path.lexists(kept):
            folder.rename(kept)
        if not os.path.lexists(folder):
            new.rename(folder)
    except OSError as error:
        if os.path.lexists(folder):
            _note(folder).unlink(missing_ok=True)  # nothing has been renamed
        raise StoreRequestError(f"{str(error.filename)!r} cannot be renamed: {error.strerror}") from error
    _note(folder).unlink(missing_ok=True)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.swap")
