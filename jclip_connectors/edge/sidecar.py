"""The sidecar: a file in the folder of a local collection with the fingerprint of its vectors."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import StoreRequestError
from jclip_connectors.store_kit.files import replace_file

SIDECAR_NAME = "collection.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The settings of a collection.

    Attributes:
        fingerprint: the fingerprint of the configuration.
        dimensions: length of the vectors; `None` until it is known.
        coarse_dimensions: length of the prefix that is searched first, or `None`.
    """

    fingerprint: Fingerprint
    dimensions: int | None
    coarse_dimensions: int | None


def read_sidecar(folder: Path) -> Sidecar | None:
    """Read the sidecar in `folder`; `None` if it does not exist.

    Raises:
        StoreRequestError: the sidecar is damaged, or another version made it.
    """
    path = folder / SIDECAR_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise StoreRequestError(
            f"cannot read {str(path)!r}: {reason}; restore it, or delete {str(folder)!r}"
        ) from error
    if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
        raise StoreRequestError(f"{str(path)!r} is not of format {_FORMAT}: another version made it; use that version")
    try:
        sidecar = Sidecar(**values)
    except TypeError as error:
        raise StoreRequestError(f"{str(path)!r} is damaged: {error}; restore it, or delete {str(folder)!r}") from error
    if not isinstance(sidecar.fingerprint, dict):
        raise StoreRequestError(f"{str(path)!r} is damaged: no fingerprint; restore it, or delete {str(folder)!r}")
    return sidecar


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Write the sidecar atomically: a crash leaves the old or the new file."""
    values = {"format": _FORMAT, **dataclasses.asdict(sidecar)}
    replace_file(folder / SIDECAR_NAME, json.dumps(values, indent=2).encode())
