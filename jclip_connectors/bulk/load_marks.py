"""Which files of vectors a store has: a mark for each, beside them, in `_loaded/HASH_OF_STORE/`.

A mark's name is that of the file and of its version, so that a file that was written again is loaded again; its content
are the records that the store has refused.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit, urlunsplit

from jclip_connectors.bulk.vector_files import SUFFIX, VectorFolder

_FOLDER = "_loaded"
_REFUSED = ".refused"


class LoadMarks:
    """The marks of one store."""

    def __init__(self, folder: VectorFolder, store_name: str) -> None:
        """Read nothing.

        Args:
            folder: the files of vectors.
            store_name: what tells the store from others, such as its URL; what may be secret in a URL is left out.
        """
        self._folder = folder
        self._inside = f"{_FOLDER}/{hashlib.sha256(_without_secrets(store_name).encode()).hexdigest()[:16]}"

    @property
    def note(self) -> str:
        """The name of a file for what must be undone after a kill."""
        return f"{self._inside}.deferred.json"

    def todo(self, versions: Mapping[str, str], *, again: bool) -> list[str]:
        """The files that are not loaded, in their order.

        Args:
            versions: the version of each file.
            again: whether files with refused records are loaded again.
        """
        found = set(self._folder.names(self._inside))
        done = found if again else found | {name.removesuffix(_REFUSED) for name in found}
        return [name for name in sorted(versions) if _mark(name, versions[name]) not in done]

    def loaded(self, versions: Mapping[str, str]) -> list[str]:
        """The files that are loaded, and of which the store has refused nothing, in their order."""
        found = set(self._folder.names(self._inside))
        return [name for name in sorted(versions) if _mark(name, versions[name]) in found]

    def put(self, name: str, version: str, refused: Mapping[str, str]) -> None:
        """Note that a file is loaded.

        Args:
            name: of the file.
            version: of the file, before it was read.
            refused: why the store has refused a record, by id.
        """
        mark = f"{self._inside}/{_mark(name, version)}"
        lines = [json.dumps({"file": name, "id": record_id, "error": error}) for record_id, error in refused.items()]
        if refused:
            self._folder.put(mark + _REFUSED, ("\n".join(lines) + "\n").encode())
        else:
            self._folder.put(mark, b"")
            self._folder.remove(mark + _REFUSED)

    def refused(self, versions: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """What the store has refused: file, id and error of each record, in the order of the files."""
        wanted = {_mark(name, version) + _REFUSED for name, version in versions.items()}
        for name in self._folder.names(self._inside):
            if name in wanted:
                yield from map(json.loads, self._folder.read(f"{self._inside}/{name}").decode().splitlines())

    def clear(self) -> None:
        """Remove all marks."""
        for name in self._folder.names(self._inside):
            self._folder.remove(f"{self._inside}/{name}")


def _mark(name: str, version: str) -> str:
    return f"{name.removesuffix(SUFFIX)}.{version}"


def _without_secrets(store_name: str) -> str:
    """The name without credentials and options."""
    if "://" not in store_name:
        return store_name
    parts = urlsplit(store_name)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2].lower(), parts.path.rstrip("/"), "", ""))
