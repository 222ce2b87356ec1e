"""Writing and deleting objects, so that the vector index has what is stored.

After `kill -9` of the server, its vector index can lack objects that are stored, also some whose write was
acknowledged. Writing the same vectors again is answered with success and does not bring them back; deleting and writing
does.
Source: seen on Weaviate 1.40.0-dev.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter as Condition
from weaviate.collections.classes.filters import FilterReturn

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.port import record_uuid
from jclip_connectors.store_kit.flows import Flow, Undoable
from jclip_connectors.weaviate.client_log import Watch, watched
from jclip_connectors.weaviate.definition import READ_ONLY

_DELETE_BATCH = 1000
_RECENT = 1000  # records; a crash took up to 220 of the last 995 from the vector index


class Writer:
    """Writes to one collection, and remembers which records the vector index may lack.

    Attributes:
        failed: ids of records whose write has failed; they are deleted before they are written again.
    """

    def __init__(self, name: str) -> None:
        """Name the collection."""
        self.failed: set[str] = set()
        self._name = name
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._doubtful: set[str] = set()

    def insert(self, objects: list[DataObject[Any, None]], ids: Sequence[str]) -> Flow[dict[int, str]]:
        """Write objects, which are deleted before a retry; returns the reason for each refused object, by position.

        Args:
            objects: the objects of one message.
            ids: the ids of their records.
        """
        watch, doomed = Watch(), _by_ids(ids)
        insert = watched(lambda client: self._in(client).data.insert_many(objects), watch)
        self.failed.update(ids)
        self._recent.extend(ids)
        try:
            answer = yield Undoable(insert, undo=lambda client: self._in(client).data.delete_many(where=doomed))
        except StoreUnavailableError:
            self._doubtful.update(self._recent)
            raise
        if watch.may_have_retried:
            self._doubtful.update(self._recent)
        refused = {position: error.message for position, error in answer.errors.items()}
        self.failed.difference_update(name for position, name in enumerate(ids) if position not in refused)
        return refused

    def take_doubtful(self) -> list[str]:
        """The ids of records that the vector index may lack since an outage; the caller verifies them."""
        taken, self._doubtful = list(self._doubtful), set()
        return taken

    def put_back_doubtful(self, ids: Iterable[str]) -> None:
        """Remember ids that could not be verified."""
        self._doubtful.update(ids)

    def delete_ids(self, ids: Sequence[str]) -> Flow[None]:
        """Delete records by id, in batches."""
        for start in range(0, len(ids), _DELETE_BATCH):
            yield from self.delete(_by_ids(ids[start : start + _DELETE_BATCH]))

    def delete(self, filters: FilterReturn) -> Flow[bool]:
        """Delete matching records, up to the limit of one call; returns whether any was deleted.

        Raises:
            StoreUnavailableError: the server accepts no writes.
            StoreRequestError: the server could not delete some records.
        """
        answer = yield lambda client: self._in(client).data.delete_many(where=filters)
        if not answer.failed:
            return bool(answer.successful)
        # A server that accepts no writes counts one failure for each shard, whatever the number of records.
        shards = yield lambda client: self._in(client).config.get_shards()
        if any(shard.status != "READY" for shard in shards):
            raise StoreUnavailableError(READ_ONLY)
        raise StoreRequestError(
            f"Weaviate could not delete all of {answer.matches} records ({answer.successful} are deleted): try again"
        )

    def _in(self, client: Any) -> Any:  # noqa: ANN401 (blocking or asyncio)
        return client.collections.use(self._name)


def _by_ids(ids: Sequence[str]) -> FilterReturn:
    return Condition.by_id().contains_any([record_uuid(record_id) for record_id in ids])
