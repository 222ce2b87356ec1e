"""Which batch of a shard is being embedded: so a batch that kills its process is found, and left out."""

import json
from typing import Any

from jclip_connectors.bulk.vector_files import MARKER, TEMPORARY, VectorFolder

DIED = "the process died at this batch (killed or out of memory)"
_DEATHS = 2  # of a batch; at the third start it is left out


class BatchMarker:
    """A small file that says which batch is being embedded, so that one that kills its process is known."""

    def __init__(self, folder: VectorFolder, name: str) -> None:
        """Read what an earlier process has left.

        Args:
            folder: of the file of vectors.
            name: of the file of vectors.
        """
        self._folder, self._file, self._name = folder, name, f"{TEMPORARY}/{name}{MARKER}"
        self._deaths: dict[str, int] = {}
        self._is_ours = self._alone()  # else the marker is that of a process that lives
        if not self._is_ours:
            return
        try:
            found: Any = json.loads(folder.read(self._name))
        except (FileNotFoundError, ValueError):  # a machine that went down may leave an empty file
            return
        self._deaths = found["deaths"]
        self._deaths[found["at"]] = self._deaths.get(found["at"], 0) + 1

    def begin(self, start: int, end: int) -> bool:
        """Say that a batch begins; false if it has killed its process too often."""
        if not self._is_ours:
            return True
        at = f"{start}-{end}"
        if self._deaths.get(at, 0) >= _DEATHS:
            return False
        self._folder.put(self._name, json.dumps({"at": at, "deaths": self._deaths}).encode(), durable=False)
        return True

    def remove(self) -> None:
        """The process is alive: forget the batch."""
        if self._is_ours or self._alone():
            self._folder.remove(self._name)

    def _alone(self) -> bool:
        """Whether no other process is writing this file."""
        return self._folder.count_writers(self._file) <= 1
