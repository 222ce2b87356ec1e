"""Where a loaded model came from: the folder of its files, and its commit."""

import re
from dataclasses import dataclass
from pathlib import Path

from core_encoder.errors import CheckpointError
from core_encoder.exported import EXPORT_FILE, EXPORT_FILES, read_export
from core_encoder.file_hash import file_hash
from core_encoder.logit_scale import read_logit_scale
from core_encoder.models import FILES, WEIGHTS_FILE, find_folder

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Origin:
    """The files that a model was loaded from.

    Attributes:
        folder: the folder of the files.
        revision: the commit of a hub model, or the revision of "nano"; `None` for a folder of the user.
        stats: for each file its size in bytes and its time of change in ns, just before it was loaded.
    """

    folder: Path
    revision: str | None
    stats: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, source: str | Path, folder: Path) -> "Origin":
        """Look at the files in `folder`, which is the folder of `source`, a hub id, a folder, or "nano"."""
        revision: str | None = None
        if source == "nano":
            from core_encoder.nano import REVISION

            revision = REVISION
        elif find_folder(source) is None and _COMMIT.fullmatch(folder.name):
            revision = folder.name  # the cache of the hub has a folder for each commit
        elif (exported := read_export(folder)) is not None:
            revision = exported.revision
        return cls(folder.resolve(), revision, _stats(folder))

    def is_unchanged(self) -> bool:
        """Whether the files are still those that were loaded."""
        try:
            return _stats(self.folder) == self.stats
        except OSError:
            return False

    def weights_hash(self) -> str:
        """The SHA-256 of the safetensors file of the weights: 64 hex digits.

        Raises:
            CheckpointError: the files have changed since they were loaded.
        """
        self._check_unchanged()
        exported = read_export(self.folder)
        return file_hash(self.folder / WEIGHTS_FILE) if exported is None else exported.weights_sha256

    def logit_scale(self) -> float | None:
        """The natural logarithm of the inverse temperature that the model was trained with.

        Returns:
            A finite number; `None` for a folder that an earlier version exported.

        Raises:
            CheckpointError: the files have changed since they were loaded, or the weights are damaged.
        """
        self._check_unchanged()
        exported = read_export(self.folder)
        return read_logit_scale(self.folder / WEIGHTS_FILE) if exported is None else exported.logit_scale

    def _check_unchanged(self) -> None:
        if not self.is_unchanged():
            raise CheckpointError(f"the files in {str(self.folder)!r} have changed since the model was loaded")


def _stats(folder: Path) -> tuple[tuple[int, int], ...]:
    names = EXPORT_FILES if (folder / EXPORT_FILE).is_file() else FILES
    stats = [(folder / name).stat() for name in names]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
